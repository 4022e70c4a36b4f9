"""Issues, finds and revokes tokens for the REST API.

A token is `sk-ba-`, 43 random letters and digits, and 6 of checksum, like the credentials of callers
(keys/credentials.py). Its plain text is returned once; the database has its digest.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from datetime import datetime, timedelta

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Q
from django.db.models.functions import Now
from django.utils import timezone

from administration.models import ApiToken
from administration.rest import scopes as known_scopes
from keys import credentials, keyring, names
from keys.errors import Unusable

PREFIX = "sk-ba-"
LONGEST = timedelta(days=366)
# The time of the last use is written at most once in this time.
USE_NOTED_EVERY = timedelta(minutes=1)


@transaction.atomic
def issue(user: AbstractBaseUser, name: str, scopes: Iterable[str], expires_at: datetime) -> tuple[ApiToken, str]:
    """Create a token of a person. Returns it and its plain text.

    Raises:
        Unusable: the person has a token of this name or lacks a second factor that is demanded, a scope doesn't exist,
            or the expiry is past or too far away.
    """
    check_person(user)
    name = names.check(name, "the token")
    check_expiry(expires_at)
    plain = credentials.make_secret(PREFIX)
    pepper = keyring.peppers()[0]
    first, last = credentials.ends(plain)
    token = ApiToken(
        user_id=user.pk,
        name=name,
        digest=credentials.digest(plain, pepper.key),
        pepper=pepper.name,
        first=first,
        last=last,
        scopes=known_scopes.check(scopes),
        expires_at=expires_at,
    )
    with names.unique(f"{user.get_username()} already has a token “{name}”: choose another name, or revoke that one"):
        token.save()
    token.refresh_from_db()
    return token, plain


def check_person(user: AbstractBaseUser) -> None:
    """Refuse a person of whom a second factor is demanded, and who has none: pages refuse this person as well.

    Raises:
        Unusable: the person has to set one up first.
    """
    # Processes that serve no pages import this module too, and have no allauth.
    from administration.sign_in import second_factor

    if second_factor.is_missing(user):
        raise Unusable(
            f"{user.get_username()} needs a second factor (SECOND_FACTOR_ROLES): sign in, and set one up under Your "
            "account"
        )


def check_expiry(expires_at: datetime) -> None:
    """Refuse an expiry that is past or too far away.

    Raises:
        Unusable: it is.
    """
    now = timezone.now()
    if expires_at <= now:
        raise Unusable(f"the expiry {expires_at:%Y-%m-%d %H:%M} UTC is in the past: choose a later one")
    if expires_at > now + LONGEST:
        raise Unusable(f"a token expires after at most {LONGEST.days} days: choose an earlier expiry")


def is_intact(text: str) -> bool:
    """Whether a text has the form of a token. It may still be revoked or made up."""
    return credentials.is_intact(text, (PREFIX,))


def find(text: str) -> ApiToken | None:
    """The usable token of this plain text, with its person; None if it is unknown, revoked, expired, or its person may
    no longer sign in."""
    if not is_intact(text):
        return None
    digests = [credentials.digest(text, pepper.key) for pepper in keyring.peppers()]
    usable = Q(revoked_at=None, expires_at__gt=Now(), user__is_active=True)
    # The index compares keyed digests, whose bytes say nothing about the token's.
    for token in ApiToken.objects.select_related("user").filter(usable, digest__in=digests):
        if any(hmac.compare_digest(bytes(token.digest), digest) for digest in digests):
            return token
    return None


def note_use(token: ApiToken, address: str) -> None:
    """Store when and from where the token was used last."""
    now = timezone.now()
    if token.last_used_at is not None and token.last_used_at > now - USE_NOTED_EVERY:
        return
    stale = Q(last_used_at=None) | Q(last_used_at__lt=now - USE_NOTED_EVERY)
    ApiToken.objects.filter(stale, pk=token.pk).update(last_used_at=now, last_used_from=address[:60])


def revoke(token: ApiToken) -> None:
    """Refuse the token from the next request on, permanently."""
    ApiToken.objects.filter(pk=token.pk, revoked_at=None).update(revoked_at=Now())
    token.refresh_from_db(fields=["revoked_at"])
