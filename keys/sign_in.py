"""Limits and logs attempts to sign in.

One SQL statement, valid for all processes, counts an attempt before its password is checked. A correct password undoes
its own count, so what remains are failures. Three limits apply to an attempt: that of the client's network, that of the
user from this network, and a much larger one of the user from anywhere. The first and the last don't apply to a user
who signed in from this network lately, so that guesses from elsewhere can't lock that user out.

Second factors and requests for a new password have counts of their own for a user, so that a known password doesn't
clear the failures of guessed codes. They share the count of the network.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import Argon2PasswordHasher
from django.core.exceptions import ValidationError
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.utils.deprecation import MiddlewareMixin

from keys.audit import notes
from keys.client_address import network_of
from keys.models import SIGN_INS_REMEMBERED

logger = logging.getLogger(__name__)

# The most characters of a user's name that are logged.
NAME_LENGTH = 80
# After how many seconds a busy process asks a client to try again.
BUSY_SECONDS = 5


@dataclass(frozen=True)
class FailureLimit:
    """A limit on failures: how many may come at once, and in how many seconds one of them expires."""

    failures: int
    seconds: int

    @property
    def step(self) -> timedelta:
        """How far one attempt moves a count into the future."""
        return timedelta(seconds=self.seconds)

    @property
    def room(self) -> timedelta:
        """How far in the future a count may lie if another attempt is to be allowed."""
        return (self.failures - 1) * self.step


NETWORK = FailureLimit(failures=30, seconds=20)
PAIR = FailureLimit(failures=5, seconds=60)
USER = FailureLimit(failures=100, seconds=30)
# Sign-ins that a network may begin without a name: with a passkey, or at the provider of single sign-on.
BEGINNINGS = FailureLimit(failures=60, seconds=5)


@dataclass(frozen=True)
class Attempts:
    """What is attempted, and how it is limited and noted.

    Attributes:
        kind: separates its counts of a user from others; empty for passwords.
        user: the limit for a user from anywhere.
        words: what the process's log calls it.
        failed: the action of a failure in the audit log.
        refused: the action of an attempt above the limit in the audit log.
    """

    kind: str
    user: FailureLimit
    words: str
    failed: str
    refused: str


PASSWORDS = Attempts("", USER, "sign-in", "failed to sign in", "refused to sign in")
# Six digits: 20 failures, and then one in five minutes, leave a guesser who knows the password a chance of one in a
# thousand in a day.
CODES = Attempts(
    "code", FailureLimit(20, 300), "second factor", "failed to prove a second factor", "refused a second factor"
)
# Each request counts as a failure, under what was typed: whether a person has this name makes no difference.
RESETS = Attempts("reset", USER, "new password", "", "refused to ask for a new password")
# Links for a new password that a person gets by e-mail, no matter who asks. Each works until a password is set.
MAILS = FailureLimit(failures=5, seconds=1800)
# Test messages to an address of alerts, no matter who sends them.
TESTS = FailureLimit(failures=10, seconds=60)
# Sessions that a virtual key opens at /my/, each for an hour: at most 120 are stored.
KEY_SESSIONS = FailureLimit(failures=60, seconds=60)

# A count is stored as the moment when its last failure expires. The network's limit is checked first, so that made-up
# user names from one network create no more rows than the network has attempts.
COUNT = """
WITH known AS (
    SELECT FROM keys_signincount WHERE subject = %(pair)s AND succeeded_at > now() - %(remembered)s
), network AS (
    INSERT INTO keys_signincount AS c (subject, forgotten_at) VALUES (%(network)s, now() + %(network_step)s)
    ON CONFLICT (subject) DO UPDATE SET forgotten_at =
        least(greatest(c.forgotten_at, now()), now() + %(network_room)s) + %(network_step)s
    WHERE c.forgotten_at <= now() + %(network_room)s OR EXISTS (SELECT FROM known)
    RETURNING 1
), pair AS (
    INSERT INTO keys_signincount AS c (subject, forgotten_at) SELECT %(pair)s, now() + %(pair_step)s FROM network
    ON CONFLICT (subject) DO UPDATE SET forgotten_at = greatest(c.forgotten_at, now()) + %(pair_step)s
    WHERE c.forgotten_at <= now() + %(pair_room)s
    RETURNING 1
), everywhere AS (
    INSERT INTO keys_signincount AS c (subject, forgotten_at) SELECT %(user)s, now() + %(user_step)s FROM pair
    ON CONFLICT (subject) DO UPDATE SET forgotten_at =
        least(greatest(c.forgotten_at, now()), now() + %(user_room)s) + %(user_step)s
    WHERE c.forgotten_at <= now() + %(user_room)s OR EXISTS (SELECT FROM known)
    RETURNING 1
)
SELECT EXISTS (SELECT FROM everywhere), (
    SELECT max(extract(epoch FROM forgotten_at - now() - CASE subject
        WHEN %(network)s THEN %(network_room)s WHEN %(pair)s THEN %(pair_room)s ELSE %(user_room)s END))
    FROM keys_signincount WHERE subject IN (%(network)s, %(pair)s, %(user)s)
)
"""
# After a correct password: clear the user's failures from this network, and undo this attempt's other counts.
SUCCEEDED = """
UPDATE keys_signincount SET
    forgotten_at = CASE subject WHEN %(pair)s THEN now() WHEN %(network)s THEN forgotten_at - %(network_step)s
        ELSE forgotten_at - %(user_step)s END,
    succeeded_at = CASE subject WHEN %(pair)s THEN now() END
