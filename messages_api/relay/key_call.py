"""Tests a provider key with a call of one token.

The call takes the path of all calls, from the arbiter to the ledger, in the process of the page: with a writer of its
own, whose lease ends if that process dies. Only its caller is special: the gateway's own hidden key, mapped to the one
provider key.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.conf import settings

from keys import own_keys
from keys.directory import KnownKey
from keys.errors import Unusable
from keys.models import ProviderKey
from messages_api.callers.authentication import Presented
from messages_api.providers import cloud_errors
from messages_api.relay import key_probe, messages
from messages_api.relay.caller import Caller
from messages_api.relay.incoming import MESSAGES
from messages_api.relay.runtime import Runtime
from messages_api.relay.story import relay
from messages_api.server import errors
from messages_api.server.database_away import asking
from messages_api.server.errors import GatewayError
from messages_api.server.handler import ApiRequest, RawResponse
from usage import pricing

logger = logging.getLogger(__name__)

# A person waits for the result, and a thread that serves pages does, so a call that takes longer is cut off, and a
# process makes one at a time.
SECONDS = 20
HEADERS = [
    (b"content-type", b"application/json"),
    (b"anthropic-version", b"2023-06-01"),
    (b"x-stainless-timeout", b"%d" % SECONDS),
]
_one_at_a_time = threading.Lock()


@dataclass(frozen=True, slots=True)
class Tried:
    """The result of a test call. `call`: its id, also of its ledger row if it has one. `status`: the HTTP status that a
    client would have got. `message`: why there is no answer; short, printable, and without any part of the secret."""

    call: UUID
    status: int
    message: str
    milliseconds: int

    @property
    def works(self) -> bool:
        """Whether the model has answered."""
        return self.status == 200


@dataclass(frozen=True, slots=True)
class Tester(Caller):
    """The gateway itself as a caller, with one provider key."""

    provider_key: int

    async def renew(self) -> Caller:
        """The same caller with its key read again."""
        return replace(self, key=await own_key(self.runtime, self.key.credential, self.provider_key))


def call(provider_key: ProviderKey, model: str) -> Tried:
    """Call a model with a provider key. Don't call it within a transaction, because it takes seconds.

    Raises:
        Unusable: this process makes another test call.
        psycopg.OperationalError: the database can't be reached.
    """
    if not _one_at_a_time.acquire(blocking=False):
        raise Unusable(f"another test call is under way: try again within {SECONDS} seconds")
    try:
        credential = own_keys.ensure_test_key()
        return key_probe.run(_call(credential.pk, provider_key, model))
    finally:
        _one_at_a_time.release()


async def _call(credential: int, provider_key: ProviderKey, model: str) -> Tried:
    runtime = Runtime(settings.CONFIGURATION)
    await runtime.writer.start()
    try:
        await runtime.prices.read()
        pricing.catalogue()
        await runtime.cooldowns.read()
        return await _try(runtime, credential, provider_key, model)
    finally:
        await runtime.close()


async def _try(runtime: Runtime, credential: int, provider_key: ProviderKey, model: str) -> Tried:
    http = request()
    began = time.monotonic()
    status, body, message = 0, b"", ""
    try:
        async with asyncio.timeout(SECONDS):
            key = await own_key(runtime, credential, provider_key.pk)
            caller = Tester(runtime, http, Presented(()), key, provider_key.pk)
            answer = await relay(await messages.read(caller, MESSAGES, one_token(model)))
        assert isinstance(answer, RawResponse)
        status, body = answer.status_code, answer.body
    except GatewayError as error:
        status, message = error.status_code, error.message
    except TimeoutError:
        status, message = 504, f"no answer within {SECONDS} seconds"
    if status != 200 and body:
        message = cloud_errors.words(body)
    known = key_probe.known(provider_key)
    shown = key_probe.cleaned(message, known.secret if known is not None else "")
    return Tried(http.id, status, shown, round((time.monotonic() - began) * 1000))


async def own_key(runtime: Runtime, credential: int, provider_key: int) -> KnownKey:
    """The gateway's own key as it is now, with this provider key as its only route.

    Raises:
        GatewayError: 503, the provider key is switched off, or the database is unavailable.
    """
    with asking:
        key = await runtime.directory.of_credential(credential)
    known = runtime.directory.catalogue.get(provider_key)
    if key is None or known is None:
        raise errors.unavailable(
            "The provider key is switched off, or its secret can't be decrypted.", reason="provider_account"
        )
    return key.with_route(known)


def request() -> ApiRequest:
    """The request that a client on this machine would have sent. Its body isn't read from it."""

    async def receive() -> Any:
        await asyncio.Event().wait()

    scope = {"type": "http", "method": "POST", "path": MESSAGES.path, "query_string": b"", "headers": HEADERS}
    return ApiRequest(scope | {"client": ("127.0.0.1", 0), "scheme": "http"}, receive)


def one_token(model: str) -> bytes:
    """The body of the call."""
    asked = {"model": model, "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}
    return json.dumps(asked).encode()
