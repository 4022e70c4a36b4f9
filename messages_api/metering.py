"""Reading along the bytes of an answer: what it cost, why it stopped, what it binds, and where an event ends.

Facts about Anthropic's stream: the first usage comes in `message_start`; each `message_delta.usage` overlays it with
cumulative counts (replace, never add; null changes nothing); the split of cache writes by time to live comes only in
`message_start`. With `usage.iterations` the top level is not the bill: every entry is, each with its own model.
Source: https://docs.claude.com/en/docs/build-with-claude/streaming and recorded exchanges.

A model may refuse before it has written anything, which costs nothing at some providers: what an answer's blocks say of
that is noted here, and priced in settlement.py. docs/pricing.md has the rules and their sources.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from messages_api.lenient import integer, is_reported, mapping, text
from messages_api.outline import Elements, Members, decode
from messages_api.seen import Seen
from messages_api.usage_reports import COUNTS, counts, malformed, overlaid, writes_beyond_split
from usage.tokens import TokenCounts

# What is read of an answer, and of an event, that is long and has many parts.
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
ANSWER = Members(type=None, model=None, error=None, usage=None, content=Elements(BLOCK), **END)
# Iterations of one call that are billed each by itself, at most.
ITERATIONS = 1000
# Those that are a step of the conversation's own; another is an advisor's, or a summary.
OWN_STEPS = ("message", "fallback_message")
# Output tokens that say nothing: AWS shows one in a refusal without content.
PLACEHOLDER = 1

StateKind = Literal["container", "file", "signature"]


@dataclass(frozen=True, slots=True)
class State:
    """Something in an answer that only the account which gave it understands.

    `name` is the id of a container or file, or the signature (or sealed thought) itself; `expires_at` is the
    provider's word, for a container.
    """

    kind: StateKind
    name: str
    expires_at: str = ""


def container_state(container: object) -> Iterator[State]:
    """The container that an answer names, if it does."""
    told = mapping(container)
    if isinstance(name := told.get("id"), str) and name:
        expires_at = told.get("expires_at")
        yield State("container", name, expires_at if isinstance(expires_at, str) else "")


def block_states(block: object) -> Iterator[State]:
    """What a content block binds: thinking by its signature, or files that a tool of the provider's made."""
    members = mapping(block)
    kind = members.get("type")
    if kind == "thinking" or kind == "redacted_thinking":
        name = members.get("signature" if kind == "thinking" else "data")
        if isinstance(name, str) and name:
            yield State("signature", name)
    elif isinstance(kind, str) and kind.endswith("code_execution_tool_result"):
        outputs = mapping(members.get("content")).get("content")
        for output in outputs if isinstance(outputs, list) else ():
            name = mapping(output).get("file_id")
            if isinstance(name, str) and name:
                yield State("file", name)


