"""What a provider reports of tokens: the counts in a usage object, and what several reports of one call come to.

Anthropic's reports are cumulative: a later one takes the place of an earlier one, null changes nothing
(https://platform.claude.com/docs/en/build-with-claude/streaming, read in November 2026). Vendors that speak its API
report zeros, empty objects or less in a later event: that never lowers what was read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from messages_api.lenient import integer, is_reported, mapping
from usage.tokens import TokenCounts

# What a model read; a prompt is their sum.
READ = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
COUNTS = (*READ, "output_tokens")
# Objects of counts within a report.
NESTED = ("cache_creation", "server_tool_use", "output_tokens_details")
# Their counts that are billed.
NESTED_COUNTS = ("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "web_search_requests", "thinking_tokens")
# Members of a report, or of an object in it, that are kept at most: a stream may bring new ones without end.
MEMBERS = 100

Pick = Callable[[object, object], object]


def counts(usage: dict[str, Any], hour_writes: bool, thinking: int = 0, searches: int = 0) -> TokenCounts:
    """Token counts of a usage object.

    Args:
        hour_writes: cache writes beyond the reported split are kept for an hour, not for five minutes.
    """
    split = mapping(usage.get("cache_creation"))
    five, hour = integer(split.get("ephemeral_5m_input_tokens")), integer(split.get("ephemeral_1h_input_tokens"))
    left = writes_beyond_split(usage)
    return TokenCounts(
        input_tokens=integer(usage.get("input_tokens")),
        output_tokens=integer(usage.get("output_tokens")),
        thinking_tokens=thinking,
        cache_read_input_tokens=integer(usage.get("cache_read_input_tokens")),
        cache_creation_5m_input_tokens=five + (0 if hour_writes else left),
        cache_creation_1h_input_tokens=hour + (left if hour_writes else 0),
        web_search_requests=searches,
    )


def writes_beyond_split(usage: dict[str, Any]) -> int:
    """The cache writes that a usage object doesn't assign to five minutes or an hour."""
    split = mapping(usage.get("cache_creation"))
    assigned = sum(integer(split.get(f"ephemeral_{ttl}_input_tokens")) for ttl in ("5m", "1h"))
    return max(0, integer(usage.get("cache_creation_input_tokens")) - assigned)


def overlaid(known: dict[str, Any], later: object) -> dict[str, Any]:
    """A report with a later one laid over it.

    A positive count takes the place of an earlier one as long as the whole prompt gets no shorter; where it would, each
    count stays at its largest. So a vendor may divide its prompt anew (first all of it as input, then a part as read
    from a cache), and none can take back what was read.
    """
    said = mapping(later)
    newest = merged(known, said, positive)
    if prompt_tokens(newest) < prompt_tokens(known):
        return merged(known, said, largest)
    return newest


def merged(known: dict[str, Any], said: dict[str, Any], pick: Pick) -> dict[str, Any]:
    """Both reports in one; of two counts of what was read, `pick` chooses."""
    result = dict(known)
    for name, value in said.items():
        old = known.get(name)
        if value is None or value == "" or (name not in known and len(result) >= MEMBERS):
            continue
        if name in NESTED:
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
    """Both objects of counts in one: of two counts, the larger."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new if isinstance(new, dict) or not old else old
    result = dict(old)
    for name, value in new.items():
        if value is not None and (name in old or len(result) < MEMBERS):
            result[name] = largest(old.get(name), value)
    return result


def longer(old: object, new: object) -> object:
    """The list of iterations that says more of what was read, the newer one if both say as much; None for a list that
    says nothing."""
    if isinstance(new, list) and not any(mapping(entry).get(name) for entry in new for name in COUNTS):
        return old
    if isinstance(old, list) and (not isinstance(new, list) or total(new) < total(old)):
        return old
    return new


def total(entries: list[Any]) -> int:
    return sum(prompt_tokens(mapping(entry)) for entry in entries)


def prompt_tokens(usage: dict[str, Any]) -> int:
    """All that was read, as far as a usage object counts it."""
    return counts(usage, hour_writes=False).prompt_tokens


def malformed(usage: object) -> bool:
    """Whether something in a report stands where a count does, and is none: negative, a fraction, a text; or did, where
    it was translated (providers/openai)."""
    told = mapping(usage)
    entries = told.get("iterations")
    reports = [told, *map(mapping, entries)] if isinstance(entries, list) else [told]
    parts = [mapping(one.get(name)) for one in reports for name in NESTED if name in one]
    return "doubtful" in told or any(
        value is not None and value != "" and not is_reported(value)
        for of, names in ((reports, COUNTS), (parts, NESTED_COUNTS))
        for one in of
        for value in map(one.get, names)
    )


def positive(old: object, new: object) -> object:
    """The newer count, but for a zero, or what is no count, in the place of a positive one."""
    return old if integer(old) and not (is_reported(new) and new) else new


def largest(old: object, new: object) -> object:
    """The larger count; what is no count takes no positive one's place."""
    newer = positive(old, new)
    return old if integer(old) > integer(newer) else newer
