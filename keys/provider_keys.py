"""Adds, changes and checks provider keys: our accounts with providers. Their secrets are encrypted and never shown."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.apps import apps
from django.db import transaction

from keys import demo_data, destinations, keyring, names, provider_kinds
from keys.destinations import Forbidden
from keys.errors import Unusable
from keys.issuing import check_pattern
from keys.models import Gateway, ProviderKey
from keys.timeouts import DEPLOYMENTS, Timeouts

URL_LENGTH = 500
SECRET_LENGTH = 20_000
# Range of each timeout of a provider key.
LEAST_SECONDS, MOST_SECONDS = 0.1, 86_400
# Regions and projects become parts of URLs, so only these characters are allowed.
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
    """Create a provider key that is ready to be called.

    Raises:
        Unusable: the name is taken, the secret is missing, or another value is invalid.
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
    """Save a new or changed provider key. Without a new secret it keeps its old one.

    Raises:
        Unusable: as `add_provider_key`.
    """
    secret = secret.strip()
    check(provider_key, secret)
    taken = f"a provider key named “{provider_key.name}” already exists: choose another name"
    if ProviderKey.objects.filter(name=provider_key.name).exclude(pk=provider_key.pk).exists():
        raise Unusable(taken)
    if secret:
        _take(provider_key, secret)
    with names.unique(taken):
        provider_key.save()


def set_secret(provider_key: ProviderKey, secret: str) -> None:
    """Replace the secret. The next call already uses the new one.

    Raises:
        Unusable: the secret is not valid for this provider.
    """
    secret = secret.strip()
    check_secret(provider_key.provider, secret, provider_key.base_url)
    _take(provider_key, secret)
    provider_key.save(update_fields=["secret_ciphertext", "secret_hint"])


def _take(provider_key: ProviderKey, secret: str) -> None:
    provider_key.secret_ciphertext = keyring.encrypt(secret)
    # Four characters of a short secret would reveal too much, and the last four of a JSON object tell people nothing.
    provider_key.secret_hint = secret[-4:] if len(secret) >= 16 and not secret.startswith("{") else ""


def check(provider_key: ProviderKey, secret: str = "") -> None:
    """Refuse a provider key that can't be called. Normalises its name, URL, region and project.

    Args:
        secret: the new secret; empty keeps the stored one.

    Raises:
        Unusable: with what is wrong.
    """
    provider_key.name = names.check(provider_key.name, "the provider key")
    if not provider_kinds.is_known(provider_key.provider):
        raise Unusable(f"there is no provider “{provider_key.provider}”: choose {', '.join(provider_kinds.names())}")
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
        raise Unusable("the secret is missing: give the provider's API key")
    elif provider_key.secret_ciphertext and before is not None and moved:
        # Otherwise a person who may edit this row could have the secret sent to their own server.
        raise Unusable(
            "type the secret again: the provider or its address has changed, and the stored secret must not go there"
        )
    check_place(provider_key, secret)
    if moved:
        check_destination(provider_key.base_url)
    provider_key.predates_address_checks = before is not None and not moved and before.predates_address_checks


def check_destination(base_url: str) -> None:
    """Refuse a base URL whose host the gateway must not connect to.

    Raises:
        Unusable: the host is forbidden.
    """
    try:
        destinations.current().check_url(base_url)
    except Forbidden as error:
        raise Unusable(f"the base URL can't be used: {error}") from None


def check_patience(what: str, seconds: float | None) -> None:
    """Refuse a timeout that is out of range.

    Raises:
        Unusable: it is too short, or longer than a day.
    """
    if seconds is not None and not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise Unusable(f"the seconds for “{what}” must be between {LEAST_SECONDS} and {MOST_SECONDS:,}")


