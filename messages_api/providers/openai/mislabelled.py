"""Answers that are not of the kind that they are said to be, or that was asked for: a stream of events that is labelled
as JSON or not at all, and one in place of an answer in one piece.

https://github.com/openclaw/openclaw/pull/97454 and https://github.com/BYK/loreai/pull/605 (June 2026),
https://github.com/maximhq/bifrost/pull/3928 (May 2026)
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec

from messages_api.providers.openai.completion import Nothing
from messages_api.providers.openai.events import EventTranslation
from messages_api.providers.openai.expected import Expected
from messages_api.upstream.client import Answer, UpstreamError

# How events begin.
BEGINNINGS = (b"data:", b"event:", b"id:", b"retry:", b":")
BOM = b"\xef\xbb\xbf"


class Peeked:
    """An answer of which the first bytes were looked at."""

    def __init__(self, answered: Answer, first: bytes) -> None:
        self.status, self.headers = answered.status, answered.headers
        self.answered = answered
        self.first = first

    @property
    def streams(self) -> bool:
        return is_stream(self.first)

    async def read(self) -> bytes:
        first, self.first = self.first, b""
        return first or await self.answered.read()

    def close(self) -> None:
        self.answered.close()


async def peek(answered: Answer, between_bytes: float | None) -> Peeked:
    """The answer, with its first bytes read.

    Raises:
        UpstreamError: there are none in time, or the provider disconnected.
    """
    try:
        async with asyncio.timeout(between_bytes):
            return Peeked(answered, await answered.read())
    except TimeoutError:
        raise UpstreamError("no_answer_in_time", sent=True) from None


def is_stream(body: bytes) -> bool:
    """Whether these are the first bytes of a stream of events."""
    return body[:100].removeprefix(BOM).lstrip().startswith(BEGINNINGS)


def in_one_piece(body: bytes, wanted: Expected) -> tuple[bytes, Any]:
    """The Messages answer that a whole stream makes, and the provider's error if it has one instead (else None).

    Raises:
        Nothing: the stream ended before it began.
        ValueError: the stream is malformed or incomplete.
    """
    translation = EventTranslation(wanted)
    events = translation.feed(body) + translation.finish()
    if translation.empty:
        raise Nothing("an empty stream")
    if translation.error is not None and not translation.begun:
        return b"", translation.error
    if not translation.done or translation.failed:
        raise ValueError("an incomplete stream")
    return assembled(events), None


def assembled(events: bytes) -> bytes:
    """The answer that a translated stream makes."""
    made: dict[str, Any] = {}
    content: list[dict[str, Any]] = []
    written: list[str] = []
    for line in events.split(b"\n"):
        said = json.loads(line[6:]) if line.startswith(b"data: ") else {}
        match said.get("type"):
            case "message_start":
                made = said["message"]
            case "content_block_start":
                content.append(said["content_block"])
                written = []
            case "content_block_delta":
                delta = said["delta"]
                content[-1] |= {"signature": delta["signature"]} if "signature" in delta else {}
                written += (delta[name] for name in ("text", "thinking", "partial_json") if name in delta)
            case "content_block_stop":
                block, text = content[-1], "".join(written)
                block[block["type"] if block["type"] != "tool_use" else "input"] = (
                    text if block["type"] != "tool_use" else msgspec.Raw(text.encode() or b"{}")
                )
            case "message_delta":
                made |= said["delta"] | {"usage": made["usage"] | said["usage"]}
    return msgspec.json.encode(made | {"content": content})
