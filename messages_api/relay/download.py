"""Relays a streamed answer that isn't events, such as a file. An incomplete one never looks complete to the client."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

from messages_api.answer.metering import Reading
from messages_api.relay.call import Call
from messages_api.server import headers
from messages_api.server.handler import CutShort, PumpedResponse, place
from messages_api.upstream.client import Answer, UpstreamError
from usage.models import Status
from usage.request_ids import request_id

logger = logging.getLogger(__name__)


class AnswerReader(Protocol):
    """Reads an answer while it passes. An exception cuts the answer short."""

    async def chunk(self, chunk: bytes) -> None:
        """Read the next bytes, before the client gets them."""

    async def end(self) -> None:
        """Finish: all was read, and the client doesn't have the last bytes yet."""


class Download(PumpedResponse):
    """Relays an answer to the client. On every path, the call (which costs nothing) is settled by the end of the
    answer. If the provider's answer is cut off, the provider is silent for too long, or the gateway ends the call, the
    connection to the client is closed in the middle of the body, before its stated length or its last chunk.
    """

    def __init__(self, call: Call, answer: Answer, reader: AnswerReader | None = None) -> None:
        passed = headers.downstream(answer.headers, request_id(call.id))
        length = headers.value_of(answer.headers, b"content-length")
        if length:
            passed.append((b"content-length", length.encode()))
        super().__init__(answer.status, passed)
        self.call = call
        self.answer = answer
        self.reader = reader
        self.left = int(length) if length else None

    async def pump(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        try:
            await self._relay(send)
        except UpstreamError as error:
            self._settle(Status.FAILED, error.kind)
            raise CutShort from None
        except Exception as error:
            # Its text may quote the body.
            logger.error("call %s failed: %s", request_id(self.call.id), place(error))
            self._settle(Status.FAILED, "internal")
            raise CutShort from None

    async def _relay(self, send: Callable[[bytes], Awaitable[None]]) -> None:
        while chunk := await self._read():
            self.call.note_first_byte()
            if self.reader is not None:
                await self.reader.chunk(chunk)
            if self.left is not None:
                self.left -= len(chunk)
                if self.left == 0:
                    await self._complete()  # before the client has the last bytes and disconnects
            await send(chunk)
        if self.left:
            raise UpstreamError("broken_off", sent=True)
        await self._complete()

    async def _read(self) -> bytes:
        try:
            async with asyncio.timeout(self.call.timeouts.between_bytes):
                return await self.answer.read()
        except TimeoutError:
            raise UpstreamError("no_answer_in_time", sent=True) from None

    async def _complete(self) -> None:
        if not self.call.settled:
            if self.reader is not None:
                await self.reader.end()
            self._settle(Status.COMPLETED)

    def _settle(self, status: Status, error_type: str = "") -> None:
        self.call.finish(status, Reading(), error_type=error_type, free=True)

    def close(self) -> None:
        """Settle the call: the client has all of the answer, or has disconnected."""
        if self.closed:
            return
        super().close()
        try:
            gone = self.call.http_request.client_gone
            self._settle(Status.CLIENT_DISCONNECTED if gone else Status.INTERRUPTED)
        finally:
            self.answer.close()
