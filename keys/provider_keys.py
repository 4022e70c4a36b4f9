"""Our accounts with providers: where they are called, and their secrets, which are encrypted and never shown again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.db import transaction

from keys import destinations, keyring, names, provider_kinds
from keys.destinations import Forbidden
from keys.errors import Unusable
from keys.issuing import check_pattern
from keys.models import Gateway, ProviderKey
from keys.timeouts import DEPLOYMENTS, Timeouts

URL_LENGTH = 500
SECRET_LENGTH = 20_000
# A bound on a wait.
LEAST_SECONDS, MOST_SECONDS = 0.1, 86_400
# They become parts of addresses.
REGION = re.compile(r"[a-z][a-z0-9-]{1,48}[a-z0-9]|us|eu")
PROJECT = re.compile(r"[a-z0-9][a-z0-9.:-]{0,98}[a-z0-9]")


def add_provider_key(
    *,
    name: str,
    provider: str,
    base_url: str = "",
    region: str = "",
    project: str = "",
    model_patterns: Iterable[str] = (),
    secret: str = "",
    timeouts: Timeouts = DEPLOYMENTS,
    retry_unanswered: bool = False,
) -> ProviderKey:
    """A new provider key that is ready to be called.

    Raises:
        Unusable: a name that is taken, a bad URL or place, an unusable pattern or patience, a missing secret.
    """
    provider_key = ProviderKey(
        name=name,
        provider=provider,
        base_url=base_url,
        region=region,
        project=project,
        model_patterns=list(model_patterns),
        retry_unanswered=retry_unanswered,
        **{f"{what}_seconds": seconds for what, seconds in asdict(timeouts).items()},
    )
    save(provider_key, secret)
    return provider_key


@transaction.atomic
def save(provider_key: ProviderKey, secret: str = "") -> None:
    """Save a new or changed provider key; without a secret it keeps the one that it has.

    Raises:
        Unusable: as `add_provider_key`.
    """
    secret = secret.strip()
    check(provider_key, secret)
    taken = f"there is a provider key “{provider_key.name}” already"
    if ProviderKey.objects.filter(name=provider_key.name).exclude(pk=provider_key.pk).exists():
        raise Unusable(taken)
    if secret:
        _take(provider_key, secret)
    with names.unique(taken):
        provider_key.save()


def set_secret(provider_key: ProviderKey, secret: str) -> None:
    """Replace its secret; calls from the next one on go out with the new one.

    Raises:
        Unusable: the secret can't be one.
    """
    secret = secret.strip()
    check_secret(provider_key.provider, secret, provider_key.base_url)
    _take(provider_key, secret)
    provider_key.save(update_fields=["secret_ciphertext", "secret_hint"])


def _take(provider_key: ProviderKey, secret: str) -> None:
    provider_key.secret_ciphertext = keyring.encrypt(secret)
    # Of a short secret, four characters would be too much to give away; those of an object say nothing.
    provider_key.secret_hint = secret[-4:] if len(secret) >= 16 and not secret.startswith("{") else ""


def check(provider_key: ProviderKey, secret: str = "") -> None:
    """Refuse a provider key that can't be called; tidies its name and URL. `secret` is the new one, if there is one.

    Raises:
        Unusable: with what is wrong.
    """
    provider_key.name = names.check(provider_key.name, "the provider key")
    if not provider_kinds.is_known(provider_key.provider):
        raise Unusable(f"the provider is one of {', '.join(provider_kinds.names())}")
    provider_key.base_url = check_base_url(provider_key.base_url, provider_key.provider)
    before = ProviderKey.objects.filter(pk=provider_key.pk).first()
    moved = before is None or (before.provider, before.base_url) != (provider_key.provider, provider_key.base_url)
    for pattern in provider_key.model_patterns:
        check_pattern(pattern)
    for field in fields(Timeouts):
        check_patience(field.name.replace("_", " "), getattr(provider_key, f"{field.name}_seconds"))
    if secret:
        check_secret(provider_key.provider, secret, provider_key.base_url)
    elif provider_kinds.find(provider_key.provider).takes_secret and not provider_key.secret_ciphertext:
        raise Unusable("its secret is missing: the provider's API key")
    elif provider_key.secret_ciphertext and before is not None and moved:
        # Or else whoever may edit this row could have the secret sent to a server of their own.
        raise Unusable("type the secret again: it would go to another address than before")
    check_place(provider_key, secret)
    if moved:
        check_destination(provider_key.base_url)
    provider_key.predates_address_checks = before is not None and not moved and before.predates_address_checks


def check_destination(base_url: str) -> None:
    """Refuse a base URL that leads where the gateway must not go.

    Raises:
        Unusable: it does.
    """
    try:
        destinations.current().check_url(base_url)
    except Forbidden as error:
        raise Unusable(f"the base URL can't be used: {error}") from None


def check_patience(what: str, seconds: float | None) -> None:
    """Refuse a time that nobody can mean.

    Raises:
        Unusable: it is too short, or longer than a day.
    """
    if seconds is not None and not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise Unusable(f"the seconds for “{what}” are {LEAST_SECONDS} to {MOST_SECONDS:,}")


def check_place(provider_key: ProviderKey, secret: str = "") -> None:
    """Refuse a place that can't be called; tidies it, and takes the project from the secret where it isn't given.

    Raises:
        Unusable: with what is wrong.
    """
    provider = provider_key.provider
    kind = provider_kinds.find(provider)
    region, project = provider_key.region.strip(), provider_key.project.strip()
    if secret and not project:
        project = kind.project_of(secret)
    for what, value, wanted, pattern in (
        ("region", region, kind.takes_region, REGION),
        ("project", project, kind.takes_project, PROJECT),
    ):
        if value and not wanted:
            raise Unusable(f"{provider} takes no {what}")
        if wanted and not value:
            raise Unusable(f"the {what} is missing: {provider} is called in one")
        if value and not pattern.fullmatch(value):
            raise Unusable(f"the {what} has characters that a {what} can't have")
    provider_key.region, provider_key.project = region, project


def check_base_url(url: str, provider: str) -> str:
    """The URL without a slash at its end; empty stands for the provider's own address.

    Raises:
        Unusable: it is no HTTP address, carries credentials, or is none that this provider can be called at.
    """
    kind = provider_kinds.find(provider)
    url = url.strip()
    if not url:
        if kind.needs_base_url:
            raise Unusable(f"the base URL is missing: {kind.needs_base_url}")
        return ""
    if not kind.takes_base_url:
        raise Unusable(f"{provider} answers by itself: it takes no base URL")
    if len(url) > URL_LENGTH or not url.isascii() or not url.isprintable() or set(url) & set(' \\"<>'):
        raise Unusable("the base URL has characters that a URL can't have")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Unusable("the base URL can't be read: expected https://host[:port][/path]") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise Unusable("the base URL is not an address: expected https://host[:port][/path]")
    if parts.username is not None or parts.password is not None:
        raise Unusable("the base URL contains credentials: give them as the secret")
    kind.check_address(url, parts)
    return url.rstrip("/")


def check_secret(provider: str, secret: str, base_url: str = "") -> None:
    """Refuse what can't be a secret of this provider at this address; the message never shows it.

    Raises:
        Unusable: it is empty, too long, or none that could or should be sent there.
    """
    if not secret:
        raise Unusable("the secret is empty")
    if len(secret) > SECRET_LENGTH:
        raise Unusable(f"the secret is longer than {SECRET_LENGTH} characters")
    if not "".join(secret.split()).isprintable():
        raise Unusable("the secret has characters that don't print")
    kind = provider_kinds.find(provider)
    kind.check_secret(secret)
    kind.check_use(secret, base_url)


@transaction.atomic
def reencrypt_all() -> int:
    """Encrypt every secret under the newest master key. Returns how many there were.

    Raises:
        Unusable: one can't be read with any master key; nothing was changed.
    """
    count = 0
    for model in apps.get_models():
        # Other apps encrypt secrets, too; they are found by the field's name.
        if not any(field.name == "secret_ciphertext" for field in model._meta.concrete_fields):
            continue
        rows: list[Any] = list(model._default_manager.select_for_update().exclude(secret_ciphertext=b"").order_by("pk"))
        for row in rows:
            try:
                row.secret_ciphertext = keyring.reencrypt(row.secret_ciphertext)
            except keyring.UnreadableSecret as error:
                raise Unusable(f"the {model._meta.verbose_name} “{row}”: {error}") from None
        model._default_manager.bulk_update(rows, ["secret_ciphertext"])
        count += len(rows)
    return count


@transaction.atomic
def rotate_master_key() -> tuple[Path, int]:
    """Add a new master key to the file and encrypt every secret under it. Returns the file and how many there were.

    Raises:
        Unusable: a secret can't be read with the master keys there are; nothing was changed.
    """
    # One rotation at a time: of two, the later file would lose the earlier one's key.
    Gateway.objects.select_for_update().first()
    reencrypt_all()
    return keyring.add_master_key(), reencrypt_all()
