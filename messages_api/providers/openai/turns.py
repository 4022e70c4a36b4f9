"""The messages of a request as those of a chat completions request. Pure.

Thinking goes back where the provider asks for it, as text without its signature. What a tool answered is text in this
protocol: images follow in the user's turn, after the last of the results.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from itertools import groupby
from typing import Any

from messages_api.providers.openai.dialects import Dialect
from messages_api.providers.openai.request import NAME_LENGTH, encode, refuse

NOT_HERE = "not available with this model's provider"
PDF = "application/pdf"
ATTRIBUTION = "x-anthropic-billing-header:"
# What Google documents for tool calls whose signature nobody has: https://ai.google.dev/gemini-api/docs/thought-signatures
UNSIGNED = "skip_thought_signature_validator"
# How the names of the models that ask for them begin at OpenRouter.
SIGNING = "google/gemini"

Part = dict[str, Any]
Turn = dict[str, Any]
# A block with its place in the request.
Placed = tuple[str, dict[str, Any]]


def turns(request: dict[str, Any], spoken: Dialect) -> list[Turn]:
    """The system prompt and the messages. Those of one role in a row are one turn, as they are to Anthropic: what all
    tools answered that a turn asked for has to follow it at once.

    Raises:
        GatewayError: 400, there is something that can't be expressed.
    """
    made: list[Turn] = []
    if system := texts(unattributed(request.get("system")), "system"):
        made.append({"role": "system", "content": system})
    messages = request["messages"]
    for role, group in groupby(enumerate(messages), lambda each: each[1]["role"]):
        run = [(f"messages.{index}", message) for index, message in group]
        content = [each for where, message in run for each in blocks(message.get("content"), f"{where}.content")]
        match role:
            case "user":
                made += user(content, spoken)
            case "assistant":
                made += assistant(content, spoken, last=run[-1][0] if run[-1][1] is messages[-1] else "")
            case _:
                made += system_turns(run)
    if spoken.signed_calls == "reasoning_details" and request["model"].startswith(SIGNING):
        for turn in made:
            if calls := turn.get("tool_calls"):
                turn["reasoning_details"] = unsigned(calls)
    return list(bridged(made, spoken.bridge)) if spoken.bridge else made


def bridged(turns: list[Turn], bridge: str) -> Iterator[Turn]:
    """The turns, with the assistant's words where a tool's result is followed by another than the assistant's."""
    before = ""
    for turn in turns:
        if before == "tool" and turn["role"] not in ("tool", "assistant"):
            yield {"role": "assistant", "content": bridge}
        yield turn
        before = turn["role"]


def system_turns(run: list[Placed]) -> Iterator[Turn]:
    """Instructions in mid-conversation."""
    for where, message in run:
        check_system(message, where)
        if said := texts(message.get("content"), f"{where}.content"):
            yield {"role": "system", "content": said}


def unattributed(system: Any) -> Any:
    """A system prompt without the line that Claude Code puts first, and that Anthropic takes out again."""
    if isinstance(system, list) and system and str(system[0].get("text")).startswith(ATTRIBUTION):
        return system[1:]
    return system


def check_system(message: dict[str, Any], where: str) -> None:
    """Refuse what instructions in mid-conversation may bring beside their text."""
    for name, value in message.items():
        if name not in ("role", "content") and value is not None:
            refuse(f"{where}.{name[:NAME_LENGTH]}", NOT_HERE)


def blocks(content: Any, where: str) -> list[Placed]:
    """The blocks of a content, which may be a text alone, or nothing."""
    if isinstance(content, str):
        return [(where, {"type": "text", "text": content})]
    if content is not None and not isinstance(content, list):
        refuse(where, "Expected string or array")
    placed = [(f"{where}.{index}", block) for index, block in enumerate(content or ())]
    for at, block in placed:
        if not isinstance(block, dict):
            refuse(at, "Expected object")
    return placed


def texts(content: Any, where: str) -> str:
    """A content of which only text can be passed on."""
    said = []
    for at, block in blocks(content, where):
        if block.get("type") != "text":
            refuse(f"{at}.type", NOT_HERE)
        said.append(string(block, "text", at))
    return "\n\n".join(said)


def string(block: dict[str, Any], name: str, where: str) -> str:
    """A member that has to be a text."""
    value = block.get(name)
    if not isinstance(value, str):
        refuse(f"{where}.{name}", "Expected string")
    return value


# The user's turns


def user(content: list[Placed], spoken: Dialect) -> Iterator[Turn]:
    """What tools answered, each a turn of its own, and what the user said."""
    results: list[Turn] = []
    parts: list[Part] = []
    for at, block in content:
        if block["type"] != "tool_result":
            parts += parts_of(block, at, spoken)
            continue
        said, shown = result(block, at, spoken)
        called = block["tool_use_id"]
        results.append({"role": "tool", "tool_call_id": call_id(called, spoken), "content": said})
        if shown:
            parts += [text_part(f"What the tool call {called} showed:"), *shown]
    yield from results
    if parts or not results:
        yield {"role": "user", "content": joined(parts)}


def result(block: dict[str, Any], where: str, spoken: Dialect) -> tuple[str, list[Part]]:
    """What a tool answered: its text, and what isn't text."""
    said, shown = [], []
    for at, inner in blocks(block.get("content"), f"{where}.content"):
        for part in parts_of(inner, at, spoken):
            if part["type"] == "text":
                said.append(part["text"])
            else:
                shown.append(part)
    text = "\n\n".join(said)
    if shown and not text:
        text = "(shown below)"
    if block.get("is_error"):
        text = f"Error: {text}" if text else "Error"
    return text, shown


def text_part(text: str) -> Part:
    return {"type": "text", "text": text}