WHERE subject IN (%(network)s, %(pair)s, %(user)s)
"""
# The password was not checked: undo all counts of this attempt.
NOT_TRIED = """
UPDATE keys_signincount SET forgotten_at = forgotten_at - CASE subject
    WHEN %(pair)s THEN %(pair_step)s WHEN %(network)s THEN %(network_step)s ELSE %(user_step)s END
WHERE subject IN (%(network)s, %(pair)s, %(user)s)
"""


class Refused(Exception):
    """The gateway doesn't check this password now.

    Attributes:
        status: the HTTP status of the answer.
        words: the reason, for the person who signs in.
        seconds: when to try again.
    """

    status = 429
    words = "Too many failed attempts to sign in."

    def __init__(self, seconds: int) -> None:
        super().__init__(self.words)
        self.seconds = seconds


class TooManyTokens(Refused):
    """A network has sent too many wrong tokens."""

    words = "Too many requests with a wrong token."


class TooManySessions(Refused):
    """A virtual key has opened too many sessions."""

    words = "This virtual key has signed in too often."


class Busy(Refused):
    """Too many passwords wait to be checked in this process."""

    status = 503
    words = "Too many people are signing in at the moment."


@contextlib.contextmanager
def counted(user: str, address: str, attempts: Attempts = PASSWORDS) -> Iterator[None]:
    """Count an attempt to sign in, and check the password or code within this block.

    The block raises a ValidationError if the password or code is wrong.

    Raises:
        Refused: a limit is reached, or the process is busy; the client must wait.
    """
    who = f"user {user[:NAME_LENGTH]!a} from {address}"
    values = count(user, address, attempts)
    try:
        yield
    except ValidationError:
        logger.warning("%s failed: %s", attempts.words, who)
        notes.sign_in_failed(user, attempts.failed)
        raise
    except Busy:
        logger.warning("%s refused because the process is busy: %s", attempts.words, who)
        with connection.cursor() as cursor:
            cursor.execute(NOT_TRIED, values)
        raise
    with connection.cursor() as cursor:
        cursor.execute(SUCCEEDED, values)
    logger.info("%s succeeded: %s", attempts.words, who)


def count(user: str, address: str, attempts: Attempts) -> dict[str, Any]:
    """Count an attempt, and return the values of the statements that undo it.

    Raises:
        Refused: a limit is reached; the client must wait.
    """
    values = statement_values(user, network_of(address), attempts)
    with connection.cursor() as cursor:
        cursor.execute(COUNT, values)
        allowed, seconds = cursor.fetchone()
    if not allowed:
        who = f"user {user[:NAME_LENGTH]!a} from {address}"
        logger.warning("%s refused after too many failures: %s", attempts.words, who)
        notes.sign_in_refused(user, attempts.refused)
        raise Refused(max(1, math.ceil(seconds or 1)))
    return values


# Count something of a network, person or credential, unless no allowance is left.
COUNT_ONE = """
INSERT INTO keys_signincount AS c (subject, forgotten_at) VALUES (%(subject)s, now() + %(step)s)
ON CONFLICT (subject) DO UPDATE SET forgotten_at = greatest(c.forgotten_at, now()) + %(step)s
WHERE c.forgotten_at <= now() + %(room)s
"""


def count_wrong_token(address: str) -> None:
    """Count a request whose token is not valid. A valid token is never counted, and so never refused.

    Raises:
        Refused: this network has sent too many; the client must wait.
    """
    if not _count_one(NETWORK, "token", network_of(address)):
        logger.warning("wrong API tokens refused after too many failures: from %s", address)
        raise TooManyTokens(NETWORK.seconds)
    logger.warning("an API token was refused: from %s", address)


def count_failure(kind: str, address: str) -> None:
    """Count a failure to sign in without a name.

    Raises:
        Refused: this network has failed too often; the client must wait.
    """
    if not _count_one(NETWORK, kind, network_of(address)):
        logger.warning("sign-in by %s refused after too many failures: from %s", kind, address)
        raise Refused(NETWORK.seconds)
    logger.warning("sign-in by %s failed: from %s", kind, address)
    notes.sign_in_failed("", PASSWORDS.failed)


def count_beginning(address: str) -> None:
    """Count a sign-in that begins without a name: it stores a session, and may ask another server.

    Raises:
        Refused: this network has begun too many; the client must wait.
    """
    if not _count_one(BEGINNINGS, "beginning", network_of(address)):
        raise Refused(BEGINNINGS.seconds)


def count_mail(user: str) -> bool:
    """Count a link for a new password that is to be mailed to a person, by the person's id. False: it is one too many.
    The page must not say so, because that would tell that the person exists."""
    return _count_one(MAILS, "mail", user)


def count_test(address: str) -> bool:
    """Count a test message to an e-mail address or webhook. False: it is one too many."""
    return _count_one(TESTS, "test of alerts", address.casefold())


def count_key_session(credential: int) -> None:
    """Count a session that a credential opens, by the credential's id.

    Raises:
        TooManySessions: it has opened too many; the client must wait.
    """
    if not _count_one(KEY_SESSIONS, "key session", str(credential)):
        raise TooManySessions(KEY_SESSIONS.seconds)


def _count_one(limit: FailureLimit, *parts: str) -> bool:
    values: dict[str, Any] = {"subject": subject(*parts), "step": limit.step, "room": limit.room}
    with connection.cursor() as cursor:
        cursor.execute(COUNT_ONE, values)
        return bool(cursor.rowcount)


SPEND = """
INSERT INTO keys_signincount (subject, forgotten_at) VALUES (%s, now() + interval '1 hour') ON CONFLICT DO NOTHING
"""


def spend(*parts: str) -> bool:
    """Whether a code is used for the first time, in all processes. It is remembered for an hour.

    Args:
        parts: what the code is of, such as the user and the code's time.
    """
    with connection.cursor() as cursor:
        cursor.execute(SPEND, [subject("spent", *parts)])
        return bool(cursor.rowcount)


def statement_values(user: str, network: str, attempts: Attempts = PASSWORDS) -> dict[str, Any]:
    """The values of the SQL statements' placeholders."""
    kind = [attempts.kind] if attempts.kind else []
    return {
        "network": subject("network", network),
        "network_step": NETWORK.step,
        "network_room": NETWORK.room,
        "pair": subject("pair", *kind, user, network),
        "pair_step": PAIR.step,
        "pair_room": PAIR.room,
        "user": subject("user", *kind, user),
        "user_step": attempts.user.step,
        "user_room": attempts.user.room,
        "remembered": SIGN_INS_REMEMBERED,
    }


