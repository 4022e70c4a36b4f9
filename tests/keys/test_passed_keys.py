"""Which keys that callers bring are let in, by what the provider says to a free request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from keys.directory import KnownProviderKey
from messages_api.callers.passed_keys import PassedKeys
from messages_api.providers.anthropic import Anthropic
from messages_api.providers.base import Whole
from messages_api.server.errors import GatewayError

LISTED = b'{"data":[],"has_more":false}'
COUNTED = b'{"input_tokens":8}'
REFUSED = b'{"type":"error","error":{"type":"authentication_error","message":"no"}}'
ADDRESS = "192.0.2.1"
FAILURES = 3


@dataclass
class Fake:
    """A provider without a network."""

    lists: tuple[int, bytes]
    counts: tuple[int, bytes] = (404, b"")
    asked: list[str] = field(default_factory=list)

    async def send(self, method: str, *_: Any) -> Whole:
        self.asked.append(method)
        status, body = self.lists if method == "GET" else self.counts
        return Whole(status, [], body)


def made_up(number: int = 0) -> KnownProviderKey:
    return KnownProviderKey(
        None, "(passed through)", "anthropic", "https://provider.example", f"sk-ant-{number:020}", ()
    )


async def said(keys: PassedKeys, fake: Any, number: int = 0) -> int:
    try:
        await keys.check(Anthropic(fake), made_up(number), ADDRESS)
    except GatewayError as error:
        return error.status_code
    return 200


@pytest.mark.parametrize("status", [302, 400, 401, 402, 403, 422])
@pytest.mark.parametrize("lists", [True, False], ids=["by its models", "by counting"])
async def test_any_refusal_by_the_provider_counts_as_a_failure_of_the_address(status, lists):
    keys, answer = PassedKeys(FAILURES), (status, REFUSED)
    fake = Fake(answer) if lists else Fake((404, b""), answer)
    assert [await said(keys, fake, number) for number in range(5)] == [401] * 3 + [429] * 2
    assert not keys.taken
    assert fake.asked == (["GET"] if lists else ["GET", "POST"]) * 3


async def test_an_error_that_comes_as_a_success_is_a_refusal():
    keys = PassedKeys(FAILURES)
    assert await said(keys, Fake((200, b'{"code":401,"msg":"no such token","success":false}'))) == 401


@pytest.mark.parametrize("fake", [Fake((200, LISTED)), Fake((405, b""), (200, COUNTED))])
async def test_keys_that_the_provider_takes_count_for_nothing(fake):
    keys = PassedKeys(FAILURES)
    assert {await said(keys, fake, number) for number in range(9)} == {200}
    assert keys.is_sure(made_up().secret)


@pytest.mark.parametrize("status", [429, 500, 529])
async def test_a_provider_that_does_not_say_now_costs_the_address_nothing(status):
    keys = PassedKeys(FAILURES)
    assert {await said(keys, Fake((status, REFUSED)), number) for number in range(9)} == {503}


@pytest.mark.parametrize("fake", [Fake((404, b"")), Fake((405, b""), (501, b"")), Fake((200, b"<html>"))])
async def test_a_key_without_a_free_test_counts_as_failed_until_the_provider_has_answered_a_call(fake):
    keys = PassedKeys(FAILURES)
    for number in range(9):
        assert await said(keys, fake, number) == 200
        assert not keys.is_sure(made_up(number).secret)
        keys.note_taken(made_up(number).secret)
        assert keys.is_sure(made_up(number).secret)
    for number in range(10, 13):
        assert await said(keys, fake, number) == 200
        keys.note_refused(made_up(number).secret)
    assert await said(keys, fake, 13) == 429
    assert await said(keys, fake, 0) == 200


async def test_a_public_list_of_models_lets_no_address_try_keys_without_limit():
    keys, fake = PassedKeys(FAILURES), Fake((200, LISTED))
    for number in range(3):
        assert await said(keys, fake, number) == 200
        for _ in range(2):  # calls that were made at once
            keys.note_refused(made_up(number).secret)
    assert await said(keys, fake, 3) == 429
