"""Amazon's event stream, converted to Anthropic's server-sent events, whose data it carries.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModelWithResponseStream.html
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator
from struct import error as StructError
from typing import Any

import msgspec

from messages_api.providers import cloud_errors
from messages_api.server import errors
from messages_api.upstream.client import Answer, Headers, UpstreamError

EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
# The statuses of exceptions in a stream.
EXCEPTIONS = {"throttlingException": 429, "validationException": 400, "modelTimeoutException": 408}
# Headers about Amazon's framing, which don't apply to the converted answer.
HIDDEN = (b"content-type", b"content-length", b"transfer-encoding")


class BedrockEvents:
    """An answer that converts Amazon's event stream while it arrives."""

    status = 200

    def __init__(self, answer: Answer) -> None:
        from botocore.eventstream import EventStreamBuffer

        self.answer = answer
        self.headers: Headers = [*(header for header in answer.headers if header[0] not in HIDDEN), EVENTS]
        self.frames = EventStreamBuffer()
        self.failed = False
        self.garbled = False

    async def read(self) -> bytes:
        while not self.failed:
            if self.garbled:
                raise UpstreamError("bad_answer", sent=True)
            chunk = await self.answer.read()
            if not chunk:
                return b""
            self.frames.add_data(chunk)
            if out := b"".join(self._events()):
                return out
        return b""

    def _events(self) -> Iterator[bytes]:
        """The events of all complete frames, up to one that can't be read."""
        from botocore.eventstream import ParserError

        frames = iter(self.frames)
        while not self.failed:
            try:
                frame = next(frames)
                yield self._event(frame.headers, frame.payload)
            except StopIteration:
                return
            except (ParserError, StructError, KeyError, ValueError):
                self.garbled = True
                return

    def _event(self, about: dict[str, Any], payload: bytes) -> bytes:
        """A frame as an event; ValueError: the frame is malformed."""
        kind = about.get(":message-type")
        if kind == "event":
            return event(payload) if about.get(":event-type") == "chunk" else b""
        self.failed = True
        name = str(about.get(":exception-type") or about.get(":error-code") or "")
        message = cloud_errors.words(payload) or str(about.get(":error-message") or errors.STREAM_ENDED_EARLY)
        error = errors.kind_of(EXCEPTIONS.get(name, 500))
        return b"event: error\ndata: " + cloud_errors.in_shape(error, message) + b"\n\n"

    def close(self) -> None:
        self.answer.close()


class Chunk(msgspec.Struct):
    """The payload of a frame, without its padding."""

    bytes: str


class Named(msgspec.Struct):
    """An event of Anthropic's, with the only member that its framing needs."""

    type: str


chunk_of = msgspec.json.Decoder(Chunk)
name_of = msgspec.json.Decoder(Named)


def event(payload: bytes) -> bytes:
    """The event in a chunk's payload; ValueError: the payload has none."""
    data = b64decode(chunk_of.decode(payload).bytes, validate=True)
    name = name_of.decode(data).type.encode()
    if b"\n" in name or b"\r" in name:
        raise ValueError("the name of an event has several lines")
    return b"event: " + name + b"\ndata: " + b"\ndata: ".join(data.splitlines()) + b"\n\n"
