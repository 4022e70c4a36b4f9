"""A batch's body is read request by request, in a bounded amount of memory, and all of it is strict JSON."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api.json_text import byte_edits
from messages_api.process.taking_turns import Turns
from messages_api.request import batch_body
from messages_api.request.batch_body import MOST_BESIDE, BatchContents, begins, heads, read, read_spooled
from messages_api.request.spooled_body import SpooledBody
from messages_api.server.errors import GatewayError
from tests.support.gateway import ask

MIB = 1 << 20
# Python and what the reader imports take two thirds of it.
LITTLE = 96 * MIB
ONE = json.dumps({"custom_id": "one", "params": ask()}).encode()
# JSON that takes the most memory for its length.
DENSE = b",".join([b"[]"] * 340_000)


def dense(number: int, times: int = 1) -> bytes:
    """A request of this many MiB."""
    params = json.dumps(ask()).encode()[:-1] + b',"x":[%b]}' % b",".join([DENSE] * times)
    return b'{"custom_id":"r%d","params":%b}' % (number, params)


def spooled(body: bytes) -> BatchContents:
    """What a process of its own finds in it."""
    with SpooledBody() as file:
        file.size = os.write(file.file, body)
        return asyncio.run(read_spooled(file, memory=LITTLE, signatures=False))


def here(body: bytes) -> BatchContents:
    with SpooledBody() as file:
        return read(body, file.edited, signatures=False)


@pytest.mark.long
def test_a_long_batch_takes_no_memory_beyond_that_of_its_requests_one_by_one() -> None:
    body = b'{"requests":[%b]}' % b",".join(dense(number) for number in range(16))
    assert len(body) > 15 * MIB
    assert len(spooled(body).asked) == 16


def test_a_batch_whose_reading_takes_too_much_memory_is_a_413_that_says_what_to_do() -> None:
    for body in (
        b'{"requests":[%b]}' % dense(1, times=10),
        b'{"requests":[%b]}' % b",".join([b"1"] * 2 * MIB),
    ):
        with pytest.raises(GatewayError, match="split it into smaller batches") as caught:
            spooled(body)
        assert (caught.value.status_code, caught.value.kind) == (413, "request_too_large")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"\xef\xbb\xbf" + b'{"requests":[%b]}' % ONE, "byte order mark"),
        (b'{"requests":[%b]}x' % ONE, "not valid JSON"),
        (b'{"requests":[%b],}' % ONE, "not valid JSON"),
        (b'{"requests":[%b,]}' % ONE, "not valid JSON"),
        (b'{"requests":[%b' % ONE, "not valid JSON"),
        (b"", "not valid JSON"),
        (b"[]", "Expected object"),
        (b"{}", "requests: Field required"),
        (b'{"requests":7}', "requests: Expected array"),
        (b'{"requests":[%b],"requests":[%b]}' % (ONE, ONE), "requests: the request body has this member twice"),
        (b'{"requests":[7],"requests":[%b]}' % ONE, "this member twice"),
        (b'{"a":12,"requests":[%b],"a":1}' % ONE, "a: the request body has this member twice"),
        (b'{"a":1,"requests":[%b],"\\u0061":12}' % ONE, "a: the request body has this member twice"),
        (b'{"a\x01":1,"requests":[%b]}' % ONE, "not valid JSON"),
        (b'{"a":"\x01","requests":[%b]}' % ONE, "not valid JSON"),
        (b'{"a":"\xff","requests":[%b]}' % ONE, "not valid JSON"),
        (b'{"requests":[%b],"a":01}' % ONE, "not valid JSON"),
        (b'{"%b":1,"requests":[%b]}' % (b"a" * 1000, ONE), "name of more than"),
        (b'{"a":"%b","requests":[%b]}' % (b"a" * MOST_BESIDE, ONE), "beside its requests"),
        (b'{"requests":[%b,7]}' % ONE, "requests.1: Expected object"),
        (b'{"requests":[%b,{"custom_id":"\xff","params":{}}]}' % ONE, "requests.1"),
    ],
)
def test_what_is_no_strict_json_of_a_batch_is_a_400(body: bytes, said: str) -> None:
    with pytest.raises(GatewayError, match=said) as caught:
        here(body)
    assert caught.value.status_code == 400


def test_a_batch_may_be_spaced_and_spelled_as_its_client_likes() -> None:
    body = b' \n{ "x" : [ 1 , {} ] ,\t"re\\u0071uests"\r\n: [ %b , %b ] , "y":{"requests":[]}} ' % (
        ONE,
        ONE.replace(b"one", b"two"),
    )
    assert len(here(body).asked) == 2


def test_a_batch_names_a_hundred_models_at_most_with_those_that_its_requests_mean_besides() -> None:
    advisor = {"type": "advisor_20260301", "name": "advisor"}

    def batch(models: int, advisors: int) -> bytes:
        asked = [ask(model=f"model-{number}") for number in range(models)]
        asked += [ask(model="model-0", tools=[advisor | {"model": f"advisor-{number}"}]) for number in range(advisors)]
        requests = [{"custom_id": f"r{number}", "params": params} for number, params in enumerate(asked)]
        return json.dumps({"requests": requests}).encode()

    assert len(here(batch(100, 0)).models) == 100
    assert len(here(batch(60, 40)).other_models.models) == 40
    for models, advisors in ((101, 0), (60, 41)):
        with pytest.raises(GatewayError, match="requests: They name more than 100 models") as caught:
            here(batch(models, advisors))
        assert caught.value.status_code == 400


JSON = st.recursive(
    st.none() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=5), st.lists(JSON, max_size=5), st.sampled_from([None, 1]))
def test_members_and_items_are_found_where_they_are(members: dict[str, Any], items: list[Any], indent: Any) -> None:
    members["requests"] = items
    body = json.dumps(members, indent=indent).encode()
    found = {name: (head.end(), bytes(value)) for name, head, value in heads(body, byte_edits.members_of.decode(body))}
    assert {name: json.loads(value) for name, (_, value) in found.items()} == members
    assert all(body[at : at + len(value)] == value for at, value in found.values())
    at, value = found["requests"]
    raws = byte_edits.elements_of.decode(value)
    for begin, raw in zip(begins(body, at + 1, raws), raws, strict=True):
        assert body[begin : begin + len(memoryview(raw))] == bytes(raw)


def test_a_batch_that_is_slow_to_read_keeps_a_shorter_one_from_nothing() -> None:
    async def waits(size: int) -> bool:
        turns = Turns(batch_body.PLACES)
        async with turns.turn("slow", 250 * MIB):
            try:
                async with asyncio.timeout(0.05), turns.turn("other", size):
                    return False
            except TimeoutError:
                return True

    assert not asyncio.run(waits(MIB))
    assert asyncio.run(waits(250 * MIB))


def test_the_time_for_a_batch_grows_with_its_length() -> None:
    assert [batch_body.seconds(size * MIB) for size in (0, 1, 16, 256)] == [60, 61, 76, 316]


def test_a_batch_that_takes_too_long_is_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_body, "seconds", lambda size: 0)
    with pytest.raises(GatewayError, match="could not be read"):
        spooled(b'{"requests":[%b]}' % b",".join([dense(1)]))