def check_place(provider_key: ProviderKey, secret: str = "") -> None:
    """Refuse a region or project that this provider can't be called with. Takes a missing project from the secret.

    Raises:
        Unusable: the region or project is missing, not taken by this provider, or malformed.
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
            raise Unusable(f"{provider} takes no {what}: leave it empty")
        if wanted and not value:
            raise Unusable(f"the {what} is missing: {provider} needs one")
        if value and not pattern.fullmatch(value):
            raise Unusable(f"the {what} contains characters that a {what} can't have: copy it from the provider")
    provider_key.region, provider_key.project = region, project


def check_base_url(url: str, provider: str) -> str:
    """The URL without a slash at its end. Empty stands for the provider's own address.

    Raises:
        Unusable: it is missing, not an HTTP address, contains credentials, or does not suit this provider.
    """
    kind = provider_kinds.find(provider)
    url = url.strip()
    if not url:
        if kind.needs_base_url:
            raise Unusable(f"the base URL is missing: {kind.needs_base_url}")
        return ""
    if not kind.takes_base_url:
        raise Unusable(f"{provider} is built in and takes no base URL: leave it empty")
    if len(url) > URL_LENGTH or not url.isascii() or not url.isprintable() or set(url) & set(' \\"<>'):
        raise Unusable("the base URL contains characters that a URL can't have, or is too long")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Unusable("the base URL is malformed: expected https://host[:port][/path]") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise Unusable("the base URL is not an HTTP address: expected https://host[:port][/path]")
    if parts.username is not None or parts.password is not None:
        raise Unusable("the base URL contains credentials: give them as the secret")
    kind.check_address(url, parts)
    return url.rstrip("/")


def check_secret(provider: str, secret: str, base_url: str = "") -> None:
    """Refuse a secret that is not valid for this provider at this address. The message never shows it.

    Raises:
        Unusable: it is empty, too long, malformed, or must not be sent to this address.
    """
    if not secret:
        raise Unusable("the secret is empty: give the provider's API key")
    demo_data.check_real()
    if len(secret) > SECRET_LENGTH:
        raise Unusable(f"the secret is longer than {SECRET_LENGTH} characters: check what you pasted")
    if not "".join(secret.split()).isprintable():
        raise Unusable("the secret contains characters that don't print")
    kind = provider_kinds.find(provider)
    kind.check_secret(secret)
    kind.check_use(secret, base_url)


@transaction.atomic
def reencrypt_all() -> int:
    """Encrypt every stored secret under the newest master key. Returns the number of secrets.

    Raises:
        Unusable: no master key decrypts one of them; nothing was changed.
    """
    count = 0
    for model in apps.get_models():
        # Other apps store encrypted secrets too. Their models have a field of this name.
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
    return count + sum(reencrypt() for reencrypt in keyring.REENCRYPTED_TOO)


@transaction.atomic
def rotate_master_key() -> tuple[Path, int]:
    """Add a new master key to the file and encrypt every secret under it. Returns the file and the number of secrets.

    Raises:
        Unusable: no master key decrypts one of the secrets; nothing was changed.
    """
    # The lock allows one rotation at a time. Of two at once, the later file would lack the earlier one's key.
    Gateway.objects.select_for_update().first()
    reencrypt_all()
    return keyring.add_master_key(), reencrypt_all()


@transaction.atomic
def prepare_master_key() -> Path:
    """Add a master key that decrypts and doesn't encrypt yet, for machines that don't share the file; the file."""
    Gateway.objects.select_for_update().first()
    return keyring.prepare_master_key()


@transaction.atomic
def use_prepared_master_key() -> tuple[Path, int]:
    """Encrypt every secret under the master key that was prepared. Returns the file and the number of secrets.

    Raises:
        Unusable: none was prepared, or no master key decrypts one of the secrets; nothing was changed.
    """
    Gateway.objects.select_for_update().first()
    if len(keyring.lines("master_keys")) < 2:
        raise Unusable("no master key was prepared: run rotate_master_key --prepare first")
    reencrypt_all()
    return keyring.use_last_master_key(), reencrypt_all()


@transaction.atomic
def forget_older_master_keys() -> int:
    """Keep only the newest master key, which decrypts every secret. Returns the number of secrets. Where the
    environment has the list, nothing is changed: people can shorten it then.

    Raises:
        Unusable: an older master key is still needed; nothing was changed.
    """
    Gateway.objects.select_for_update().first()
    with keyring.newest_alone():
        count = reencrypt_all()
    if not keyring.in_environment("master_keys"):
        keyring.forget_older_master_keys()
    return count
