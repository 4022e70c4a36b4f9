"""A chat completion, or a chunk of one: read by its types, and put in Anthropic's terms. Pure.

Providers differ in everything beyond OpenAI's own API: thinking comes as `reasoning`, `reasoning_content`, in
`reasoning_details` or as parts of the content, cached tokens under four names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from messages_api.answer.seen import BYTES_PER_TOKEN
from messages_api.json_text.lenient import is_count, mapping
from messages_api.json_text.outline import Elements, Members, Outline, is_many
from messages_api.providers.openai import endings
from messages_api.providers.openai.endings import BROKEN, REASONS
from messages_api.providers.openai.halves import cleaned
from messages_api.providers.openai.thoughts import Kind

# Service tiers in Anthropic's terms: standard, priority and batch. OpenAI renamed `priority` to `fast` on 30 July 2026
# (https://openai.com/api-fast-mode/); Groq's usual one is `on_demand`.
TIERS = {
    "default": "standard",
    "standard": "standard",
    "on_demand": "standard",
    "priority": "priority",
    "fast": "priority",
    "batch": "batch",
}
TIER_LENGTH = 40
# The members that may contain an error.
ERROR = ("error", "errors", "message", "msg", "detail", "code", "status", "type")
# A number of tokens in a string.
NUMBER = re.compile(r"[0-9]{1,15}")


class Nothing(ValueError):
    """The answer ended before it began."""


class Function(Struct, gc=False):
    """The called tool, and its arguments: JSON in a string, or a part of it."""

    name: Any = None
    arguments: Any = None


class ToolCall(Struct, gc=False):
    """A tool call, or a fragment of one."""

    index: Any = None
    id: Any = None
    function: Function | None = None


class Delta(Struct, gc=False):
    """The model's message, or a part of it."""

    content: Any = None
    refusal: Any = None
    reasoning: Any = None
    reasoning_content: Any = None
    reasoning_details: Any = None
    thinking: Any = None
    thinking_blocks: Any = None
    tool_calls: list[ToolCall] | None = None
    function_call: Function | None = None
    audio: Any = None
    extra_content: Any = None


class Choice(Struct, gc=False):
    """An answer; a completion has only one. vLLM names the stop sequence in `stop_reason`, OpenRouter a failure in
    `error`; Google once said `finishReason` (https://github.com/jakobdylanc/llmcord/issues/84, December 2024)."""

    index: Any = None
    error: Any = None
    delta: Delta | None = None
    message: Delta | None = None
    finish_reason: Any = None
    finishReason: Any = None
    stop_reason: Any = None
    native_finish_reason: Any = None
    usage: Any = None


class Completion(Struct, gc=False):
    """A completion or a chunk. Groq reports usage in `x_groq`; vLLM, Mistral and FastAPI have errors in `message` or
    `detail`, without an `error` around them, MiniMax in `base_resp`."""

    id: Any = None
    model: Any = None
    choices: list[Choice] | None = None
    usage: Any = None
    error: Any = None
    message: Any = None
    msg: Any = None
    detail: Any = None
    errors: Any = None
    code: Any = None
    status: Any = None
    type: Any = None
    service_tier: Any = None
    x_groq: Any = None
    base_resp: Any = None


_decode = msgspec.json.Decoder(Completion).decode
# The outline of a completion that is long and has many parts: all members of the types above.
FUNCTION = Members(**dict.fromkeys(Function.__struct_fields__))
TOOL_CALL = Members(**dict.fromkeys(ToolCall.__struct_fields__) | {"function": FUNCTION})
DELTA = Members(
    **dict.fromkeys(Delta.__struct_fields__) | {"tool_calls": Elements(TOOL_CALL), "function_call": FUNCTION}
)
CHOICE = Members(**dict.fromkeys(Choice.__struct_fields__) | {"delta": DELTA, "message": DELTA})
COMPLETION = Members(**dict.fromkeys(Completion.__struct_fields__) | {"choices": Elements(CHOICE)})


