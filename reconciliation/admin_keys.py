"""Adds, changes and checks admin keys: their secrets are encrypted like those of provider keys, and never shown."""

from __future__ import annotations

from django.db import transaction
from django.utils import timezone

from keys import demo_data, keyring, names, provider_kinds
from keys.errors import Unusable
from keys.provider_keys import SECRET_LENGTH, check_destination
from reconciliation import finding
from reconciliation.http import Trouble
from reconciliation.sources import MOST_RATE, AdminKey, ReportsOf

PROBLEM_LENGTH = 300
# A person waits for a test.
SECONDS = 8.0


@transaction.atomic
def save(admin_key: AdminKey, secret: str = "") -> None:
    """Save a new or changed admin key. Without a new secret it keeps its old one.

    Raises:
        Unusable: the name is taken, the secret is missing, or another value is invalid.
    """
    secret = secret.strip()
    check(admin_key, secret)
    if secret:
        admin_key.secret_ciphertext = keyring.encrypt(secret)
        admin_key.secret_hint = secret[-4:] if len(secret) >= 16 else ""
    with names.unique(f"an admin key named “{admin_key.name}” already exists: choose another name"):
        admin_key.save()


def check(admin_key: AdminKey, secret: str = "") -> None:
    """Refuse an admin key that can't be used. Normalises its name and address.

    Args:
        secret: the new secret; empty keeps the stored one.

    Raises:
        Unusable: with what is wrong.
    """
    admin_key.name = names.check(admin_key.name, "the admin key")
    if admin_key.provider not in ReportsOf.values:
        raise Unusable(f"there are no reports of “{admin_key.provider}”: choose {', '.join(ReportsOf.values)}")
    if not 1 <= admin_key.requests_a_minute <= MOST_RATE:
        raise Unusable(f"the requests a minute must be between 1 and {MOST_RATE}")
    admin_key.base_url = check_base_url(admin_key.base_url)
    before = AdminKey.objects.filter(pk=admin_key.pk).first()
    moved = before is None or (before.provider, before.base_url) != (admin_key.provider, admin_key.base_url)
    if secret:
        demo_data.check_real()
        if len(secret) > SECRET_LENGTH:
            raise Unusable(f"the secret is longer than {SECRET_LENGTH} characters: check what you pasted")
        provider_kinds.check_header(secret)
    elif not admin_key.secret_ciphertext:
        raise Unusable("the secret is missing: give the provider's admin key")
    elif moved:
        # Otherwise a person who may edit this row could have the secret sent to their own server.
        raise Unusable("type the secret again: the provider or its address has changed, and the stored one stays here")
    if moved:
        check_destination(admin_key.base_url)


def check_base_url(url: str) -> str:
    """The address without a slash at its end; empty stands for the provider's own.

    Raises:
        Unusable: it isn't an HTTP address, or has credentials, a query or a fragment.
    """
    url = url.strip()
    if not url:
        return ""
    if not url.startswith(("https://", "http://")) or not url.isascii() or set(url) & set(' ?#@\\"<>'):
        raise Unusable("the base URL is not an HTTP address: expected https://host[:port][/path]")
    return url.rstrip("/")


def test(admin_key: AdminKey) -> str:
    """Ask the provider for a report of one hour, and store which reports this key reads. It costs nothing.

    Returns:
        What came of it, for people. Call it outside of a transaction: it takes seconds.
    """
    try:
        kind, note = finding.find(admin_key, SECONDS)
    except Trouble as trouble:
        keep_problem(admin_key, str(trouble))
        return f"it doesn't work: {trouble}"
    AdminKey.objects.filter(pk=admin_key.pk).update(kind=kind, problem=note, checked_at=timezone.now())
    return f"it reads the {kind.label}" + (f" ({note})" if note else "")


def keep_problem(admin_key: AdminKey, problem: str) -> None:
    """Store why reading failed."""
    AdminKey.objects.filter(pk=admin_key.pk).update(problem=problem[:PROBLEM_LENGTH], checked_at=timezone.now())
