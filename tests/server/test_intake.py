"""Request bodies under way: how many bytes a process and a key hold, how many bodies a key has read at once, and how
slowly one may come."""

from __future__ import annotations

import asyncio
import json
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import pytest
from django.conf import settings
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

from messages_api.server import handler
from messages_api.server.errors import GatewayError
from messages_api.server.intake import MOST_WAITING, SHORT, Intake, Share
from tests.support.fake_provider import Upstream, whole
from tests.support.gateway import Web, ask, issue, message, post, wait_until
from usage.limits import LimitKind
from usage.models import Limit

MIB = 1 << 20


async def unlimited(key: int) -> int | None:
    return None


def intake(
    most: int = 10 * MIB, most_of_key: int = 4 * MIB, parallel: Any = unlimited, patience: float = 0.05
) -> Intake:
    return Intake(10 * MIB, 4 * MIB, patience, parallel)


async def refusal(share: Share, size: int) -> tuple[int, str]:
    with pytest.raises(GatewayError) as caught:
        await share.take(size)
    assert caught.value.retry_after is not None
    return caught.value.status_code, caught.value.kind


async def test_bodies_of_one_key_that_wait_leave_room_for_those_of_others_to_wait() -> None:
    async def one(key: int) -> int | None:
        return 1

    room = intake(parallel=one, patience=10)
    under_way = [room.share(key) for key in (1, 2)]
    for share in under_way:
        await share.take(1)
    attack = [asyncio.ensure_future(room.share(1).take(1)) for _ in range(MOST_WAITING + 1)]
    waits = asyncio.ensure_future(room.share(2).take(1))
    await asyncio.sleep(0.1)
    assert sum(task.done() for task in attack) > MOST_WAITING // 2
    assert not waits.done()
    under_way[1].let_go()
    await waits
    for task in attack:
        task.cancel()
    await asyncio.gather(*attack, return_exceptions=True)


async def test_a_key_holds_its_part_and_the_process_the_whole_but_short_bodies_pass() -> None:
    room = intake()
    alices = room.share(1)
    await alices.take(4 * MIB)
    assert await refusal(room.share(1), 1) == (429, "rate_limit_error")
    await room.share(2).take(4 * MIB)
    assert await refusal(room.share(3), 3 * MIB) == (503, "api_error")
    await room.share(3).take(2 * MIB)
    await room.share(4).take(SHORT)
    assert await refusal(room.share(4), SHORT + 1) == (503, "api_error")
    alices.complete()
    assert await refusal(room.share(1), 1) == (429, "rate_limit_error")  # it is held until it is answered
    alices.let_go()
    await room.share(1).take(2 * MIB)


async def test_a_body_that_is_longer_than_all_of_it_passes_alone_and_grows() -> None:
    room = intake()
    batch = room.share(1)
    await batch.take(15 * MIB)
    await batch.take(20 * MIB)
    assert room.bytes == 20 * MIB
    assert (await refusal(room.share(2), MIB))[0] == 503


async def test_a_waiting_body_is_let_in_as_soon_as_there_is_room() -> None:
    room = intake(patience=60)
    first, second = room.share(1), room.share(1)
    await first.take(3 * MIB)
    waiting = asyncio.ensure_future(second.take(2 * MIB))
    await asyncio.sleep(0)
    assert not waiting.done()
    first.let_go()
    await waiting
    assert (room.bytes, room.keys[1].bytes, room.waiting) == (2 * MIB, 2 * MIB, [])


async def test_a_key_reads_as_many_bodies_at_once_as_it_may_make_calls() -> None:
    async def two(key: int) -> int | None:
        return 2 if key == 1 else None

    room = intake(parallel=two)
    shares = [room.share(1) for _ in range(3)]
    for share in shares[:2]:
        await share.take(0)
    assert await refusal(shares[2], 0) == (429, "rate_limit_error")
    await room.share(2).take(0)
    shares[0].complete()
    await shares[2].take(0)


