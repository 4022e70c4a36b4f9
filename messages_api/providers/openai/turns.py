"""The translation of a request's messages to chat messages. Pure.

Thinking is sent back if the provider wants it, as text without its signature. A tool's result can only be text in this
protocol: its images follow in the user's turn, after the last result.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from messages_api.providers.openai import call_ids
from messages_api.providers.openai.dialects import Dialect
from messages_api.providers.openai.narration import narrated
from messages_api.providers.openai.parts import ChatPart, as_parts, joined, marked, parts_of, text_part, texts
from messages_api.providers.openai.request import encode
from messages_api.providers.openai.words import NAME_LENGTH, NOT_HERE, Placed, blocks, refuse, string
from messages_api.request.conversation import without_attribution

# Google's documented value for tool calls without a signature: https://ai.google.dev/gemini-api/docs/thought-signatures
UNSIGNED = "skip_thought_signature_validator"
# The beginning of the names of models at OpenRouter that need signatures.
SIGNING = "google/gemini"
# A user's turn that is inserted where a conversation begins, or has to go on, without one.
GO_ON = "(The conversation goes on.)"
NOTHING = "(no content)"

Turn = dict[str, Any]
# A message's role, its place in the request, and its blocks.
Message = tuple[str, str, list[Placed]]


def turns(request: dict[str, Any], spoken: Dialect) -> list[Turn]:
    """Translate the system prompt and the messages.

    Consecutive messages of one role become one turn, as for Anthropic: the results of all tool calls of a turn must
    follow it directly.

    Raises:
        GatewayError: 400, something can't be expressed.
    """
    messages = read(request["messages"])
    begun = next((at for at, (role, _, _) in enumerate(messages) if role == "user"), len(messages))
    instructions = [each for role, _, content in messages[:begun] if role == "system" for each in content]
    system = texts([*blocks(unattributed(request.get("system")), "system"), *instructions], spoken)
    rest = [message for message in messages[:begun] if message[0] != "system"]
    rest += placed_systems(messages[begun:], spoken)
    made: list[Turn] = [{"role": "system", "content": joined(system)}] if system else []
    made += opened(merged(translated(rest, spoken)), spoken)
    if spoken.signed_calls == "reasoning_details" and request["model"].startswith(SIGNING):
        for turn in made:
            if calls := turn.get("tool_calls"):
                turn["reasoning_details"] = unsigned(calls)
    return list(bridged(made, spoken.bridge)) if spoken.bridge else made


def translated(messages: list[Message], spoken: Dialect) -> Iterator[Turn]:
    """The translated turns of all messages, in order."""
    for role, group in groupby(messages, lambda message: message[0]):
        run = list(group)
        content = [each for _, _, inner in run for each in inner]
        match role:
            case "user":
                yield from user(content, spoken)
            case "assistant":
                yield from assistant(content, spoken, last=run[-1][1] if run[-1] is messages[-1] else "")
            case _:
                yield from ({"role": "system", "content": joined(texts(inner, spoken))} for _, _, inner in run if inner)


def merged(turns: Iterable[Turn]) -> list[Turn]:
    """The turns with consecutive user's turns merged, because many models' templates refuse them."""
    made: list[Turn] = []
    for turn in turns:
        if made and turn["role"] == made[-1]["role"] == "user":
            parts = [*as_parts(made[-1]["content"]), *as_parts(turn["content"])]
            made[-1] = {"role": "user", "content": joined(parts)}
        else:
            made.append(turn)
    return made


def opened(turns: list[Turn], spoken: Dialect) -> list[Turn]:
    """The turns, beginning with a user's turn if the provider needs that.

    Qwen's template fails without a user's turn (https://github.com/ollama/ollama/issues/18303, September 2026); Gemini
    refuses a tool call before the first one (https://github.com/archestra-ai/archestra/pull/6258, July 2026).
    """
    if spoken.model_first or (turns and turns[0]["role"] == "user"):
        return turns
    return [{"role": "user", "content": GO_ON}, *turns]


def bridged(turns: list[Turn], bridge: str) -> Iterator[Turn]:
    """The turns, with an assistant's turn inserted after each tool's result that another role follows."""
    before = ""
    for turn in turns:
        if before == "tool" and turn["role"] not in ("tool", "assistant"):
            yield {"role": "assistant", "content": bridge}
        yield turn
        before = turn["role"]


# Reading the request


def read(messages: list[dict[str, Any]]) -> list[Message]:
    """The messages that count, as lists of blocks: from the last summary on. It replaces everything before it, as for
    Anthropic: https://platform.claude.com/docs/en/build-with-claude/compaction."""
    last_user = max((at for at, message in enumerate(messages) if message["role"] == "user"), default=-1)
    found: list[Message] = []
    for index, message in enumerate(messages):
        role, where = message["role"], f"messages.{index}"
        content = blocks(message.get("content"), f"{where}.content")
        if role == "system":
            check_system(message, where)
            if message.get("clear_at") == "next_user_message" and index < last_user:
                continue
        summary = max((at for at, (_, block) in enumerate(content) if is_summary(block)), default=None)
        if summary is not None:
            found = [("user", where, [content[summary]])]
            content = content[summary + 1 :]
        if content or summary is None:
            found.append((role, where, content))
    return found


def is_summary(block: dict[str, Any]) -> bool:
    """Whether a block is a summary that replaces everything before it. One without text is a failed compaction."""
    return block.get("type") == "compaction" and isinstance(block.get("content"), str) and bool(block["content"])


def unattributed(system: Any) -> Any:
    """A system prompt without what Claude Code says about itself at its beginning. Anthropic removes that too, and its
    nonce would keep providers from finding the prompt in their caches."""
    if isinstance(system, str):
        return without_attribution(system)
    for index, block in enumerate(system if isinstance(system, list) else ()):
        text = block.get("text") if isinstance(block, dict) else None
        left = without_attribution(text) if isinstance(text, str) else text
        if left or left is None:
            return system[index:] if left == text else [block | {"text": left}, *system[index + 1 :]]
    return []


def check_system(message: dict[str, Any], where: str) -> None:
    """Refuse members of a system message in the middle of the conversation that can't be expressed. `read` handles
    `clear_at`, request.py the effort."""
    for name, value in message.items():
        if name not in ("role", "content", "clear_at", "output_config") and value is not None:
            refuse(f"{where}.{name[:NAME_LENGTH]}", NOT_HERE)
    config = message.get("output_config")
    for name, value in config.items() if isinstance(config, dict) else ():
        if name != "effort" and value is not None:
            refuse(f"{where}.output_config.{name[:NAME_LENGTH]}", NOT_HERE)


def placed_systems(messages: list[Message], spoken: Dialect) -> list[Message]:
    """The messages, in which later system messages become marked text in a user's turn if they can't be a turn.

    Most models' templates accept a system message only at the beginning
    (https://github.com/vllm-project/vllm/issues/41114, https://github.com/ollama/ollama/issues/17774, 2026), and
    nothing may stand between a tool call and its result. The text keeps its position, so that caches stay valid.
    """
    made: list[Message] = []
    waiting: set[Any] = set()
    for role, where, content in messages:
        if role == "system":
            instructions = texts(content, spoken)
            if not (spoken.systems and not waiting):
                role, content = "user", [(where, marked_system(part)) for part in instructions]
            if not instructions:
                continue
        elif role == "assistant":
            waiting = {block.get("id") for _, block in content if block.get("type") == "tool_use"}
        else:
            waiting -= {block.get("tool_use_id") for _, block in content if block.get("type") == "tool_result"}
        made.append((role, where, content))
    return made


def marked_system(part: ChatPart) -> dict[str, Any]:
    """Instructions as marked text in a user's turn."""
    return part | {"text": f"<system>\n{part['text']}\n</system>"}


# The user's turns


def user(content: list[Placed], spoken: Dialect) -> Iterator[Turn]:
    """The turns of a user's message: one for each tool's result, then the user's own."""
    results: list[Turn] = []
    parts: list[ChatPart] = []
    for at, block in content:
        if block["type"] != "tool_result":
            parts += parts_of(block, at, spoken)
            continue
        answered, shown = result(block, at, spoken)
        called = call_ids.for_provider(block["tool_use_id"], spoken)
        results.append({"role": "tool", "tool_call_id": called, "content": answered})
        if shown:
            parts += [text_part(f"What the tool call {called} showed:"), *shown]
    yield from results
    if parts or not results:
        yield {"role": "user", "content": joined(parts) or NOTHING}


def result(block: dict[str, Any], where: str, spoken: Dialect) -> tuple[str | list[ChatPart], list[ChatPart]]:
    """A tool's result: its text, and the parts that aren't text."""
    answered: list[ChatPart] = []
    shown: list[ChatPart] = []
    for at, inner in blocks(block.get("content"), f"{where}.content"):
        for part in parts_of(inner, at, spoken):
            (answered if part["type"] == "text" else shown).append(part)
    if shown and not any(part["text"] for part in answered):
        answered = [text_part("(shown below)")]
    if block.get("is_error"):
        first, *rest = answered or [text_part("")]
        answered = [first | {"text": f"Error: {first['text']}" if first["text"] else "Error"}, *rest]
    return joined(marked(answered, block, spoken)), shown


# The model's turns


def assistant(content: list[Placed], spoken: Dialect, *, last: str) -> Iterator[Turn]:
    """The turn of an assistant's message: text, thinking and tool calls. A turn with only thinking is left out if the
    provider doesn't want thinking back.

    Args:
        last: the place of the message in the request if no message follows, so that the model continues it; else empty.
    """
    thoughts = [string(block, "thinking", at) for at, block in content if block["type"] == "thinking"]
    calls = [call(block, spoken) for _, block in content if block["type"] == "tool_use"]
    words = spoken_words(content, spoken)
    turn: Turn = {"role": "assistant", "content": joined(words) or None}
    if calls:
        turn["tool_calls"] = calls
    if any(thoughts):
        turn |= dict.fromkeys(spoken.thoughts, "".join(thoughts))
    elif calls and spoken.unthought is not None:
        turn[spoken.thoughts[-1]] = spoken.unthought
    if len(turn) == 2 and turn["content"] is None:
        return
    goes_on = bool(last) and not calls
    if goes_on and content[-1][1]["type"] != "text":
        # The answer stopped at one of Anthropic's tools.
        yield turn
        yield {"role": "user", "content": GO_ON}
        return
    if goes_on and not spoken.prefill:
        refuse(last, "this model's provider can't continue a turn of the assistant")
    if goes_on and spoken.prefill != "plain":
        turn[spoken.prefill] = True
    if turn["content"] is None and not calls:
        turn["content"] = ""
    yield turn


def spoken_words(content: list[Placed], spoken: Dialect) -> list[ChatPart]:
    """The text of an assistant's turn, consecutive texts joined, with notes about what Anthropic's tools did."""
    parts: list[ChatPart] = []
    joins = False
    for at, block in content:
        kind = block["type"]
        if kind == "text":
            text = string(block, "text", at)
            if joins and "cache_control" not in parts[-1]:
                parts[-1]["text"] += text
            elif text:
                parts.append(text_part(text))
            joins = bool(parts) and (joins or bool(text))
            if text:
                marked(parts, block, spoken)
        elif kind not in ("thinking", "tool_use") and (note := narrated(block)):
            parts.append(text_part(note))
            joins = False
    return parts


def call(block: dict[str, Any], spoken: Dialect) -> dict[str, Any]:
    """A tool call of an assistant's turn."""
    asked = {"name": block["name"], "arguments": encode(block["input"]).decode()}
    made = {"id": call_ids.for_provider(block["id"], spoken), "type": "function", "function": asked}
    if spoken.signed_calls == "extra_content":
        made["extra_content"] = {"google": {"thought_signature": UNSIGNED}}
    return made


def unsigned(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The signature of a turn's calls at OpenRouter, which needs one for all of them:
    https://openrouter.ai/docs/guides/best-practices/reasoning-tokens#preserving-reasoning-blocks."""
    signed = {"type": "reasoning.encrypted", "id": calls[0]["id"], "format": "google-gemini-v1", "index": 0}
    return [signed | {"data": UNSIGNED}]
