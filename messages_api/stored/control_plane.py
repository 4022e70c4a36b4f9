"""Requests to providers by background tasks: plain HTTP with a provider key, not on behalf of a client."""

from __future__ import annotations

import time
from collections.abc import Mapping

import httpx
from django.conf import settings

from keys import destinations, guarded_http, keyring
from keys.models import ProviderKey
from messages_api.providers import anthropic
from messages_api.upstream.bounded import bounding
from messages_api.upstream.client import Headers, tls_context

# Of each step, and of all that a client does: results of batches are read for an hour.
SECONDS, MOST_SECONDS = 10.0, 4000.0


BAD_ADDRESS = "its address can't be called"


class NoAnswer(Exception):
    """The request failed. The message says why, for administrators, and quotes nothing."""


def client(provider_key: ProviderKey) -> httpx.Client:
    """A client for the paths of Anthropic's API (`/v1/…`).

    Raises:
        NoAnswer: the secret can't be decrypted, or the address is invalid.
    """
    try:
        return plain_client(
            provider_key,
            provider_key.base_url or anthropic.BASE_URL,
            anthropic.own_headers(secret(provider_key), provider_key.base_url),
        )
    except httpx.InvalidURL:
        raise NoAnswer(BAD_ADDRESS) from None


def plain_client(
    provider_key: ProviderKey, base_url: str = "", headers: Headers | None = None, whole: float = MOST_SECONDS
) -> httpx.Client:
    """A client for any path of a provider.

    Args:
        whole: seconds, from now, after which the client gives up.

    Raises:
        httpx.InvalidURL: the address is invalid.
    """
    configuration = settings.CONFIGURATION
    return guarded_http.client(
        destinations.current(kept=lambda: destinations.kept_hosts([provider_key])),
        base_url=base_url,
        headers=[*(headers or []), (b"accept-encoding", b"identity")],
        timeout=httpx.Timeout(SECONDS, connect=configuration.upstream_connect_seconds),
        whole=whole,
        tls=tls_context(configuration.ca_bundle),
        proxy=configuration.outbound_proxy,
        event_hooks=bounding(),
    )


def secret(provider_key: ProviderKey) -> str:
    """The secret of a provider key.

    Raises:
        NoAnswer: it can't be decrypted.
    """
    try:
        return keyring.decrypt(provider_key.secret_ciphertext)
    except keyring.UnreadableSecret:
        raise NoAnswer("its secret can't be decrypted") from None


def read(
    http: httpx.Client,
    path: str,
    query: Mapping[str, str | int],
    deadline: float,
    most_bytes: int = 16 << 20,
    headers: Headers | None = None,
) -> bytes:
    """Ask with a GET, and read the body of the answer.

    Args:
        path: relative to the client's address, or a whole address.
        deadline: `time.monotonic()` by which the whole body must have arrived.

    Raises:
        NoAnswer: the status isn't 200, or the answer is too long or too slow.
        httpx.HTTPError: there was no answer.
    """
    body = bytearray()
    with http.stream("GET", path, params=query, headers=headers) as answer:
        if answer.status_code != 200:
            raise NoAnswer(f"the provider answers {answer.status_code}")
        for part in answer.iter_bytes():
            body += part
            if len(body) > most_bytes:
                raise NoAnswer("the provider's answer is too long")
            if time.monotonic() > deadline:
                raise NoAnswer("the provider's answer takes too long")
    return bytes(body)
