"""Tokens of clouds: who waits for one, and when another one is fetched."""

from __future__ import annotations

import asyncio
import time

import pytest

from messages_api.providers.access_tokens import Token, TokenCache
from messages_api.upstream.client import UpstreamError


class Cloud:
    """Gives one token after the other, each valid for this time; None stands for a token that it refuses."""

    def __init__(self, *lasting: float | None) -> None:
        self.lasting = list(lasting)
        self.asked = 0

    async def fetch(self, secret: str) -> Token[str]:
        self.asked += 1
        number = self.asked
        await asyncio.sleep(0.01)
        seconds = self.lasting.pop(0)
        if seconds is None:
            raise UpstreamError("no_token", sent=False)
        return Token(f"{secret}-{number}", time.time() + seconds)


async def given(cloud: Cloud, calls: int) -> list[str]:
    """What calls one after the other get."""
    tokens = TokenCache(cloud.fetch)
    got = []
    for _ in range(calls):
        got.append(await tokens.get("a"))
        # A renewal may still be under way, however fast the machine is.
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.03)
    return got


def test_calls_that_wait_get_the_same_token_and_other_secrets_their_own() -> None:
    async def at_once(cloud: Cloud) -> list[str]:
        tokens = TokenCache(cloud.fetch)
        return [*await asyncio.gather(tokens.get("a"), tokens.get("a"), tokens.get("b"))]

    assert asyncio.run(at_once(Cloud(3600, 3600))) == ["a-1", "a-1", "b-2"]


def test_a_token_that_ends_soon_serves_while_the_next_is_fetched() -> None:
    assert asyncio.run(given(Cloud(200, 3600), 3)) == ["a-1", "a-1", "a-2"]


def test_a_renewal_that_brings_no_more_is_not_tried_again_at_once() -> None:
    cloud = Cloud(200, 200, 200, 200)
    assert asyncio.run(given(cloud, 6)) == ["a-1", "a-1", "a-2", "a-2", "a-2", "a-2"]
    assert cloud.asked == 2


def test_a_renewal_that_fails_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    cloud = Cloud(200, None, 3600)
    assert asyncio.run(given(cloud, 5)) == ["a-1"] * 5
    assert cloud.asked == 2
    monkeypatch.setattr("messages_api.providers.access_tokens.AGAIN", 0.01)
    assert asyncio.run(given(Cloud(200, None, 3600), 4)) == ["a-1", "a-1", "a-1", "a-3"]


def test_a_token_that_is_all_but_over_is_waited_for() -> None:
    assert asyncio.run(given(Cloud(5, 5, 3600), 3)) == ["a-1", "a-2", "a-3"]
