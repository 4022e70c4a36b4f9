"""Requests with an `Idempotency-Key` are carried out once: a repetition within a day gets the first one's answer.

What a request changes and its stored answer are one transaction. So a request that failed, or whose process died, left
nothing, and its repetition is carried out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.utils import timezone
from rest_framework.request import Request
from rest_framework.response import Response

from administration.models import ApiToken, RestAnswer
from administration.rest.errors import RestError

KEPT = timedelta(hours=24)
LONGEST_KEY = 200
HEADER = "Idempotency-Key"
REPLAYED = "Idempotency-Replayed"


@transaction.atomic
def answer_once(request: Request, work: Callable[[], Response], *, has_secret: bool) -> Response:
    """The answer of `work`, or the stored one of the same request.

    Args:
        has_secret: the answer has a secret, so it isn't stored.

    Raises:
        RestError: 400, the key is malformed; 409, the first request is still running, or its answer had a secret;
            422, the first request was another one.
    """
    key = request.headers.get(HEADER)
    if key is None:
        return work()
    if not 1 <= len(key) <= LONGEST_KEY or not key.isprintable():
        raise RestError(400, f"{HEADER} must have 1 to {LONGEST_KEY} printable characters.")
    token: Any = request.auth
    if not _is_first(token, key):
        raise RestError(
            409, "A request with this Idempotency-Key is still running: wait, and repeat it.", "still_running"
        )
    digest = fingerprint(request)
    stored = RestAnswer.objects.filter(token=token, key=key).first()
    if stored is not None and stored.at < timezone.now() - KEPT:
        stored.delete()
        stored = None
    if stored is None:
        answer = work()
        _store(token, key, digest, answer, has_secret)
        return answer
    if bytes(stored.request) != digest:
        raise RestError(422, "Another request had this Idempotency-Key: use a new key for each request.")
    return _replay(stored)


def fingerprint(request: Request) -> bytes:
    """A digest of the request's method, URL and body."""
    digest = hashlib.sha256(f"{request.method} {request.get_full_path()}\n".encode())
    digest.update(request._request.body)
    return digest.digest()


def forget_past() -> None:
    """Delete the answers that are no longer repeated."""
    RestAnswer.objects.filter(at__lt=timezone.now() - KEPT).delete()


def _is_first(token: ApiToken, key: str) -> bool:
    """Lock this key of this token until the transaction ends; False if another transaction has it locked."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))", [f"rest {token.pk} {key}"])
        return bool(cursor.fetchone()[0])


def _store(token: ApiToken, key: str, digest: bytes, answer: Response, has_secret: bool) -> None:
    RestAnswer.objects.create(
        token=token,
        key=key,
        request=digest,
        status=answer.status_code,
        body="" if has_secret or answer.data is None else json.dumps(answer.data),
        location=answer.headers.get("Location", ""),
        etag=answer.headers.get("ETag", ""),
        has_secret=has_secret,
    )


def _replay(stored: RestAnswer) -> Response:
    headers = {"Location": stored.location, "ETag": stored.etag}
    headers = {name: value for name, value in headers.items() if value}
    if stored.has_secret:
        where = f" See {stored.location}." if stored.location else ""
        raise RestError(
            409,
            f"This request was carried out at {stored.at:%Y-%m-%d %H:%M:%S} UTC. Its answer had a secret, which is "
            f"shown only once: rotate the key if the secret was lost.{where}",
            "secret_already_shown",
            headers,
        )
    return Response(
        json.loads(stored.body) if stored.body else None, stored.status, headers=headers | {REPLAYED: "true"}
    )