def joined(parts: list[Part]) -> str | list[Part]:
    """Parts as a content: a text where there is nothing else, for not every provider takes parts."""
    if all(part["type"] == "text" for part in parts):
        return "\n\n".join(part["text"] for part in parts)
    return parts


def parts_of(block: dict[str, Any], where: str, spoken: Dialect) -> list[Part]:
    """A block of the user's, or of a tool's result."""
    match block.get("type"):
        case "text":
            return [text_part(string(block, "text", where))]
        case "image":
            return [{"type": "image_url", "image_url": {"url": image_url(source_of(block, where), f"{where}.source")}}]
        case "document":
            return document(block, where, spoken)
        case "search_result":
            check_uncited(block, where)
            found = texts(block.get("content"), f"{where}.content")
            heads = [string(block, name, where) for name in ("title", "source")]
            return [text_part("\n".join([*heads, "", found]))]
    refuse(f"{where}.type", NOT_HERE)


def source_of(block: dict[str, Any], where: str) -> dict[str, Any]:
    source = block.get("source")
    if not isinstance(source, dict):
        refuse(f"{where}.source", "Expected object")
    return source


def image_url(source: dict[str, Any], where: str) -> str:
    """Where an image is, or the image itself."""
    match source.get("type"):
        case "url":
            return string(source, "url", where)
        case "base64":
            return f"data:{string(source, 'media_type', where)};base64,{string(source, 'data', where)}"
    refuse(f"{where}.type", f"{NOT_HERE}: Expected 'base64' or 'url'")


def check_uncited(block: dict[str, Any], where: str) -> None:
    """Refuse to have something cited: no other provider tells where it has an answer from."""
    citations = block.get("citations")
    if isinstance(citations, dict) and citations.get("enabled"):
        refuse(f"{where}.citations", NOT_HERE)


def document(block: dict[str, Any], where: str, spoken: Dialect) -> list[Part]:
    """Something to read: text, where it is text; a PDF, where the provider reads them."""
    check_uncited(block, where)
    source = source_of(block, where)
    at = f"{where}.source"
    about = [block[name] for name in ("title", "context") if isinstance(block.get(name), str) and block[name]]
    match source.get("type"):
        case "text":
            parts = [text_part(string(source, "data", at))]
        case "content":
            parts = [
                part
                for place, inner in blocks(source.get("content"), f"{at}.content")
                for part in parts_of(inner, place, spoken)
            ]
        case "base64" if source.get("media_type") == PDF and spoken.pdfs:
            parts = [pdf(f"data:{PDF};base64,{string(source, 'data', at)}", block, spoken)]
        case "url" if spoken.pdfs and spoken.pdf_urls:
            parts = [pdf(string(source, "url", at), block, spoken)]
        case "base64" if source.get("media_type") != PDF:
            refuse(f"{at}.media_type", f"{NOT_HERE}: Expected '{PDF}'")
        case _:
            refuse(f"{at}.type", f"{NOT_HERE}: give the document as text")
    return [text_part("\n".join(about)), *parts] if about else parts


def pdf(where: str, block: dict[str, Any], spoken: Dialect) -> Part:
    if spoken.pdfs == "document_url":
        return {"type": "document_url", "document_url": where}
    return {"type": "file", "file": {"filename": block.get("title") or "document.pdf", "file_data": where}}


# The model's turns


def assistant(content: list[Placed], spoken: Dialect, *, last: str) -> Iterator[Turn]:
    """What the model said, thought and asked tools for. One who only thought, and whose thoughts nobody wants, is left
    out.

    Args:
        last: where it is, if nothing follows, so that it is to be gone on with.
    """
    said, thoughts, calls = [], [], []
    for at, block in content:
        match block["type"]:
            case "text":
                said.append(string(block, "text", at))
            case "thinking":
                thoughts.append(string(block, "thinking", at))
            case "tool_use":
                calls.append(call(block, spoken))
            case "redacted_thinking" | "fallback":
                pass
            case _:
                refuse(f"{at}.type", NOT_HERE)
    turn: Turn = {"role": "assistant", "content": "".join(said) or None}
    if calls:
        turn["tool_calls"] = calls
    # DeepSeek refuses a turn with tool calls that has no member for its thoughts, be they none.
    if spoken.thoughts and (any(thoughts) or (calls and spoken.thinking == "switch")):
        turn[spoken.thoughts] = "".join(thoughts)
    if last and not calls:
        if not spoken.prefill:
            refuse(last, "this model's provider can't go on with a turn of the assistant's")
        if spoken.prefill == "prefix":
            turn["prefix"] = True
    if len(turn) > 2 or turn["content"] is not None:
        if turn["content"] is None and not calls:
            turn["content"] = ""
        yield turn


def call(block: dict[str, Any], spoken: Dialect) -> dict[str, Any]:
    """A tool's use."""
    asked = {"name": block["name"], "arguments": encode(block["input"]).decode()}
    made = {"id": call_id(block["id"], spoken), "type": "function", "function": asked}
    if spoken.signed_calls == "extra_content":
        made["extra_content"] = {"google": {"thought_signature": UNSIGNED}}
    return made


def unsigned(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The place of a signature for a turn's calls at OpenRouter, which takes one for all of them:
    https://openrouter.ai/docs/guides/best-practices/reasoning-tokens#preserving-reasoning-blocks."""
    signed = {"type": "reasoning.encrypted", "id": calls[0]["id"], "format": "google-gemini-v1", "index": 0}
    return [signed | {"data": UNSIGNED}]


def call_id(name: str, spoken: Dialect) -> str:
    """A tool call's id as the provider takes it: the same one for the call and its result."""
    if spoken.ids is None or spoken.ids.fullmatch(name):
        return name
    return blake2b(name.encode("utf-8", "replace"), digest_size=5).hexdigest()[:9]
