"""Blocks of a user's turn, or of a tool's result, as parts of a chat message. Pure.

A note replaces what a model can't see: otherwise each later turn of a conversation that once had an image would be
refused.
"""

from __future__ import annotations

from typing import Any

from messages_api.providers.openai.dialects import Dialect
from messages_api.providers.openai.narration import narrated
from messages_api.providers.openai.words import NOT_HERE, Placed, blocks, kept, refuse, string

PDF = "application/pdf"

ChatPart = dict[str, Any]


def text_part(text: str) -> ChatPart:
    return {"type": "text", "text": text}


def joined(parts: list[ChatPart]) -> str | list[ChatPart]:
    """The parts as a content: as one text if all are text, because some providers don't accept parts."""
    if all(part["type"] == "text" and "cache_control" not in part for part in parts):
        return "\n\n".join(part["text"] for part in parts)
    # Kimi refuses an empty text beside other parts: https://github.com/BerriAI/litellm/issues/42186 (September 2026).
    return [part for part in parts if part.get("text") != ""]


def as_parts(content: str | list[ChatPart]) -> list[ChatPart]:
    """The parts of a content."""
    return [text_part(content)] if isinstance(content, str) else content


def marked(parts: list[ChatPart], block: dict[str, Any], spoken: Dialect) -> list[ChatPart]:
    """The parts of a block, with its cache breakpoint if the provider accepts it: on text that isn't empty."""
    breakpoint = block.get("cache_control") if spoken.caches else None
    if isinstance(breakpoint, dict) and parts and parts[-1]["type"] == "text" and parts[-1]["text"]:
        parts[-1]["cache_control"] = kept(breakpoint)
    return parts


def texts(placed: list[Placed], spoken: Dialect) -> list[ChatPart]:
    """The parts of blocks that may be text only. tools.py handles those that add or remove tools."""
    parts: list[ChatPart] = []
    for at, block in placed:
        if block.get("type") in ("tool_addition", "tool_removal"):
            continue
        if block.get("type") != "text":
            refuse(f"{at}.type", NOT_HERE)
        parts += marked([text_part(string(block, "text", at))], block, spoken)
    return [part for part in parts if part["text"]]


def parts_of(block: dict[str, Any], where: str, spoken: Dialect) -> list[ChatPart]:
    """The parts of a block of a user's turn, or of a tool's result."""
    match block.get("type"):
        case "text":
            parts = [text_part(string(block, "text", where))]
        case "image":
            parts = [image(block, where, spoken)]
        case "document":
            parts = document(block, where, spoken)
        case "search_result":
            check_uncited(block, where)
            found = texts(blocks(block.get("content"), f"{where}.content"), spoken)
            heads = [string(block, name, where) for name in ("title", "source")]
            parts = [text_part("\n".join([*heads, "", "\n\n".join(part["text"] for part in found)]))]
        case "tool_reference":
            parts = [text_part(f"The tool {string(block, 'tool_name', where)} is available.")]
        case _:
            text = narrated(block)
            parts = [text_part(text)] if text else []
    return marked(parts, block, spoken)


def source_of(block: dict[str, Any], where: str) -> dict[str, Any]:
    source = block.get("source")
    if not isinstance(source, dict):
        refuse(f"{where}.source", "Expected object")
    return source


def image(block: dict[str, Any], where: str, spoken: Dialect) -> ChatPart:
    """An image, or a note if the model can't see images or the provider can't fetch this one."""
    source, at = source_of(block, where), f"{where}.source"
    if not spoken.images:
        return text_part("[An image was here, which you can't see.]")
    match source.get("type"):
        case "url":
            url = string(source, "url", at)
            if spoken.images != "all":
                return text_part(f"[An image was here, which you can't see: {url}]")
        case "base64":
            url = f"data:{string(source, 'media_type', at)};base64,{string(source, 'data', at)}"
        case "file":
            return text_part("[An image was here, in a file that you can't see.]")
        case _:
            refuse(f"{at}.type", f"{NOT_HERE}: Expected 'base64' or 'url'")
    return {"type": "image_url", "image_url": {"url": url}}


def check_uncited(block: dict[str, Any], where: str) -> None:
    """Refuse a request for citations: no other provider supports them."""
    citations = block.get("citations")
    if isinstance(citations, dict) and citations.get("enabled"):
        refuse(f"{where}.citations", NOT_HERE)


def document(block: dict[str, Any], where: str, spoken: Dialect) -> list[ChatPart]:
    """The parts of a document: its text, or a PDF if the provider reads these, or else a note."""
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
        case "base64" if source.get("media_type") != PDF:
            refuse(f"{at}.media_type", f"{NOT_HERE}: Expected '{PDF}'")
        case "base64" if spoken.pdfs:
            parts = [pdf(f"data:{PDF};base64,{string(source, 'data', at)}", block, spoken)]
        case "url" if spoken.pdfs and spoken.pdf_urls:
            parts = [pdf(string(source, "url", at), block, spoken)]
        case "url":
            parts = [text_part(f"[A document was here, which you can't read: {string(source, 'url', at)}]")]
        case "base64" | "file":
            parts = [text_part("[A document was here, which you can't read.]")]
        case _:
            refuse(f"{at}.type", f"{NOT_HERE}: give the document as text")
    return [text_part("\n".join(about)), *parts] if about else parts


def pdf(where: str, block: dict[str, Any], spoken: Dialect) -> ChatPart:
    if spoken.pdfs == "document_url":
        return {"type": "document_url", "document_url": where}
    return {"type": "file", "file": {"filename": block.get("title") or "document.pdf", "file_data": where}}
