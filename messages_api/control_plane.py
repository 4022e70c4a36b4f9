"""Asking providers beside the path of calls, for tasks: plain HTTP, with our key, in our own name."""

from __future__ import annotations

import time

import httpx
from django.conf import settings

from keys import keyring
from keys.models import ProviderKey
from messages_api.providers import anthropic
from messages_api.upstream import tls_context

VERSION = "2023-06-01"
SECONDS = 10.0


class NoAnswer(Exception):
    """What was asked can't be had; the message says why, for administrators, without quoting anything."""


def client(provider_key: ProviderKey) -> httpx.Client:
    """A client for a provider's paths (`/v1/…`).

    Raises:
        NoAnswer: the key can't be called with.
    """
    configuration = settings.CONFIGURATION
    try:
        name, credential = anthropic.credential(keyring.decrypt(provider_key.secret_ciphertext))
        return httpx.Client(
            base_url=provider_key.base_url or anthropic.BASE_URL,
            headers={name: credential, b"anthropic-version": VERSION.encode(), b"accept-encoding": b"identity"},
            timeout=httpx.Timeout(SECONDS, connect=configuration.upstream_connect_seconds),
            verify=tls_context(configuration.ca_bundle),
            proxy=configuration.outbound_proxy or None,
            trust_env=False,
            follow_redirects=False,
        )
    except keyring.UnreadableSecret:
        raise NoAnswer("its secret can't be decrypted") from None
    except httpx.InvalidURL:
        raise NoAnswer("its address can't be called") from None


def read(
    http: httpx.Client, path: str, query: dict[str, str | int], deadline: float, most_bytes: int = 16 << 20
) -> bytes:
    """The body of an answer.

    Args:
        deadline: `time.monotonic()` by which it must be there, however it trickles in.

    Raises:
        NoAnswer: it is another one than wanted, too long or too slow.
        httpx.HTTPError: there was none.
    """
    body = b""
    with http.stream("GET", path, params=query) as answer:
        if answer.status_code != 200:
            raise NoAnswer(f"the provider answers {answer.status_code}")
        for part in answer.iter_bytes():
            body += part
            if len(body) > most_bytes or time.monotonic() > deadline:
                raise NoAnswer("the provider's answer takes too long")
    return body