@given(st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["take", "complete", "let go"]), st.integers(0, 6 * MIB))))
def test_the_count_always_equals_the_bytes_that_are_held(steps: list[tuple[int, str, int]]) -> None:
    async def play() -> None:
        async def two(key: int) -> int | None:
            return 2

        room = intake(parallel=two, patience=0)
        shares = [room.share(number % 2) for number in range(6)]
        for number, step, size in steps:
            share = shares[number]
            if step == "take":
                with suppress(GatewayError):
                    await share.take(size)
            elif step == "complete":
                share.complete()
            else:
                share.let_go()
            assert room.bytes == sum(each.bytes for each in shares)
            for key, held in room.keys.items():
                mine = [each for each in shares if each.key == key]
                assert held.bytes == sum(each.bytes for each in mine)
                assert held.reading == sum(each.reading for each in mine) <= 2
                assert held.bytes <= room.most_of_key or sum(each.bytes > 0 for each in mine) == 1
        for share in shares:
            share.let_go()
        assert (room.bytes, room.keys, room.waiting) == (0, {}, [])

    asyncio.run(play())


# The pace of one body


def sent(*steps: bytes | float) -> Any:
    """What an ASGI server has of a client that sends these parts, after these pauses."""
    left = list(steps)

    async def receive() -> dict[str, Any]:
        while left and isinstance(left[0], float):
            await asyncio.sleep(left.pop(0))  # type: ignore[arg-type]
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return receive


@override_settings(
    CONFIGURATION=settings.CONFIGURATION.model_copy(update={"body_grace_seconds": 0.2, "body_bytes_per_second": 10_000})
)
async def test_a_body_that_drips_is_a_408_however_steadily() -> None:
    scope = {"type": "http", "method": "POST", "path": "/v1/messages", "query_string": b"", "headers": []}
    drips = [step for _ in range(200) for step in (b"x", 0.01)]
    with pytest.raises(GatewayError) as caught:
        await handler.ApiRequest(scope, sent(*drips, b"")).read_body(1000)
    assert (caught.value.status_code, caught.value.reason) == (408, "stalled")
    # The same time is enough for more.
    parts = [step for _ in range(50) for step in (b"x" * 1000, 0.01)]
    assert len(await handler.ApiRequest(scope, sent(*parts, b"")).read_body(100_000)) == 50_000


async def test_a_key_has_its_next_body_read_once_the_one_before_is_understood() -> None:
    async def one(key: int) -> int | None:
        return 1

    room = intake(parallel=one)
    scope = {"type": "http", "method": "POST", "path": "/v1/messages", "query_string": b"", "headers": []}
    request = handler.ApiRequest(scope, sent(b"x" * MIB, b"x"))
    request.share = room.share(1)
    await request.read_body(2 * MIB, understood=False)
    assert (await refusal(room.share(1), MIB))[0] == 429
    request.note_understood()
    await room.share(1).take(MIB)


# Over sockets


def peak(web: Web) -> int:
    """Bytes of memory that the web process has had at most."""
    [process] = web.processes
    with open(f"/proc/{process.pid}/status") as status:
        [line] = [line for line in status if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def begin(web: Web, key: str, length: int | None, path: str = "/v1/messages") -> socket.socket:
    """A request whose body is still to come; None: in chunks."""
    link = socket.create_connection(web.address, timeout=30)
    framing = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    link.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\n{framing}\r\n\r\n".encode())
    return link


def answer_of(link: socket.socket) -> tuple[int, dict[str, Any], str]:
    """The status, JSON and head of an answer."""
    got = b""
    while b"\r\n\r\n" not in got or len(got.partition(b"\r\n\r\n")[2]) < length_of(got):
        part = link.recv(65536)
        assert part, got
        got += part
    head, _, body = got.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body), head.decode().lower()


def length_of(got: bytes) -> int:
    return int(got.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])


@contextmanager
def closing(*links: socket.socket) -> Iterator[None]:
    try:
        yield
    finally:
        for link in links:
            link.close()


@pytest.fixture
def small(served: None, start_web: Any) -> Web:
    """A web process that holds little, and waits for nothing long."""
    web: Web = start_web(
        body_memory_bytes=4 * MIB, body_memory_bytes_per_key=2 * MIB, admission_seconds=1.5, body_grace_seconds=3
    )
    return web


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens", "/v1/messages/batches"])
def test_a_key_with_too_many_bytes_is_refused_before_the_next_body_is_read_and_others_are_served(
    small: Web, upstream: Upstream, path: str
) -> None:
    alice, bob = issue(upstream), issue(upstream, "bob")
    upstream.answer = whole(200, message())
    with ExitStack() as holding:
        wait_until(lambda: takes_all(small, alice.key, path, holding))
        assert post(small, bob.key).status_code == 200
        assert post(small, alice.key).status_code == 200  # what is there at once is not counted
        assert post(small, bob.key, ask("x" * 100_000)).status_code == 200
    wait_until(lambda: post(small, alice.key, ask("x" * 1_500_000)).status_code == 200)


