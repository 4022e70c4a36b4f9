"""Blocks of the user's, and of a tool's result, as parts of a content. Pure.

What a model can't see becomes a note in its place: a refusal would come back with every turn of a conversation that
once had an image in it.
"""

from __future__ import annotations

from typing import Any

from messages_api.providers.openai.dialects import Dialect
from messages_api.providers.openai.narration import narrated
from messages_api.providers.openai.words import NOT_HERE, Placed, blocks, kept, refuse, string

PDF = "application/pdf"

Part = dict[str, Any]


def text_part(text: str) -> Part:
    return {"type": "text", "text": text}


def joined(parts: list[Part]) -> str | list[Part]:
    """Parts as a content: a text where there is nothing else, for not every provider takes parts."""
    if all(part["type"] == "text" and "cache_control" not in part for part in parts):
        return "\n\n".join(part["text"] for part in parts)
    return parts


def as_parts(content: str | list[Part]) -> list[Part]:
    """The parts that were joined."""
    return [text_part(content)] if isinstance(content, str) else content


def marked(parts: list[Part], block: dict[str, Any], spoken: Dialect) -> list[Part]:
    """The parts of a block, with its breakpoint for the cache where the provider takes one: on text that is there."""
    breakpoint = block.get("cache_control") if spoken.caches else None
    if isinstance(breakpoint, dict) and parts and parts[-1]["type"] == "text" and parts[-1]["text"]:
        parts[-1]["cache_control"] = kept(breakpoint)
    return parts


def texts(placed: list[Placed], spoken: Dialect) -> list[Part]:
    """Blocks of which only text can be passed on; those that make tools come and go are dealt with in tools.py."""
    said: list[Part] = []
    for at, block in placed:
        if block.get("type") in ("tool_addition", "tool_removal"):
            continue
        if block.get("type") != "text":
            refuse(f"{at}.type", NOT_HERE)
        said += marked([text_part(string(block, "text", at))], block, spoken)
    return [part for part in said if part["text"]]


def parts_of(block: dict[str, Any], where: str, spoken: Dialect) -> list[Part]:
    """A block of the user's, or of a tool's result."""
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
            said = narrated(block)
            parts = [text_part(said)] if said else []
    return marked(parts, block, spoken)


def source_of(block: dict[str, Any], where: str) -> dict[str, Any]:
    source = block.get("source")
    if not isinstance(source, dict):
        refuse(f"{where}.source", "Expected object")
    return source


def image(block: dict[str, Any], where: str, spoken: Dialect) -> Part:
    """An image, or a note where the model has no eyes, or the provider doesn't get at it."""
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
    """Refuse to have something cited: no other provider tells where it has an answer from."""
    citations = block.get("citations")
    if isinstance(citations, dict) and citations.get("enabled"):
        refuse(f"{where}.citations", NOT_HERE)


def document(block: dict[str, Any], where: str, spoken: Dialect) -> list[Part]:
    """Something to read: text, where it is text; a PDF, where the provider reads them, and a note elsewhere."""
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


def pdf(where: str, block: dict[str, Any], spoken: Dialect) -> Part:
    if spoken.pdfs == "document_url":
        return {"type": "document_url", "document_url": where}
    return {"type": "file", "file": {"filename": block.get("title") or "document.pdf", "file_data": where}}
