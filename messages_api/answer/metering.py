"""What an answer reports: its usage, and why it stopped.

`Reading` holds this for streams and for answers in one piece. `JsonMeter`, here, fills it from an answer in one piece;
`StreamMeter`, in events.py, fills it event by event. What an answer binds to an account is in account_states.py.

With `usage.iterations` the top level of a usage report is not the bill: every entry is, each with its own model.
Source: recorded exchanges.

A model may refuse before it has written anything. Some providers don't bill that, so the reading notes what the blocks
of an answer say about it, and settlement.py prices it. docs/pricing.md has the rules and their sources.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from messages_api.answer.account_states import StateMeter, block_states, container_state, thread_state
from messages_api.answer.seen import Seen
from messages_api.answer.usage_reports import COUNTS, counts, is_plain, malformed, overlaid
from messages_api.json_text.lenient import integer, is_reported, mapping, text
from messages_api.json_text.outline import Elements, Members, decode
from usage.tokens import TokenCounts

# The members to read in a long answer with many parts; events.py has those of an event.
BLOCK = Members(
    type=None,
    text=None,
    thinking=None,
    partial_json=None,
    signature=None,
    data=None,
    name=None,
    input=None,
    to=None,
    trigger=None,
    content=Members(content=Elements(Members(file_id=None))),
)
END: dict[str, None] = dict.fromkeys(("stop_reason", "stop_details", "container"))
ANSWER = Members(id=None, type=None, model=None, error=None, usage=None, content=Elements(BLOCK), **END)
# The most iterations of one call that are billed.
ITERATIONS = 1000
# Steps of the conversation itself; the others are an advisor's, or summaries.
OWN_STEPS = ("message", "fallback_message")
# Output tokens that don't prove any output: AWS reports one in a refusal without content.
PLACEHOLDER = 1


@dataclass(slots=True)
class Iteration:
    """One sampling step of a call, or the sum of several, billed at the price of its model (empty: the answer's).

    Attributes:
        refusal: the category (empty: unknown) of a refusal before any output; None: no such refusal.
        unassigned_writes: cache writes that the provider assigns to neither five minutes nor an hour.
    """

    kind: str
    model: str
    counts: TokenCounts
    steps: int = 1
    refusal: str | None = None
    unassigned_writes: int = 0


@dataclass(frozen=True, slots=True)
class Declined:
    """A model that declined, after which another one answered. `wrote`: it had written something before."""

    category: str = ""
    wrote: bool = False


@dataclass(slots=True)
class Reading:
    """What was read of an answer up to now.

    Attributes:
        category: of a refusal, as the provider names it.
        wrote: the model that answers has written content: text, thinking or the use of a tool.
        declined: the models that declined before it, in order.
        content: the blocks of an answer in one piece, empty for a stream that has begun; None: it hasn't `begun`.
        doubtful: the provider reported something that can't be true.
        unread: seconds in which the provider went on writing and the gateway read nothing, because the client took
            nothing.
    """

    model: str = ""
    stop_reason: str = ""
    error_type: str = ""
    usage: dict[str, Any] = field(default_factory=dict)
    category: str = ""
    wrote: bool = False
    declined: list[Declined] = field(default_factory=list)
    content: list[Any] | None = None
    doubtful: bool = False
    unread: float = 0.0
    _seen: Seen | None = None

    @property
    def seen(self) -> Seen:
        """What was delivered. An answer in one piece is counted on first use, because few calls need it."""
        if self._seen is None:
            self._seen = Seen()
            for block in self.content or ():
                self._seen.note_block(mapping(block))
        return self._seen

    @property
    def begun(self) -> bool:
        """Whether anything of the answer was seen: its stream has begun, or it was read in one piece."""
        return self.content is not None

    def begin(self) -> None:
        """Note that a stream has begun."""
        if self.content is None:
            self.content = []

    def iterations(self, hour_writes: bool = False) -> list[Iteration]:
        """What is billed: each iteration, or else the top level of the report.

        Args:
            hour_writes: the request asked for cache writes of one hour; cache writes beyond the split count as those.
        """
        server_tools = mapping(self.usage.get("server_tool_use"))
        searches = integer(server_tools.get("web_search_requests"))
        thinking = integer(mapping(self.usage.get("output_tokens_details")).get("thinking_tokens"))
        listed = self.usage.get("iterations")
        if not isinstance(listed, list) or not listed:
            # Each use of a provider's tool is a step that read the prompt once more.
            steps = 1 + searches + integer(server_tools.get("web_fetch_requests"))
            used, left = counts(self.usage, hour_writes, thinking, searches)
            return [Iteration("message", "", used, steps, self.refusal, left)]
        billed = []
        entries = [mapping(entry) for entry in listed[:ITERATIONS]]
        for entry, refusal in zip(entries, self.refusals(entries), strict=True):
            kind, model = text(entry.get("type")), text(entry.get("model"))
            own = integer(mapping(entry.get("output_tokens_details")).get("thinking_tokens"))
            used, left = counts(entry, hour_writes, own)
            billed.append(Iteration(kind, model, used, 1, refusal, left))
        # Searches are reported for the call as a whole, and usually thinking too. They are added to the first step of
        # the conversation that wrote something.
        own_steps = [step for step in billed if step.kind in OWN_STEPS]
        first = next((step for step in own_steps if step.refusal is None), (own_steps or billed)[0])
        missing = max(0, thinking - sum(step.counts.thinking_tokens for step in billed))
        first.counts += TokenCounts(thinking_tokens=missing, web_search_requests=searches)
        return billed

    @property
    def refusal(self) -> str | None:
        """The category (empty: unknown) of a refusal before any output; None: no such refusal."""
        return self.category if self.stop_reason == "refusal" and not self.wrote else None

    def refusals(self, entries: list[dict[str, Any]]) -> Iterator[str | None]:
        """`Iteration.refusal` of each iteration.

        The steps before a `fallback_message` belong to models that declined, with one or more steps each; the steps
        after it belong to the answer itself. An answer in one piece leaves out what a model wrote before it declined,
        so its output tokens count as writing, too.
        https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback, read in November 2026
        """
        kinds = [text(entry.get("type")) for entry in entries]
        answering = kinds.index("fallback_message") if "fallback_message" in kinds else 0
        # For each of these steps, the number of its model among those that declined.
        turns: dict[int, int] = {}
        wrote, number, before = set[int](), -1, ""
        for at in (at for at in range(answering) if kinds[at] in OWN_STEPS):
            model = text(entries[at].get("model"))
            number += number < 0 or not model or model != before
            turns[at], before = number, model
            if integer(entries[at].get("output_tokens")) > PLACEHOLDER:
                wrote.add(number)
        for at, kind in enumerate(kinds):
            if kind not in OWN_STEPS:
                yield None
            elif at not in turns:
                yield self.refusal
            else:
                turn = turns[at]
                declined = self.declined[turn] if turn < len(self.declined) else Declined()
                yield None if declined.wrote or turn in wrote else declined.category

    def note_block(self, block: object) -> None:
        """Note that a content block is output, or that another model takes over with it.

        Thinking is output even if it is empty, because a model may write it without showing it.
        """
        members = mapping(block)
        kind = members.get("type")
        if kind == "fallback":
            if len(self.declined) < ITERATIONS:
                category = text(mapping(members.get("trigger")).get("category"))
                self.declined.append(Declined(category, self.wrote))
            self.wrote = False
        elif kind == "text" or "text" in members:
            self.wrote = self.wrote or bool(members.get("text"))
        elif members:
            self.wrote = True

    def note_end(self, members: dict[str, Any]) -> None:
        """Note why the answer ends, if these members say so: a later event may leave it out."""
        self.stop_reason = text(members.get("stop_reason")) or self.stop_reason
        self.category = text(mapping(members.get("stop_details")).get("category")) or self.category

    @property
    def countable(self) -> bool:
        """Whether the usage can be billed as reported: it has input and output, every count is a number of tokens, and
        it isn't the gateway's own estimate for a provider that reported nothing (providers/openai)."""
        if is_plain(self.usage):
            return self.usage.get("input_tokens") is not None and self.usage.get("output_tokens") is not None
        entries = self.usage.get("iterations") or []
        return (
            "estimated" not in self.usage
            and all(is_reported(self.usage.get(name)) for name in ("input_tokens", "output_tokens"))
            and isinstance(entries, list)
            and all(
                is_reported(usage[name])
                for usage in (self.usage, *map(mapping, entries))
                for name in COUNTS
                if usage.get(name) is not None
            )
        )

    @property
    def service_tier(self) -> str:
        """The tier that answered, in the provider's own word if that differs from Anthropic's (providers/openai)."""
        return text(self.usage.get("provider_service_tier") or self.usage.get("service_tier"))

    @property
    def speed(self) -> str:
        return text(self.usage.get("speed"))

    @property
    def inference_geo(self) -> str:
        return text(self.usage.get("inference_geo"))

    def overlay(self, usage: object) -> None:
        """Lay a later report over the usage."""
        if not usage:  # the usual end of a stream
            return
        self.doubtful = self.doubtful or malformed(usage)
        self.usage = overlaid(self.usage, usage)


class JsonMeter(StateMeter):
    """Reads an answer in one piece."""

    def __init__(self, *, threaded: bool = False) -> None:
        super().__init__(threaded=threaded)
        self.reading = Reading()

    def read(self, body: bytes) -> bool:
        """Read the body. False: it isn't a JSON object."""
        answer = decode(body, ANSWER)
        if not isinstance(answer, dict):
            return False
        self.reading.model = text(answer.get("model"))
        self.reading.note_end(answer)
        self.reading.error_type = text(mapping(answer.get("error")).get("type"))
        self.reading.overlay(answer.get("usage"))
        self.bind(container_state(answer.get("container")))
        if self.threaded:
            self.bind(thread_state(answer))
        content = answer.get("content")
        self.reading.content = content if isinstance(content, list) else []
        for block in self.reading.content:
            self.bind(block_states(block))
            self.reading.note_block(block)
        return True
