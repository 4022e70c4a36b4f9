"""Asks a provider for its reports: one GET at a time, at a bounded rate, with errors in words that show no secret."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import httpx
from django.conf import settings

from keys import destinations, guarded_http, keyring
from keys.destinations import Forbidden
from keys.product import NAME
from reconciliation import pacing
from reconciliation.sources import AdminKey
from usage.alert_sending import trusted

SECONDS = 60.0
# A page of 1,000 rows has about 600 KB.
MOST_BYTES = 32 << 20
# How often a request is repeated that the provider puts off, and how long it is waited for.
REPEATED, LONGEST_WAIT = 5, 120.0
USUAL_WAIT = 10.0
MESSAGE_LENGTH = 200
# What looks like a part of a secret in a provider's message.
SECRETS = re.compile(r"sk-[A-Za-z0-9_*.…-]+")

Query = Sequence[tuple[str, str]]


class Trouble(Exception):
    """A report can't be read now. The text says why, for people."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class PutOff(Trouble):
    """The provider wants fewer requests than this run would need to wait for."""


class Reader:
    """A connection to a provider for one admin key. Numbers in answers are Decimal, so that no digit is lost."""

    def __init__(self, admin_key: AdminKey, http: httpx.Client, base_url: str, patience: float) -> None:
        self.admin_key = admin_key
        self.patience = patience
        self.http = http
        self.base_url = admin_key.base_url or base_url
        self.requests = 0

    def get(self, path: str, query: Query, headers: dict[str, str]) -> dict[str, Any]:
        """The JSON object of an answer. A 429 is repeated after the time that it names.

        Raises:
            PutOff: the provider's wait is too long.
            Trouble: there is no answer, or it is an error.
        """
        for _ in range(REPEATED):
            if not pacing.wait_for_turn(self.admin_key, self.patience):
                break
            self.requests += 1
            status, body, wait = self._ask(path, query, headers)
            if status != 429:
                return read(status, body)
            pacing.put_off(self.admin_key, wait)
        raise PutOff("the provider takes no more requests for now (429): the next run goes on", 429)

    def _ask(self, path: str, query: Query, headers: dict[str, str]) -> tuple[int, bytes, float]:
        try:
            with self.http.stream("GET", self.base_url + path, params=list(query), headers=headers) as answer:
                parts, size = [], 0
                for part in answer.iter_bytes():
                    size += len(part)
                    if size > MOST_BYTES:
                        raise Trouble(f"the provider's answer is longer than {MOST_BYTES >> 20} MiB")
                    parts.append(part)
                return answer.status_code, b"".join(parts), retry_after(answer.headers.get("retry-after"))
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            causes = (error.__cause__, error.__cause__ and error.__cause__.__cause__)
            reason = next((str(each) for each in causes if isinstance(each, Forbidden)), type(error).__name__)
            raise Trouble(f"the provider can't be reached ({reason})") from None


def retry_after(value: str | None) -> float:
    """Seconds to wait; a usual time, if the answer doesn't say."""
    if value is not None and re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", value.strip()):
        return float(value)
    return USUAL_WAIT


def read(status: int, body: bytes) -> dict[str, Any]:
    """The JSON object of an answer.

    Raises:
        Trouble: it is an error, or isn't one.
    """
    try:
        found = json.loads(body, parse_float=Decimal)
    except (ValueError, RecursionError):
        found = None
    if status != 200:
        raise Trouble(f"the provider answered {status}{said(found)}", status)
    if not isinstance(found, dict):
        raise Trouble("the provider's answer is not a JSON object")
    return found


def said(found: Any) -> str:
    """The message of an error, cut, without what may be a secret."""
    error = found.get("error") if isinstance(found, dict) else None
    message = error.get("message") if isinstance(error, dict) else None
    if not isinstance(message, str):
        return ""
    text = SECRETS.sub("(a key)", " ".join(message.split()))
    return f": {''.join(filter(str.isprintable, text))[:MESSAGE_LENGTH]}"


@contextmanager
def reading(admin_key: AdminKey, base_url: str, patience: float = LONGEST_WAIT) -> Iterator[tuple[Reader, str]]:
    """A connection for this admin key, and its secret.

    Args:
        patience: the most seconds that a request waits for its turn.

    Raises:
        Trouble: the secret can't be decrypted.
    """
    try:
        secret = keyring.decrypt(admin_key.secret_ciphertext)
    except keyring.UnreadableSecret as error:
        raise Trouble(str(error)) from None
    with guarded_http.client(
        destinations.current(),
        timeout=min(SECONDS, patience),
        tls=trusted(),
        proxy=settings.CONFIGURATION.outbound_proxy,
        headers={"user-agent": f"{NAME} (reconciliation)"},
    ) as http:
        yield Reader(admin_key, http, base_url, patience), secret