@dataclass(slots=True)
class Iteration:
    """One sampling step of a call, billed by its own model (empty: the answer's), or the sum of several.

    Attributes:
        refusal: the category (empty: unknown) of a refusal before any output; None: the answer was not refused.
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
    """A model that declined, and in whose place another one answered; whether it had written something before."""

    category: str = ""
    wrote: bool = False


@dataclass(slots=True)
class Reading:
    """What was read of an answer so far.

    Attributes:
        category: of a refusal, as the provider names it.
        wrote: there is content: text, thinking or the use of a tool, by the model that answers.
        declined: the models before that one, in order.
        content: the blocks of an answer in one piece, none of a stream that has begun; None: nothing of it was seen.
        doubtful: something was reported that can't be true.
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
    _seen: Seen | None = None

    @property
    def seen(self) -> Seen:
        """What was seen of it. An answer in one piece is looked through when somebody asks, which is seldom."""
        if self._seen is None:
            self._seen = Seen()
            for block in self.content or ():
                self._seen.note_block(mapping(block))
        return self._seen

    def iterations(self, hour_writes: bool = False) -> list[Iteration]:
        """What is to be billed: each iteration, or else the top level.

        Args:
            hour_writes: the request asked for cache writes of one hour; what the split leaves over is one of those.
        """
        server_tools = mapping(self.usage.get("server_tool_use"))
        searches = integer(server_tools.get("web_search_requests"))
        thinking = integer(mapping(self.usage.get("output_tokens_details")).get("thinking_tokens"))
        listed = self.usage.get("iterations")
        if not isinstance(listed, list) or not listed:
            # Each use of a server's tool is a step, which read the prompt once more.
            steps = 1 + searches + integer(server_tools.get("web_fetch_requests"))
            used = counts(self.usage, hour_writes, thinking, searches)
            return [Iteration("message", "", used, steps, self.refusal, writes_beyond_split(self.usage))]
        billed = []
        entries = [mapping(entry) for entry in listed[:ITERATIONS]]
        for entry, refusal in zip(entries, self.refusals(entries), strict=True):
            kind, model = text(entry.get("type")), text(entry.get("model"))
            own = integer(mapping(entry.get("output_tokens_details")).get("thinking_tokens"))
            used = counts(entry, hour_writes, own)
            billed.append(Iteration(kind, model, used, 1, refusal, writes_beyond_split(entry)))
        # Searches are told of the call as a whole, thinking as a rule too: they go with the first step of its own that
        # wrote something.
        own_steps = [step for step in billed if step.kind in OWN_STEPS]
        first = next((step for step in own_steps if step.refusal is None), (own_steps or billed)[0])
        missing = max(0, thinking - sum(step.counts.thinking_tokens for step in billed))
        first.counts += TokenCounts(thinking_tokens=missing, web_search_requests=searches)
        return billed

    @property
    def refusal(self) -> str | None:
        """The category (empty: unknown) of a refusal before any output; None: the answer is none."""
        return self.category if self.stop_reason == "refusal" and not self.wrote else None

    def refusals(self, entries: list[dict[str, Any]]) -> Iterator[str | None]:
        """`Iteration.refusal` of each iteration.

        The steps before a `fallback_message` are of models that declined, each of which may have made several; the rest
        is what the answer itself is about. An answer in one piece leaves out what a model wrote before it declined, so
        its tokens count, too.
        https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback, read in November 2026
        """
        kinds = [text(entry.get("type")) for entry in entries]
        answering = kinds.index("fallback_message") if "fallback_message" in kinds else 0
        # The model that each of these steps is of, by its number.
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
        """Note what a content block says of who wrote something: that there is content, or that another model takes
        over. Thinking is content even where it is empty, for it may be written and not shown."""
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
        """Note why the answer ends, where that is said: a later event may leave it out."""
        self.stop_reason = text(members.get("stop_reason")) or self.stop_reason
        self.category = text(mapping(members.get("stop_details")).get("category")) or self.category

    @property
    def countable(self) -> bool:
        """Whether the usage can be billed as it was reported: input and output are there, every count is one, and it is
        no estimate of ours (providers/openai), for a provider that reported none."""
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
        """The tier that answered, in its provider's own word where that is another (providers/openai)."""
        return text(self.usage.get("provider_service_tier") or self.usage.get("service_tier"))

    @property
    def speed(self) -> str:
        return text(self.usage.get("speed"))

    @property
    def inference_geo(self) -> str:
        return text(self.usage.get("inference_geo"))

    def overlay(self, usage: object) -> None:
        """Take over a later report."""
        self.doubtful = self.doubtful or malformed(usage)
        self.usage = overlaid(self.usage, usage)


class JsonMeter:
    """Reads a whole JSON answer. `states` is what it binds."""

    def __init__(self) -> None:
        self.reading = Reading()
        self.states: list[State] = []

    def read(self, body: bytes) -> bool:
        """Take in the body; whether it was a JSON object."""
        answer = decode(body, ANSWER)
        if not isinstance(answer, dict):
            return False
        self.reading.model = text(answer.get("model"))
        self.reading.note_end(answer)
        self.reading.error_type = text(mapping(answer.get("error")).get("type"))
        self.reading.overlay(answer.get("usage"))
        self.states.extend(container_state(answer.get("container")))
        content = answer.get("content")
        self.reading.content = content if isinstance(content, list) else []
        for block in self.reading.content:
            self.states.extend(block_states(block))
            self.reading.note_block(block)
        return True