def subject(*parts: str) -> str:
    """The digest under which a count is stored. A plain name could be a password typed into the wrong field."""
    digest = hashlib.sha256(settings.SECRET_KEY.encode())
    for part in parts:
        text = part.encode(errors="surrogatepass")
        digest.update(b"%d:%b" % (len(text), text))
    return digest.hexdigest()


class Gate:
    """Lets `at_once` threads in at a time. `waiting` more may wait, each for `seconds`."""

    def __init__(self, *, at_once: int, waiting: int, seconds: float) -> None:
        self.places = threading.BoundedSemaphore(at_once + waiting)
        self.room = threading.BoundedSemaphore(at_once)
        self.seconds = seconds

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """Hold a place within this block.

        Raises:
            Busy: too many threads wait already, or this one has waited too long.
        """
        if not self.places.acquire(blocking=False):
            raise Busy(BUSY_SECONDS)
        try:
            if not self.room.acquire(timeout=self.seconds):
                raise Busy(BUSY_SECONDS)
            try:
                yield
            finally:
                self.room.release()
        finally:
            self.places.release()


class Hasher(Argon2PasswordHasher):
    """Argon2, one at a time in a process, because each hash takes 100 MB and every core for a moment."""

    gate = Gate(at_once=1, waiting=8, seconds=10)

    def encode(self, password: str, salt: str) -> str:
        with self.gate.entered():
            encoded: str = super().encode(password, salt)
            return encoded

    def verify(self, password: str, encoded: str) -> bool:
        with self.gate.entered():
            return bool(super().verify(password, encoded))


class Middleware(MiddlewareMixin):
    """Answers a refused attempt with plain text that says when to try again."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse | None:
        if not isinstance(error, Refused):
            return None
        return HttpResponse(
            f"{error.words} Try again in {error.seconds} seconds.\n",
            status=error.status,
            content_type="text/plain; charset=utf-8",
            headers={"Retry-After": str(error.seconds)},
        )
