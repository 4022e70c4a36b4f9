"""Issues, rotates and revokes virtual keys and gateway tokens.

The function that creates a secret returns it in plain text, once. Only its digest is stored.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import F, Q
from django.db.models.functions import Least, Now
from django.utils import timezone

from keys import credentials, demo_data, keyring, names, patterns, virtual_keys
from keys.errors import Conflict, Unusable
from keys.models import (
    MOST_TOKENS,
    Credential,
    CredentialKind,
    Customer,
    Gateway,
    ModelAlias,
    ProviderKey,
    Team,
    VirtualKey,
    VirtualKeyRoute,
)
from keys.models.credentials import WITHOUT_SECRET

MAX_WEIGHT = 1_000_000
MAX_FALLBACKS = 10
MAX_OVERLAP = timedelta(days=365)
LABELS = 20
LABEL_LENGTH = 200

Routes = Sequence[tuple[ProviderKey, int]]


def issue_virtual_key(
    *,
    name: str,
    customer: Customer,
    team: Team | None = None,
    owner: str = "",
    provider_keys: Routes,
    allowed_models: Iterable[str] = (),
    denied_models: Iterable[str] = (),
    fallback_models: Iterable[str] = (),
    max_tokens: int | None = None,
    default_max_tokens: int | None = None,
    adaptive_weights: bool = False,
    expires_at: datetime | None = None,
    labels: Mapping[str, str] | None = None,
) -> tuple[VirtualKey, str]:
    """Create a virtual key that maps to these provider keys with these weights. Returns it and its plain text.

    Raises:
        Unusable: the name is taken, the team is another customer's, the expiry is past, or a pattern or weight is not
            valid.
    """
    virtual_key = VirtualKey(
        name=name,
        customer=customer,
        team=team,
        owner=owner,
        allowed_models=list(allowed_models),
        denied_models=list(denied_models),
        fallback_models=list(fallback_models),
        max_tokens=max_tokens,
        default_max_tokens=default_max_tokens,
        adaptive_weights=adaptive_weights,
        expires_at=expires_at,
        labels=dict(labels or {}),
    )
    return virtual_key, issue(virtual_key, provider_keys)


@transaction.atomic
def issue(virtual_key: VirtualKey, routes: Routes) -> str:
    """Save a new virtual key with its routes and create its first credential. Returns the plain text.

    Raises:
        Unusable: as `issue_virtual_key`.
    """
    virtual_key.name = names.check(virtual_key.name, "the virtual key")
    virtual_keys.check_name(virtual_key)
    check_expiry(virtual_key.expires_at)
    check_terms(virtual_key, [provider_key for provider_key, _ in routes])
    check_weights(routes)
    with names.unique(virtual_keys.taken(virtual_key)):
        virtual_key.save()
    VirtualKeyRoute.objects.bulk_create(
        VirtualKeyRoute(virtual_key=virtual_key, provider_key=provider_key, weight=weight)
        for provider_key, weight in routes
    )
    return hand_out(virtual_key, CredentialKind.VIRTUAL_KEY)


def all_routes() -> list[tuple[ProviderKey, int]]:
    """All active provider keys, with equal weights: the routes of a key that is issued without any.

    Raises:
        Unusable: no provider key is active.
    """
    found = ProviderKey.objects.filter(active=True)
    if not found:
        raise Unusable("there is no active provider key: add one with add_provider_key")
    return [(provider_key, 1) for provider_key in found]


def hand_out(virtual_key: VirtualKey, kind: CredentialKind, name: str = "") -> str:
    """Create a credential for this virtual key, under the newest pepper. Returns the plain text."""
    plain = credentials.make(kind)
    pepper = keyring.peppers()[0]
    first, last = credentials.ends(plain)
    Credential.objects.create(
        kind=kind,
        name=name,
        virtual_key=virtual_key,
        digest=credentials.digest(plain, pepper.key),
        pepper=pepper.name,
        first=first,
        last=last,
    )
    return plain


@transaction.atomic
def rotate(virtual_key: VirtualKey, overlap: timedelta) -> str:
    """Create a new secret for the key, and return its plain text. Older secrets work for `overlap` more.

    The database's clock decides when the overlap ends.

    Raises:
        Unusable: the key is revoked or expired, or the overlap is out of range.
    """
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise Unusable(f"the overlap must be between 0 and {MAX_OVERLAP.days} days")
    row = open_key(virtual_key)
    row.credentials.filter(kind=CredentialKind.VIRTUAL_KEY, revoked_at=None).update(
        # Least() ignores NULL. A secret that an earlier rotation already ends sooner keeps its earlier end.
        expires_at=Least(F("expires_at"), Now() + overlap)
    )
    return hand_out(row, CredentialKind.VIRTUAL_KEY)


@transaction.atomic
def end_old_secrets(virtual_key: VirtualKey) -> int:
    """End the overlap of earlier rotations now: only the newest secret works. Returns how many secrets ended.

    Raises:
        Unusable: the key is revoked, expired, or the gateway's own.
    """
    row = open_key(virtual_key)
    live = row.credentials.filter(Q(expires_at=None) | Q(expires_at__gt=Now()), revoked_at=None)
    secrets_ = live.filter(kind=CredentialKind.VIRTUAL_KEY).order_by("-pk").values_list("pk", flat=True)
    return Credential.objects.filter(pk__in=list(secrets_)[1:]).update(expires_at=Now())


def open_key(virtual_key: VirtualKey) -> VirtualKey:
    """Lock the row of a key that may get another credential, and return it.

    Raises:
        Unusable: the key is revoked, expired, or the gateway's own.
    """
    row = VirtualKey.objects.select_for_update().get(pk=virtual_key.pk)
    if row.passthrough:
        raise Unusable(f"“{row}” is the gateway's own virtual key and has no secret")
    if row.state == "revoked":
        raise Unusable(f"the virtual key “{row}” is revoked: issue another one")
    if row.state == "expired":
        raise Unusable(f"the virtual key “{row}” is expired: set a later expiry, or issue another one")
    return row


@transaction.atomic
def revoke(virtual_key: VirtualKey, cut_streams: bool = False, reason: str = "") -> None:
    """Revoke the key permanently: from now on, the arbiter refuses its calls on every process. The reason is kept.

    Open streams run to their end, unless `cut_streams` is set. Revoking a revoked key can still cut its streams; it
    changes nothing else.

    Raises:
        Unusable: the key is the gateway's own, or the reason is too long or doesn't print.
    """
    reason = check_reason(reason)
    if virtual_key.passthrough:
        raise Unusable(f"“{virtual_key}” is the gateway's own, for {names.RESERVED[virtual_key.name]}")
    row = VirtualKey.objects.filter(pk=virtual_key.pk)
    row.filter(revoked_at=None).update(revoked_at=Now(), revoke_reason=reason)
    if cut_streams:
        row.update(cut_streams_at=Now())
    virtual_key.refresh_from_db(fields=["revoked_at", "revoke_reason", "cut_streams_at", "revision"])


@transaction.atomic
def revoke_once(virtual_key: VirtualKey, cut_streams: bool, reason: str) -> None:
    """Revoke a key. Of a revoked key, this only cuts open streams: its reason stays.

    Raises:
        Unusable: as `revoke`.
        Conflict: the key was revoked already, for another reason than this one.
    """
    row = VirtualKey.objects.select_for_update(no_key=True).get(pk=virtual_key.pk)
    if row.revoked_at is not None and reason.strip() not in ("", row.revoke_reason):
        kept = f" with the reason “{row.revoke_reason}”, which stays" if row.revoke_reason else " without a reason"
        raise Conflict(f"“{row}” was already revoked on {row.revoked_at:%Y-%m-%d}{kept}")
    revoke(virtual_key, cut_streams, reason)


def check_reason(reason: str) -> str:
    """The reason of a revocation without surrounding spaces.

    Raises:
        Unusable: it is too long, or contains characters that don't print.
    """
    reason = reason.strip()
    if len(reason) > names.LENGTH or not reason.isprintable():
        raise Unusable(f"the reason must be one line of at most {names.LENGTH} printable characters")
    return reason


@transaction.atomic
def issue_gateway_token(name: str, virtual_key: VirtualKey) -> str:
    """Create a token for a person or service that calls as this virtual key. Returns the plain text.

    Raises:
        Unusable: the name is taken, or the key is revoked or expired.
    """
    name = names.check(name, "the gateway token")
    row = open_key(virtual_key)
    check_token_name(name, row)
    # The key's row is locked, so no other token of this name can be created in between.
    return hand_out(row, CredentialKind.GATEWAY_TOKEN, name)


def check_token_name(name: str, virtual_key: VirtualKey) -> None:
    """Refuse a name that another token of the same key has.

    Raises:
        Unusable: a token of this name exists and is not revoked.
    """
    if virtual_key.credentials.filter(kind=CredentialKind.GATEWAY_TOKEN, name=name, revoked_at=None).exists():
        raise Unusable(
            f"“{virtual_key}” already has a gateway token “{name}”: choose another name, or revoke that one first"
        )


def revoke_token(credential: Credential) -> None:
    """Revoke one gateway token permanently. The virtual key and its other tokens keep working."""
    Credential.objects.filter(pk=credential.pk, revoked_at=None).update(revoked_at=Now())
    credential.refresh_from_db(fields=["revoked_at"])


@transaction.atomic
def ensure_passthrough_key(customer_name: str) -> Credential:
    """The credential under which calls with a provider's own key are recorded. The first use creates it.

    It belongs to one hidden virtual key of the customer that the deployment names. No caller can present it: its
    digest is random and belongs to no secret.

    Raises:
        Unusable: there is no such customer, or the deployment has demo data.
    """
    demo_data.check_real()
    customer = Customer.objects.filter(name=customer_name).first()
    if customer is None:
        raise Unusable(f"PASSTHROUGH_CUSTOMER: there is no customer “{customer_name}”: add it, or correct the name")
    virtual_key, _ = VirtualKey.objects.select_for_update().get_or_create(
        passthrough=True, name=names.PASSTHROUGH, defaults={"customer": customer}
    )
    if virtual_key.customer_id != customer.pk:
        virtual_key.customer = customer
        virtual_key.save(update_fields=["customer"])
    credential, _ = Credential.objects.select_related("virtual_key").get_or_create(
        kind=CredentialKind.PASSTHROUGH,
        virtual_key=virtual_key,
        defaults={"name": names.PASSTHROUGH, "digest": secrets.token_bytes(32)},
    )
    return credential


def stale_credentials() -> int:
    """The number of working credentials whose digest uses a pepper that is not the newest."""
    return (
        Credential.objects.exclude(kind__in=WITHOUT_SECRET)
        .exclude(pepper=keyring.peppers()[0].name)
        .filter(Q(expires_at=None) | Q(expires_at__gt=Now()), revoked_at=None, virtual_key__revoked_at=None)
        .count()
    )


@transaction.atomic
def rotate_pepper() -> Path:
    """Add a new pepper to the file, for credentials created from now on. Returns the file."""
    # The lock allows one rotation at a time. Of two at once, the later file would lack the earlier one's pepper.
    Gateway.objects.select_for_update().first()
    return keyring.add_pepper()


def check_expiry(expires_at: datetime | None) -> None:
    """Refuse an expiry in the past.

    Raises:
        Unusable: the expiry has passed.
    """
    if expires_at and expires_at <= timezone.now():
        raise Unusable(f"the expiry {expires_at:%Y-%m-%d %H:%M} UTC is in the past: choose a later one, or none")


def check_terms(virtual_key: VirtualKey, provider_keys: Sequence[ProviderKey]) -> None:
    """Refuse a virtual key, saved or not, whose terms are invalid or contradict each other.

    Raises:
        Unusable: the team is another customer's, a label or pattern is invalid, there is no provider key, or none of
            these provider keys serves an allowed model.
    """
    team = virtual_key.team
    if team and team.customer_id != virtual_key.customer_id:
        raise Unusable(f"the team “{team}” belongs to another customer: choose a team of {virtual_key.customer}")
    check_owner(virtual_key.owner)
    check_labels(virtual_key.labels)
    for pattern in (*virtual_key.allowed_models, *virtual_key.denied_models):
        check_pattern(pattern)
    check_fallbacks(virtual_key.fallback_models)
    check_max_tokens(virtual_key)
    check_reach(virtual_key.allowed_models, provider_keys)


def check_owner(owner: str) -> None:
    """Refuse an owner that a key can't hold.

    Raises:
        Unusable: it is too long, or contains characters that don't print.
    """
    if len(owner) > names.LENGTH:
        raise Unusable(f"the owner is longer than {names.LENGTH} characters: shorten it", {"owner": []})
    if not owner.isprintable():
        raise Unusable("the owner contains characters that don't print: remove them", {"owner": []})


def check_fallbacks(models: Sequence[str]) -> None:
    """Refuse an invalid list of fallback models.

    Raises:
        Unusable: one is not a model name, or the list is too long.
    """
    if len(models) > MAX_FALLBACKS:
        raise Unusable(f"there are {len(models)} fallback models: at most {MAX_FALLBACKS} are allowed")
    for model in models:
        try:
            patterns.check_name(model)
        except ValidationError as error:
            raise Unusable(error.messages[0]) from None


def check_max_tokens(virtual_key: VirtualKey) -> None:
    """Refuse an invalid default or ceiling for `max_tokens`.

    Raises:
        Unusable: one is out of range, or the default is above the ceiling.
    """
    for tokens in (virtual_key.max_tokens, virtual_key.default_max_tokens):
        if tokens is not None and not 1 <= tokens <= MOST_TOKENS:
            raise Unusable(f"the default and the ceiling for max_tokens must be between 1 and {MOST_TOKENS}")
    try:
        virtual_key.clean()
    except ValidationError as error:
        raise Unusable(error.messages[0]) from None


def check_reach(allowed_models: Iterable[str], provider_keys: Sequence[ProviderKey]) -> None:
    """Refuse allowed models that none of the provider keys could serve.

    Raises:
        Unusable: there is no provider key, or none serves one of the models.
    """
    if not provider_keys:
        raise Unusable("a virtual key needs at least one provider key: choose one")
    if not all(provider_key.model_patterns for provider_key in provider_keys):
        return
    served = [pattern for provider_key in provider_keys for pattern in provider_key.model_patterns]
    other_names = [f"{key.provider}/{pattern}" for key in provider_keys for pattern in key.model_patterns]
    other_names += ModelAlias.objects.values_list("name", flat=True)
    for pattern in allowed_models:
        if not any(patterns.overlap(pattern, other) for other in (*served, *other_names)):
            raise Unusable(f"none of its provider keys serves “{pattern}”; they serve {', '.join(sorted(set(served)))}")


def check_pattern(pattern: str) -> None:
    """Refuse text that is not a model name or pattern.

    Raises:
        Unusable: it contains other characters than the message names.
    """
    try:
        patterns.check(pattern)
    except ValidationError as error:
        raise Unusable(error.messages[0]) from None


def check_weights(routes: Routes) -> None:
    """Refuse invalid weights.

    Raises:
        Unusable: a weight is out of range, or a provider key is listed twice.
    """
    for provider_key, weight in routes:
        if not 1 <= weight <= MAX_WEIGHT:
            raise Unusable(f"the weight of “{provider_key}” must be a whole number from 1 to {MAX_WEIGHT}")
    if len({provider_key.pk for provider_key, _ in routes}) < len(routes):
        raise Unusable("a provider key is listed twice: give each one once, with its weight")


def check_labels(labels: object) -> None:
    """Refuse labels that a ledger row can't hold: anything but an object of a few short strings.

    Raises:
        Unusable: they are another kind of value, too many, too long, or don't print.
    """
    if not isinstance(labels, dict) or len(labels) > LABELS:
        raise Unusable(f'labels must be an object of at most {LABELS} strings, like {{"project": "atlas"}}')
    for text in (*labels.keys(), *labels.values()):
        if not isinstance(text, str) or len(text) > LABEL_LENGTH or not text.isprintable():
            raise Unusable(f"labels and their values must be printable strings of at most {LABEL_LENGTH} characters")
