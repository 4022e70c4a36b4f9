"""Checks of provider keys: the gateway sends each key's provider a request that costs nothing (`Provider.probe`).

It is sent in the same way as a call, but from the process of the admin page or command, on a separate event loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import Coroutine, Iterator, Sequence
from typing import Any, TypeVar

from django.conf import settings

from keys import destinations, keyring
from keys.destinations import Destinations, Forbidden
from keys.directory import KnownProviderKey
from keys.models import CheckState, ProviderKey
from keys.provider_checks import Outcome
from keys.timeouts import Timeouts
from messages_api.process.outbound import upstream_client
from messages_api.providers import Provider, cloud_errors, providers
from messages_api.providers.base import Inconclusive
from messages_api.server.errors import GatewayError
from messages_api.upstream.client import Answer, UpstreamError, read_all

logger = logging.getLogger(__name__)

# A person waits for the result: seconds for all requests with one provider key, and keys that are checked at once.
SECONDS = 8.0
AT_ONCE = 50
# The most bytes that are read of an answer. OpenRouter's list of models has about 1 MiB.
MOST_BYTES = 8 << 20
# The most characters that are shown of a provider's message.
MESSAGE_LENGTH = 200
# No run of a secret of this length may be shown; shorter ones reveal little.
REVEALING = 6

# Statuses for a path or method that doesn't exist.
NOTHING_THERE = (404, 405, 501)
FAULTS = {
    "no_token": "the cloud gave no credentials for its secret",
    "no_answer_in_time": "no answer in time",
    "bad_http": "the server doesn't speak HTTP",
    "bad_header": "its secret can't be sent in a header",
}

Result = TypeVar("Result")


def try_keys(provider_keys: Sequence[ProviderKey]) -> list[Outcome | None]:
    """Check provider keys. Returns the outcomes in the same order; None: there is nothing to check.

    Call it outside of a transaction, because it takes seconds.
    """
    kept = destinations.kept_hosts(provider_keys)
    allowed = destinations.current(kept=lambda: kept)
    return run(_try_all([known(provider_key) for provider_key in provider_keys], allowed))


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine on a new event loop, and don't wait for its threads: a cloud's library may block one for longer
    than a person wants to wait."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(work)
    finally:
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.close()


def known(provider_key: ProviderKey) -> KnownProviderKey | None:
    """The provider key in the form that calls use; None: its secret can't be decrypted."""
    ciphertext = bytes(provider_key.secret_ciphertext)
    try:
        secret = keyring.decrypt(ciphertext) if ciphertext else ""
    except keyring.UnreadableSecret:
        return None
    return KnownProviderKey(
        provider_key.pk,
        provider_key.name,
        provider_key.provider,
        provider_key.base_url,
        secret,
        tuple(provider_key.model_patterns),
        region=provider_key.region,
        project=provider_key.project,
    )


async def _try_all(keys: Sequence[KnownProviderKey | None], allowed: Destinations) -> list[Outcome | None]:
    client = upstream_client(settings.CONFIGURATION, allowed)
    spoken = providers(client)
    room = asyncio.Semaphore(AT_ONCE)

    async def one(key: KnownProviderKey | None) -> Outcome | None:
        if key is None:
            return Outcome(CheckState.ANSWERED, message="not called: its secret can't be decrypted")
        if key.provider not in spoken:
            return None
        async with room:
            return await try_key(spoken[key.provider], key)

    try:
        return await asyncio.gather(*map(one, keys))
    finally:
        await client.close()


async def try_key(provider: Provider, key: KnownProviderKey, *, counting: bool = False) -> Outcome | None:
    """Check one provider key; None: there is nothing to check.

    Args:
        counting: only ask the provider to count tokens.
    """
    answer: Answer | None = None
    try:
        async with asyncio.timeout(SECONDS):
            ask = provider.count if counting else provider.probe
            answer = await ask(key, Timeouts(SECONDS, SECONDS, SECONDS, SECONDS))
            return (
                None
                if answer is None
                else judge(provider, key, answer.status, await read_all(answer.read, MOST_BYTES, cut=True))
            )
    except TimeoutError:
        return Outcome(CheckState.UNREACHABLE, message=f"no answer within {SECONDS:g} seconds")
    except UpstreamError as error:
        return Outcome(CheckState.UNREACHABLE, message=reason(error))
    except Inconclusive as why:
        return Outcome(CheckState.ANSWERED, message=str(why))
    except (GatewayError, ValueError, OSError, RecursionError) as error:
        logger.warning("the check of provider key %s failed (%s)", key.name, type(error).__name__)
        return Outcome(CheckState.ANSWERED, message="the answer can't be read")
    finally:
        if answer is not None:
            answer.close()


def judge(provider: Provider, key: KnownProviderKey, status: int, body: bytes) -> Outcome:
    """The outcome that an answer means for a provider key."""
    words = cleaned(cloud_errors.words(body), key.secret)
    if 200 <= status < 300:
        if provider.answers_probe(body):
            return Outcome(CheckState.WORKS, status)
        return Outcome(CheckState.ANSWERED, status, "such a provider answers in another form: is the address right?")
    if provider.is_about_us(status, body):
        state = CheckState.ANSWERED if provider.refuses_probe_only(cloud_errors.words(body)) else CheckState.REFUSED
        return Outcome(state, status, words)
    if 300 <= status < 400:
        return Outcome(CheckState.ANSWERED, status, "a redirect, which is not followed: is the address right?")
    if status in NOTHING_THERE:
        quoted = f"“{words}”; " if words else ""
        return Outcome(CheckState.ANSWERED, status, f"{quoted}the secret is not refused, but could not be checked")
    return Outcome(CheckState.ANSWERED, status, words)


def reason(error: UpstreamError) -> str:
    """Why there is no answer, in words for administrators."""
    for cause in causes(error):
        if isinstance(cause, Forbidden):
            return str(cause)
        if isinstance(cause, ssl.SSLError):
            return "TLS fails: its certificate is not trusted, or the address doesn't speak TLS"
        if isinstance(cause, socket.gaierror):
            return "the host's name can't be resolved"
        if isinstance(cause, ConnectionRefusedError):
            return "the connection is refused"
    if error.kind == "not_connected":
        return "no connection can be made"
    return FAULTS.get(error.kind, "the connection was closed before the answer was complete")


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes. aiohttp keeps the system's error in `os_error`."""
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        inner = getattr(seen, "os_error", None)
        seen = inner if isinstance(inner, BaseException) else seen.__cause__


def cleaned(message: str, secret: str) -> str:
    """A provider's message on one short line, without the words that contain a part of the secret."""
    hidden = set[str]().union(*(runs(part) for part in parts_of(secret)))
    line = "".join(letter if letter.isprintable() else " " for letter in message[: 20 * MESSAGE_LENGTH])
    short = " ".join("…" if hidden & runs(word) else word for word in line.split())
    return short if len(short) <= MESSAGE_LENGTH else short[: MESSAGE_LENGTH - 1] + "…"


def parts_of(secret: str) -> Iterator[str]:
    """The strings to hide: the secret, or all strings in its JSON."""
    try:
        waiting: list[object] = [json.loads(secret) if secret.startswith("{") else secret]
    except (ValueError, RecursionError):
        waiting = [secret]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict | list):
            waiting += part.values() if isinstance(part, dict) else part


def runs(text: str) -> set[str]:
    """Each run of REVEALING characters in a text."""
    return {text[at : at + REVEALING] for at in range(len(text) - REVEALING + 1)}
