"""What the server writes for an answer: its head, its framing, and nothing that a header's value would add."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from gateway_project.http_cycle import MOST_PARTS, Cycle, Header
from gateway_project.http_protocol import Flow


class Transport:
    """Keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


def cycle_of(method: str = "POST", *, keep_alive: bool = True) -> tuple[Cycle, Transport]:
    transport: Any = Transport()
    cycle = Cycle(
        scope={"method": method},
        transport=transport,
        flow=Flow(transport),
        logger=logging.getLogger(),
        expects_100=False,
        keep_alive=keep_alive,
        on_response=lambda: None,
    )
    return cycle, transport


async def answered(headers: list[Header], *parts: bytes, method: str = "POST", **options: bool) -> tuple[bytes, bytes]:
    """The head and the rest of what was written for an answer with these headers and parts of its body."""
    cycle, transport = cycle_of(method, **options)
    await cycle.send({"type": "http.response.start", "status": 200, "headers": headers})
    for part in parts:
        await cycle.send({"type": "http.response.body", "body": part, "more_body": True})
    await cycle.send({"type": "http.response.body", "body": b""})
    head, _, rest = transport.written.partition(b"\r\n\r\n")
    return head, rest


async def test_an_answer_has_one_date() -> None:
    ours, _ = await answered([])
    relayed, _ = await answered([(b"Date", b"the upstream's")])
    assert ours.lower().count(b"\r\ndate: ") == 1
    assert ours.partition(b"date: ")[2].split(b"\r\n")[0].endswith(b" GMT")
    assert relayed.lower().count(b"\r\ndate: ") == 1
    assert b"date: the upstream's" in relayed


async def test_a_body_of_unknown_length_is_chunked_and_one_of_known_length_is_not() -> None:
    head, rest = await answered([], b"one", b"", b"two")
    assert b"\r\ntransfer-encoding: chunked" in head
    assert rest == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
    head, rest = await answered([(b"Content-Length", b"6")], b"one", b"two")
    assert b"\r\ncontent-length: 6" in head
    assert b"transfer-encoding" not in head
    assert rest == b"onetwo"


async def test_an_answer_to_head_has_no_body() -> None:
    head, rest = await answered([(b"content-length", b"3")], b"one", method="HEAD")
    assert b"\r\ncontent-length: 3" in head
    assert rest == b""


@pytest.mark.parametrize("keep_alive", [True, False])
async def test_a_connection_that_ends_says_so(keep_alive: bool) -> None:
    head, _ = await answered([], keep_alive=keep_alive)
    assert (b"\r\nconnection: close" in head) is not keep_alive


@pytest.mark.parametrize(
    "header",
    [(b"x", b"a\r\nset-cookie: b"), (b"x", b"a\nb"), (b"x", b"\x00"), (b"x", b"\x7f"), (b"x y", b"a"), (b"x:", b"a")],
)
async def test_no_header_may_end_itself(header: Header) -> None:
    cycle, transport = cycle_of()
    with pytest.raises(RuntimeError):
        await cycle.send({"type": "http.response.start", "status": 200, "headers": [header]})
    assert not transport.written


@pytest.mark.parametrize("parts", [(b"a",), (b"ab", b"cd")])
async def test_a_body_of_another_length_than_announced_is_a_fault(parts: tuple[bytes, ...]) -> None:
    with pytest.raises(RuntimeError, match="Content-Length"):
        await answered([(b"content-length", b"2")], *parts)


async def test_parts_of_a_body_that_wait_are_joined_in_order() -> None:
    cycle, _ = cycle_of()
    sent = [b"%d," % number for number in range(3 * MOST_PARTS)]
    for part in sent:
        cycle.add(part)
    assert len(cycle.parts) < MOST_PARTS
    assert cycle.waiting == len(b"".join(sent))
    assert (await cycle.receive())["body"] == b"".join(sent)
    assert cycle.waiting == 0


async def test_a_client_that_leaves_is_reported_once_and_not_after_its_answer() -> None:
    left: list[str] = []
    cycle, _ = cycle_of()
    cycle.gone = lambda: left.append("early")
    cycle.disconnect()
    cycle.disconnect()
    assert left == ["early"]
    assert await cycle.receive() == {"type": "http.disconnect"}
    cycle, _ = cycle_of()
    cycle.gone = lambda: left.append("late")
    await cycle.send({"type": "http.response.start", "status": 200, "headers": []})
    await cycle.send({"type": "http.response.body", "body": b""})
    cycle.disconnect()
    await asyncio.sleep(0)
    assert left == ["early"]
