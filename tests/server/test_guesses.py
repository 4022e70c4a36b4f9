"""Who guesses virtual keys is slowed, and a valid key from the same network never is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from keys import credentials
from keys.models import CredentialKind
from messages_api.callers.guesses import A_MINUTE, REASON, Guesses
from messages_api.server import errors
from tests.support.fake_provider import whole
from tests.support.gateway import ask, message, post, refused, started
from usage.models import Refusal

UNKNOWN = errors.unauthenticated("unknown", reason="unknown_key")


def guess(guesses: Guesses, address: str, error: errors.GatewayError = UNKNOWN) -> int:
    return guesses.count({"client": (address, 4711), "headers": []}, error).status_code


def test_guesses_of_keys_get_429_and_a_valid_key_from_the_same_network_is_served(served, alice, upstream):
    upstream.answer = whole(200, message())
    with started() as web, ThreadPoolExecutor(8) as pool:

        def try_keys(_: int) -> set[int]:
            heard = set()
            with httpx.Client(timeout=60, trust_env=False) as client:
                # Bounded; a quarter of a second's requests are enough for most machines.
                for _ in range(250):
                    key = credentials.make(CredentialKind.VIRTUAL_KEY)
                    answer = client.post(f"{web.url}/v1/messages", json=ask(), headers={"x-api-key": key})
                    heard.add(answer.status_code)
                    if answer.status_code == 429:
                        assert int(answer.headers["retry-after"]) >= 1
                        break
            return heard

        heard = set().union(*pool.map(try_keys, range(8)))
        assert heard == {401, 429}
        assert post(web, alice.key).status_code == 200
        mistyped = alice.key[:-1] + ("a" if alice.key[-1] != "a" else "b")
        refused(post(web, mistyped), 401, "authentication_error")
        assert post(web, alice.key).status_code == 200
    assert set(Refusal.objects.values_list("reason", flat=True)) >= {"unknown_key", REASON}


@pytest.mark.parametrize(("other", "shared"), [("192.0.2.8", False), ("2001:db8:0:1::2", True)])
def test_a_network_is_counted_for_itself(settings, other, shared):
    guesses = Guesses()
    first = "2001:db8:0:1::1" if shared else "192.0.2.7"
    said = [guess(guesses, first) for _ in range(2 * A_MINUTE)]
    assert said[0] == 401
    assert 429 in said
    # Ten a second become possible again, so of many some get the limit if the network is the same.
    assert (429 in [guess(guesses, other) for _ in range(A_MINUTE // 12)]) is shared


def test_only_unknown_keys_count():
    guesses = Guesses()
    away = errors.unavailable("away", reason="database_away")
    assert {guess(guesses, "192.0.2.7", away) for _ in range(2 * A_MINUTE)} == {503}
    assert guess(guesses, "192.0.2.7") == 401