def read(data: bytes) -> Completion:
    """Decode a completion; invalid characters are replaced, except for halves of characters in its texts (halves.py).

    Raises:
        ValueError: it isn't a completion, or has too many parts to be read while other calls wait.
    """
    try:
        if is_many(data):
            outline = Outline()
            found = outline.read(data, COMPLETION)
            if found is None or not outline.whole:
                raise ValueError("more parts than can be read")
            return msgspec.convert(found, Completion)
        try:
            return _decode(data)
        except ValueError:
            # Servers in Python write NaN and Infinity (for log probabilities), which JSON doesn't have.
            value = json.loads(data.decode("utf-8", "replace"), parse_constant=lambda _: None)
            # Google sends an error in a list.
            value = value[0] if isinstance(value, list) and len(value) == 1 and "error" in mapping(value[0]) else value
            return msgspec.convert(cleaned(value), Completion)
    except RecursionError:
        raise ValueError("nested too deep") from None


def error(read: Completion) -> dict[str, Any] | None:
    """The error that a completion or chunk contains, with all its members; None: it contains none."""
    found = {name: value for name in ERROR if (value := getattr(read, name))}
    if read.error or read.errors or (read.choices is None and found.keys() & {"message", "msg", "detail"}):
        return found
    if not read.choices and mapping(read.base_resp).get("status_code"):
        return found | {"base_resp": read.base_resp}
    choice = read.choices[0] if read.choices else None
    if choice is not None and choice.error and not any(said_by(choice)):
        return {"error": choice.error}
    return None


def said_by(choice: Choice) -> Iterator[object]:
    """All texts and tool calls of a choice."""
    if (delta := choice.delta or choice.message) is not None:
        yield from said(delta)
        yield from calls(delta)


def broke(choice: Choice) -> Any:
    """The failure that an answer ended with; None: it didn't fail."""
    ended = finish(choice)
    return choice.error or ({"code": ended} if ended in BROKEN else None)


def finish(choice: Choice) -> str:
    """The provider's reason for the end; empty: the answer goes on (or the provider gives no reason)."""
    return endings.word(choice.finish_reason or choice.finishReason)


def is_plain_stop(choice: Choice) -> bool:
    """Whether the provider gives no other reason for the end than that the model stopped."""
    return REASONS.get(finish(choice)) == "end_turn"


def said(delta: Delta) -> Iterator[tuple[Kind, str]]:
    """The model's thinking and text, in order."""
    if (
        (thought := words(delta.reasoning_content))
        or (thought := words(delta.reasoning))
        or (thought := words(delta.reasoning_details))
        or (thought := words(delta.thinking))
        or (thought := words(delta.thinking_blocks))
    ):
        yield "thinking", thought
    content = [delta.content] if isinstance(delta.content, dict) else delta.content
    if isinstance(content, str):
        if content:
            yield ("marked" if is_marked(delta) else "text"), content
    elif isinstance(content, list):
        for each in content:
            part = {"text": each} if isinstance(each, str) else mapping(each)
            kind: Kind = "thinking" if part.get("type") in ("thinking", "reasoning") else "text"
            if text := words(part.get(kind)) or (words(part.get("summary")) if kind == "thinking" else ""):
                yield kind, text
    if not content and (spoken := words(mapping(delta.audio).get("transcript"))):
        yield "text", spoken
    if isinstance(delta.refusal, str) and delta.refusal:
        yield "text", delta.refusal


def words(value: Any) -> str:
    """A text, or the texts in a part or a list of parts."""
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else [value]
    return "".join(each if isinstance(each, str) else text_of(mapping(each)) for each in parts)


def text_of(part: dict[str, Any]) -> str:
    """The text of a part, under the first of its names that has one."""
    texts = (part.get(name) for name in ("text", "thinking", "summary", "content"))
    return next((text for text in texts if isinstance(text, str) and text), "")


def is_marked(delta: Delta) -> bool:
    """Whether the content is marked as thinking (Gemini, at Google's AI Studio and Vertex AI). Gemini marks some
    answers, too: marked content with nothing else beside it is text (thoughts.py)."""
    about = mapping(delta.extra_content).values() if delta.extra_content is not None else ()
    return any(mapping(one).get("thought") is True for one in about)


def calls(delta: Delta) -> Sequence[ToolCall]:
    """The tool calls, or their fragments. The old `function_call` is a single call."""
    if delta.tool_calls:
        return [call for call in delta.tool_calls if call.id or names(call) or arguments(call.function)]
    if delta.function_call is not None and (delta.function_call.name or delta.function_call.arguments):
        return (ToolCall(0, None, delta.function_call),)
    return ()


