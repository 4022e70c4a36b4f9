"""Answers that stream and are no events: who reads along, when a call is settled, and what never looks complete."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from keys.timeouts import Timeouts
from messages_api.relay.download import Download
from messages_api.server.handler import CutShort
from messages_api.upstream.client import Headers, UpstreamError


class Provided:
    """An answer of these parts; an error among them is raised."""

    def __init__(self, *parts: bytes | Exception, length: int | None = None) -> None:
        self.status = 200
        self.headers: Headers = [(b"content-type", b"text/plain")]
        if length is not None:
            self.headers.append((b"content-length", b"%d" % length))
        self.parts = list(parts)
        self.closed = False

    async def read(self) -> bytes:
        part = self.parts.pop(0) if self.parts else b""
        if isinstance(part, Exception):
            raise part
        return part

    def close(self) -> None:
        self.closed = True


class Told:
    """What happens around a download, in order: reader, client and ledger in one list."""

    def __init__(self, fault: Exception | None = None) -> None:
        self.events: list[Any] = []
        self.settled = False
        self.fault = fault
        self.id = UUID(int=0)
        self.timeouts = Timeouts(between_bytes=0.2)
        self.http_request = SimpleNamespace(client_gone=False)

    # As a reader

    async def chunk(self, chunk: bytes) -> None:
        self.events.append(("read", chunk))
        if self.fault is not None:
            raise self.fault

    async def end(self) -> None:
        self.events.append("end")

    # As a call

    def note_first_byte(self) -> None:
        pass

    def finish(self, status: Any, reading: Any, *, error_type: str = "", free: bool = False) -> None:
        if not self.settled:
            self.settled = True
            self.events.append((status.value, error_type))

    # As a client

    async def send(self, part: bytes) -> None:
        self.events.append(("sent", part))


def download(told: Told, provided: Provided) -> Download:
    return Download(told, provided, told)  # type: ignore[arg-type]


async def pumped(told: Told, provided: Provided) -> Download:
    made = download(told, provided)
    try:
        await made.pump(told.send)
    finally:
        made.close()
    assert provided.closed
    return made


async def test_each_chunk_is_read_before_the_client_gets_it() -> None:
    told = Told()
    made = await pumped(told, Provided(b"hel", b"lo"))
    assert told.events == [
        ("read", b"hel"), ("sent", b"hel"), ("read", b"lo"), ("sent", b"lo"), "end", ("completed", "")
    ]  # fmt: skip
    assert b"content-length" not in dict(made.raw_headers)


async def test_one_of_known_length_is_settled_before_the_client_has_the_last_of_it() -> None:
    told = Told()
    made = await pumped(told, Provided(b"hel", b"lo", length=5))
    assert told.events[2:] == [("read", b"lo"), "end", ("completed", ""), ("sent", b"lo")]
    assert dict(made.raw_headers)[b"content-length"] == b"5"


@pytest.mark.parametrize("length", [None, 5])
@pytest.mark.parametrize(
    ("fault", "kind"), [(UpstreamError("broken_off", sent=True), "broken_off"), (OSError("here"), "internal")]
)
async def test_a_download_that_breaks_off_has_no_end(length: int | None, fault: Exception, kind: str) -> None:
    told = Told()
    with pytest.raises(CutShort):
        await pumped(told, Provided(b"hel", fault, length=length))
    assert told.events == [("read", b"hel"), ("sent", b"hel"), ("failed", kind)]


async def test_a_download_that_is_shorter_than_declared_has_no_end() -> None:
    told = Told()
    with pytest.raises(CutShort):
        await pumped(told, Provided(b"hel", length=5))
    assert told.events[-1] == ("failed", "broken_off")


async def test_a_reader_that_fails_cuts_it_short() -> None:
    told = Told(ValueError("what it read"))
    with pytest.raises(CutShort):
        await pumped(told, Provided(b"hel", b"lo"))
    assert told.events == [("read", b"hel"), ("failed", "internal")]


async def test_a_download_that_falls_silent_is_given_up() -> None:
    class Silent(Provided):
        async def read(self) -> bytes:
            await asyncio.sleep(5)
            return b""

    told = Told()
    with pytest.raises(CutShort):
        await pumped(told, Silent())
    assert told.events == [("failed", "no_answer_in_time")]


@pytest.mark.parametrize(("gone", "status"), [(True, "client_disconnected"), (False, "interrupted")])
async def test_a_download_that_is_never_pumped_is_settled_when_it_is_closed(gone: bool, status: str) -> None:
    told, provided = Told(), Provided(b"hello")
    told.http_request.client_gone = gone
    made = download(told, provided)
    made.close()
    made.close()
    assert told.events == [(status, "")]
    assert provided.closed
