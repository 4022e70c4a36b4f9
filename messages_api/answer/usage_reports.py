"""What a provider reports about tokens: the counts in a usage object, and how several reports of one call are merged.

Anthropic's reports are cumulative: a later one replaces an earlier one, null changes nothing
(https://platform.claude.com/docs/en/build-with-claude/streaming, read in November 2026). Some vendors that speak its
API report zeros, empty objects or less in a later event: that never lowers the counts that were read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from messages_api.json_text.lenient import integer, is_reported, mapping
from usage.tokens import TokenCounts

# Tokens that a model read; the prompt is their sum.
CACHED = ("cache_read_input_tokens", "cache_creation_input_tokens")
READ = ("input_tokens", *CACHED)
COUNTS = (*READ, "output_tokens")
# Objects in a report that hold counts.
SPLIT = "cache_creation"
NESTED = (SPLIT, "server_tool_use", "output_tokens_details")
# The counts in the split of cache writes, and all billed counts in these objects.
DURATIONS = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens")
NESTED_COUNTS = (*DURATIONS, "web_search_requests", "thinking_tokens")
# Maximum number of members that are kept of a report, or of an object in it: a stream may send new ones without end.
MEMBERS = 100

# Members of a report that say more than counts: see `malformed`, and `Reading.countable`.
REMARKS = ("iterations", "doubtful", "estimated")

Pick = Callable[[object, object], object]


def is_plain(report: dict[str, Any]) -> bool:
    """Whether a report has nothing but counts, as nearly all have: then no value of it needs a closer look. A call asks
    three times."""
    for name in COUNTS:
        value = report.get(name)
        if value is not None and not (type(value) is int and 0 <= value < 1 << 53):
            return False
    for name in NESTED:
        part = report.get(name)
        if part is None:
            continue
        if type(part) is not dict:
            return False
        for value in part.values():
            if value is not None and not (type(value) is int and 0 <= value < 1 << 53):
                return False
    return not any(map(report.__contains__, REMARKS))


def counts(usage: dict[str, Any], hour_writes: bool, thinking: int = 0, searches: int = 0) -> tuple[TokenCounts, int]:
    """Token counts of a usage object, and the cache writes in it that it assigns to neither five minutes nor an hour.

    Args:
        hour_writes: these cache writes count as kept for an hour, not for five minutes.
    """
    five, hour = durations(mapping(usage.get(SPLIT)))
    written = integer(usage.get("cache_creation_input_tokens"))
    left = max(0, written - five - hour)
    if max(five, hour) <= written < five + hour:
        five = written - hour  # the same writes under both durations: the dearer one counts
    found = TokenCounts(
        input_tokens=integer(usage.get("input_tokens")),
        output_tokens=integer(usage.get("output_tokens")),
        thinking_tokens=thinking,
        cache_read_input_tokens=integer(usage.get("cache_read_input_tokens")),
        cache_creation_5m_input_tokens=five + (0 if hour_writes else left),
        cache_creation_1h_input_tokens=hour + (left if hour_writes else 0),
        web_search_requests=searches,
    )
    return found, left


def overlaid(known: dict[str, Any], later: object) -> dict[str, Any]:
    """A report with a later one laid over it.

    A positive count replaces an earlier one unless this makes the whole prompt shorter. So a vendor may redistribute
    its prompt (first all of it as input, then a part as read from a cache), but can't take back what was read: if only
    its input got shorter, the prompt keeps its length, or else each count stays at its largest. Some vendors estimate
    the length at first, and what they later say was cached must not be added to that
    (https://github.com/maximhq/bifrost/issues/5354 and 5510, July 2026).
    """
    reported = mapping(later)
    if not known and "iterations" not in reported and len(reported) <= MEMBERS:  # the usual case: nothing to compare
        return {name: value for name, value in reported.items() if value is not None and value != ""}
    newest = merged(known, reported, positive)
    missing = prompt_tokens(known) - prompt_tokens(newest) if known else 0
    if missing <= 0:
        return newest
    if any(integer(newest.get(name)) < integer(known.get(name)) for name in CACHED):
        return merged(known, reported, largest)
    return newest | {"input_tokens": integer(newest.get("input_tokens")) + missing}


def merged(known: dict[str, Any], later: dict[str, Any], pick: Pick) -> dict[str, Any]:
    """Both reports in one. `pick` chooses between two counts of tokens that were read."""
    result = dict(known)
    for name, value in later.items():
        old = known.get(name)
        if value is None or value == "" or (name not in known and len(result) >= MEMBERS):
            continue
        if name == SPLIT:
            value = within_writes(merged_counts(old, value), known, later)
        elif name in NESTED:
            value = merged_counts(old, value)
        elif name == "iterations":
            value = longer(old, value)
        elif name in READ:
            value = pick(old, value)
        elif name == "output_tokens":
            value = largest(old, value)
        result[name] = value
    return result


def merged_counts(old: object, new: object) -> object:
    """Both objects in one, with the larger of two counts."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new if isinstance(new, dict) or not old else old
    result = dict(old)
    for name, value in new.items():
        if value is not None and (name in old or len(result) < MEMBERS):
            result[name] = largest(old.get(name), value)
    return result


def longer(old: object, new: object) -> object:
    """The list of iterations with the longer prompts, or the newer one if both are equal. A list without any count
    never replaces the old value."""
    if isinstance(new, list) and not any(mapping(entry).get(name) for entry in new for name in COUNTS):
        return old
    if isinstance(old, list) and (not isinstance(new, list) or total(new) < total(old)):
        return old
    return new


def total(entries: list[Any]) -> int:
    return sum(prompt_tokens(mapping(entry)) for entry in entries)


def within_writes(split: object, *reports: dict[str, Any]) -> object:
    """The split of cache writes of both reports in one, as long as the longer of them at most. Some vendors assign all
    writes to one duration first, and then to the other one: the dearer one counts.

    https://github.com/Wei-Shaw/sub2api/issues/6125 (August 2026)
    """
    most = max(map(written_tokens, reports))
    if not isinstance(split, dict) or sum(durations(split)) <= most:
        return split
    return split | {DURATIONS[0]: max(0, most - durations(split)[1])}


def durations(split: dict[str, Any]) -> tuple[int, int]:
    """The cache writes for five minutes and for an hour in a split."""
    return integer(split.get(DURATIONS[0])), integer(split.get(DURATIONS[1]))


def written_tokens(usage: dict[str, Any]) -> int:
    """The cache writes of a usage object, of both durations."""
    return max(sum(durations(mapping(usage.get(SPLIT)))), integer(usage.get("cache_creation_input_tokens")))


def prompt_tokens(usage: dict[str, Any]) -> int:
    """The length of the prompt by a usage object."""
    return integer(usage.get("input_tokens")) + integer(usage.get("cache_read_input_tokens")) + written_tokens(usage)


def malformed(usage: object) -> bool:
    """Whether a report has a value that isn't a count: a negative number, a fraction, a text. A translated report
    says so by its member `doubtful` (providers/openai)."""
    report = mapping(usage)
    if is_plain(report):
        return False
    entries = report.get("iterations")
    reports = [report, *map(mapping, entries)] if isinstance(entries, list) else [report]
    parts = [mapping(one.get(name)) for one in reports for name in NESTED if name in one]
    return "doubtful" in report or any(
        value is not None and value != "" and not is_reported(value)
        for of, names in ((reports, COUNTS), (parts, NESTED_COUNTS))
        for one in of
        for value in map(one.get, names)
    )


def positive(old: object, new: object) -> object:
    """The newer count, unless the older one is positive and the newer one is zero or invalid."""
    return old if integer(old) and not (is_reported(new) and new) else new


def largest(old: object, new: object) -> object:
    """The larger count; an invalid one never replaces a positive one."""
    newer = positive(old, new)
    return old if integer(old) > integer(newer) else newer