def takes_all(web: Web, key: str, path: str, holding: ExitStack) -> bool:
    """Begin a body that takes the key's whole part, and see whether the next one is refused. The body is given up after
    some seconds, so a try in which the next one came first needs another body."""
    holding.close()
    link = begin(web, key, 2 * MIB, path)
    holding.enter_context(closing(link))
    link.sendall(b'{"a":"' + b"x" * 100_000)
    return is_refused(web, key, path)


def is_refused(web: Web, key: str, path: str) -> bool:
    """Whether a body of a MiB is refused before any of it is sent."""
    link = begin(web, key, MIB, path)
    with closing(link):
        link.settimeout(2.5)
        try:
            status, body, head = answer_of(link)
        except TimeoutError:
            return False
    if status == 408:
        return False
    assert (status, body["type"], body["error"]["type"]) == (429, "error", "rate_limit_error")
    assert "retry-after: 1" in head
    return True


def test_a_body_in_chunks_takes_room_as_it_grows(small: Web, upstream: Upstream) -> None:
    alice = issue(upstream)
    first, second = (begin(small, alice.key, None) for _ in range(2))
    part = b"%x\r\n%b\r\n" % (MIB, b"x" * MIB)
    with closing(first, second):
        first.sendall(part)
        second.sendall(part + part[: MIB // 2])
        assert answer_of(second)[:1] == (429,)


def test_a_key_with_one_call_at_once_has_one_body_read(small: Web, upstream: Upstream) -> None:
    caller = issue(upstream)
    Limit.objects.create(virtual_key=caller.virtual_key, kind=LimitKind.PARALLEL, rate=1)
    links = [begin(small, caller.key, 200_000) for _ in range(5)]
    with closing(*links):
        for link in links:
            link.sendall(b"{" + b" " * 1000)
        statuses = sorted(answer_of(link)[0] for link in links)
    assert statuses == [408, 429, 429, 429, 429]


def test_a_dripping_body_is_a_408_in_anthropics_shape(small: Web, upstream: Upstream) -> None:
    alice = issue(upstream)
    link = begin(small, alice.key, 1000)
    with closing(link):
        link.settimeout(0.05)
        while True:
            link.sendall(b" ")
            try:
                status, body, _ = answer_of(link)
                break
            except TimeoutError:
                pass
    assert (status, body["type"], body["error"]["type"]) == (408, "error", "invalid_request_error")


def test_twenty_long_bodies_of_a_key_that_may_buy_nothing_take_no_more_than_its_part(
    served: None, start_web: Any, upstream: Upstream
) -> None:
    web = start_web(body_memory_bytes_per_key=4 * MIB, admission_seconds=0.2)
    caller = issue(upstream)
    before = peak(web)
    links = [begin(web, caller.key, 8 * MIB) for _ in range(20)]
    with closing(*links):
        left = dict.fromkeys(links, 7 * MIB)
        while left and (ready := select.select([], list(left), [], 0.5)[1]):
            for link in ready:
                try:
                    left[link] -= link.send(b" " * min(left[link], 65536))
                except OSError:
                    left[link] = 0
                if not left[link]:
                    del left[link]
        # One of them is held: parts and whole.
        assert peak(web) - before < 4 * 8 * MIB


def test_a_stream_lets_go_of_its_requests_body(small: Web, upstream: Upstream) -> None:
    alice = issue(upstream)
    body = json.dumps(ask("x" * 1_500_000)).encode()
    upstream.answer = [whole(200, b"x" * 10, ("content-type", "text/event-stream"))[0][:-9], 60.0]
    link = begin(small, alice.key, len(body))
    with closing(link):
        link.sendall(body)
        assert link.recv(1000).startswith(b"HTTP/1.1 200")
        upstream.answer = whole(200, message())
        assert post(small, alice.key, body).status_code == 200