def names(call: ToolCall) -> bool:
    """Whether a call, or its fragment, names the tool."""
    return call.function is not None and bool(call.function.name)


def arguments(function: Function | None) -> str:
    """The arguments as JSON, or a fragment of it."""
    given = function.arguments if function is not None else None
    if isinstance(given, str):
        return given
    return "" if given is None else msgspec.json.encode(given).decode()


def stop(
    choice: Choice, stops: Sequence[str], *, called: bool, refused: bool, cut: bool = False
) -> tuple[str, str | None]:
    """Why the model stopped, and at which sequence. Most providers don't say that it stopped at one.

    Args:
        stops: the sequences in the request.
        called: the model called a tool; some providers say `stop` for that.
        cut: the input of a tool ends in the middle. Some providers say `tool_calls` for that, or nothing
            (https://github.com/vllm-project/vllm/issues/58228, September 2026), and clients would use the tool.
    """
    if refused:
        return "refusal", None
    reason = REASONS.get(finish(choice), "end_turn")
    if reason != "end_turn":
        return reason, None
    if cut:
        return "max_tokens", None
    if isinstance(choice.stop_reason, str) and choice.stop_reason in stops:
        return "stop_sequence", choice.stop_reason
    if choice.native_finish_reason == "stop_sequence" and len(stops) == 1:
        return "stop_sequence", stops[0]
    return ("tool_use" if called else "end_turn"), None


def is_cut(choice: Choice) -> bool:
    """Whether the answer was cut at its token limit."""
    return REASONS.get(finish(choice), "") in ("max_tokens", "model_context_window_exceeded")


def check_empty(reason: str, used: dict[str, Any]) -> None:
    """Check that an answer without content is a real one: a model that stops at once has still written a token.

    Args:
        reason: why the answer ended, in Anthropic's terms.
        used: the result of `usage`.

    Raises:
        Nothing: the provider reports no output, or no usage at all.
    """
    if reason == "end_turn" and not used.get("output_tokens"):
        raise Nothing("an empty answer")


def stop_details(reason: str) -> dict[str, Any] | None:
    """The `stop_details` of a refusal; None for other reasons."""
    return {"type": "refusal", "category": None, "explanation": None} if reason == "refusal" else None


COUNTS = ("prompt_tokens", "completion_tokens", "total_tokens")
# The same in the words of OpenAI's Responses API and of Anthropic, which gateways in front of them pass on.
OTHERS = ("input_tokens", "output_tokens", "total_tokens")
DETAILS = ("prompt_tokens_details", "input_tokens_details")
OUTPUT_DETAILS = ("completion_tokens_details", "output_tokens_details")
# Counts that Anthropic reports beside its input tokens.
BESIDE = ("cache_read_input_tokens", "cache_creation_input_tokens")
# Cache writes among the details of the prompt: at OpenAI and OpenRouter, and at gateways in front of Claude: LiteLLM
# (https://github.com/BerriAI/litellm/issues/11364, January 2026), any-llm (https://github.com/mozilla-ai/any-llm/pull/896,
# March 2026), One API's successors, Envoy's (https://github.com/envoyproxy/ai-gateway/pull/1719, January 2026).
WRITTEN = (
    "cache_write_tokens",
    "cache_creation_tokens",
    "cache_creation_input_tokens",
    "cached_creation_tokens",
    "cached_write_tokens",
)


def usage(read: Completion) -> dict[str, Any]:
    """Usage in Anthropic's form; empty: the provider reports none.

    OpenAI's prompt tokens include those that were read from caches; `is_beside` finds the reports that don't. Thinking
    is a part of the output; if a provider counts it separately, as xAI and Gemini do, the total is more than the sum.
    """
    report = reported(read)
    prompt, output, total = (either(report, *names) for names in zip(COUNTS, OTHERS, strict=True))
    if output is None and prompt is not None and total is not None:
        output = max(0, total - prompt)
    if prompt is None and output is not None and total is not None:
        prompt = max(0, total - output)
    if prompt is None or output is None or not (prompt or output or total):
        return {}  # some vendors report zeros where they don't count
    details = first_mapping(report, DETAILS)
    cached = largest(
        details.get("cached_tokens"),
        report.get("prompt_cache_hit_tokens"),
        report.get("cached_tokens"),
        report.get("num_cached_tokens"),
        report.get("cache_read_input_tokens"),
    )
    written = largest(
        *(details.get(name) for name in WRITTEN), report.get("cache_creation_input_tokens"), report.get(WRITTEN[0])
    )
    anthropics = not report.get(COUNTS[0]) and any(report.get(name) for name in BESIDE)
    if is_beside(cached + written, prompt, output, total) or (anthropics and total != prompt + output):
        prompt += cached + written
    cached = min(cached, prompt)
    written = min(written, prompt - cached)
    thought = largest(first_mapping(report, OUTPUT_DETAILS).get("reasoning_tokens"), report.get("reasoning_tokens"))
    if total is None:
        output += thought if thought > output else 0  # then it can't be a part of the output
    elif total > prompt + output:
        thought = max(thought, total - prompt - output)
        output = total - prompt
    return {
        "input_tokens": prompt - cached - written,
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": cached,
        "output_tokens": output,
    } | ({"output_tokens_details": {"thinking_tokens": min(thought, output)}} if thought else {})


def either(report: dict[str, Any], *names: str) -> int | None:
    """The count under the first of these names that has a positive one; else 0 if one is 0, or None."""
    counts = [number for name in names if (number := count(report.get(name))) is not None]
    return next(filter(None, counts), counts[0] if counts else None)


def first_mapping(report: dict[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The object under the first of these names that has one with members."""
    return next(filter(None, (mapping(report.get(name)) for name in names)), {})


def is_beside(cached: int, prompt: int, output: int, total: int | None) -> bool:
    """Whether the prompt tokens don't include the cached ones, as in reports that a gateway made of Anthropic's.

    https://github.com/Portkey-AI/gateway/issues/1564 (March 2026)
    """
    return bool(cached) and total == prompt + output + cached


def reported(read: Completion) -> dict[str, Any]:
    """The report of usage; empty: it has no such report. Groq has it in `x_groq`, Kimi in the choice.

    https://github.com/earendil-works/pi/issues/2017 (March 2026)
    """
    return (
        mapping(read.usage)
        or mapping(mapping(read.x_groq).get("usage"))
        or (mapping(read.choices[0].usage) if read.choices else {})
    )


def doubtful(read: Completion) -> dict[str, Any]:
    """A member of usage that flags the ledger's row if a count isn't a number of tokens; empty: all counts are."""
    values = (reported(read).get(name) for name in {*COUNTS, *OTHERS})
    return {"doubtful": True} if any(value is not None and count(value) is None for value in values) else {}


def count(value: Any) -> int | None:
    """A number of tokens, which some providers write with a fraction, or in a string; None: it isn't one."""
    whole = value.is_integer() if isinstance(value, float) else isinstance(value, str) and NUMBER.fullmatch(value)
    number = int(value) if whole else value
    return number if is_count(number) else None


def largest(*values: Any) -> int:
    """The largest of the values that are numbers of tokens, or 0: some vendors have a zero under one name and the count
    under another."""
    return max((number for value in values if (number := count(value)) is not None), default=0)


def guessed(delivered: int) -> dict[str, Any]:
    """Estimated usage for a provider that reports none, marked as such. Clients rely on these members; the ledger uses
    its own estimate.

    Args:
        delivered: bytes of output.
    """
    return {"input_tokens": 0, "output_tokens": -(-delivered // BYTES_PER_TOKEN), "estimated": True}


def served(read: Completion) -> str:
    """The service tier that answered, in the provider's own word; empty: unknown."""
    tier = read.service_tier
    return tier[:TIER_LENGTH] if isinstance(tier, str) and tier != "auto" else ""


def tier(served: str) -> dict[str, Any]:
    """The service tier for usage: in Anthropic's terms (null if they have no word for it), and in the provider's own
    word, by which the call is priced (answer/metering.py). Without a word it is the standard tier."""
    if not served:
        return {"service_tier": "standard"}
    return {"service_tier": TIERS.get(served), "provider_service_tier": served}
