"""Handing out virtual keys and gateway tokens, and taking them back.

Every secret is returned in plain text once, by the function that made it; its digest is all that is kept.
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

from keys import credentials, keyring, names, patterns, virtual_keys
from keys.errors import Unusable
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
    """A new virtual key that maps to these provider keys with these weights, and its plain text.

    Raises:
        Unusable: a name that is taken, a team of another customer, a past expiry, an unusable pattern or weight.
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
    """Save a new virtual key with its routes and hand out its first credential: the plain text.

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


def hand_out(virtual_key: VirtualKey, kind: CredentialKind, name: str = "") -> str:
    """A new credential that opens this virtual key, under the newest pepper: its plain text."""
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
    """A new secret for the key: its plain text. The older ones work for `overlap` more, by the database's clock.

    Raises:
        Unusable: the key is revoked or expired, or the overlap is out of range.
    """
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        raise Unusable(f"an overlap is between 0 and {MAX_OVERLAP.days} days")
    row = open_key(virtual_key)
    row.credentials.filter(kind=CredentialKind.VIRTUAL_KEY, revoked_at=None).update(
        # Least() passes over NULL: a secret that an earlier rotation ends sooner ends then.
        expires_at=Least(F("expires_at"), Now() + overlap)
    )
    return hand_out(row, CredentialKind.VIRTUAL_KEY)


def open_key(virtual_key: VirtualKey) -> VirtualKey:
    """The key's row, locked, as one that may be handed out again.

    Raises:
        Unusable: it is revoked, expired, or the gateway's own.
    """
    row = VirtualKey.objects.select_for_update().get(pk=virtual_key.pk)
    if row.passthrough:
        raise Unusable(f"“{row}” is the gateway's own and has no secret")
    if row.state in ("revoked", "expired"):
        raise Unusable(f"the virtual key “{row}” is {row.state}")
    return row


@transaction.atomic
def revoke(virtual_key: VirtualKey, cut_streams: bool = False) -> None:
    """Take the key back for good: no call that reaches the arbiter after this is let in, on any process.

    Streams that are open run to their end, unless `cut_streams`. Revoking again may still cut them, and moves nothing
    else.

    Raises:
        Unusable: the key is the gateway's own.
    """
    if virtual_key.passthrough:
        raise Unusable(f"“{virtual_key}” is the gateway's own: unset PASSTHROUGH_CUSTOMER to end it")
    row = VirtualKey.objects.filter(pk=virtual_key.pk)
    row.filter(revoked_at=None).update(revoked_at=Now())
    if cut_streams:
        row.update(cut_streams_at=Now())
    virtual_key.refresh_from_db(fields=["revoked_at", "cut_streams_at", "revision"])


@transaction.atomic
def issue_gateway_token(name: str, virtual_key: VirtualKey) -> str:
    """A token for a person or service that calls as this virtual key: its plain text.

    Raises:
        Unusable: the name is taken, or the key is revoked or expired.
    """
    name = names.check(name, "the gateway token")
    row = open_key(virtual_key)
    check_token_name(name, row)
    # The key's row is locked: no other token is handed out meanwhile.
    return hand_out(row, CredentialKind.GATEWAY_TOKEN, name)


def check_token_name(name: str, virtual_key: VirtualKey) -> None:
    """Refuse a name that another token of the same key has.

    Raises:
        Unusable: it does, and is not revoked.
    """
    if virtual_key.credentials.filter(kind=CredentialKind.GATEWAY_TOKEN, name=name, revoked_at=None).exists():
        raise Unusable(f"there is a gateway token “{name}” of “{virtual_key}” already that is not revoked")


def revoke_token(credential: Credential) -> None:
    """Take one gateway token back for good; the virtual key and its other tokens go on."""
    Credential.objects.filter(pk=credential.pk, revoked_at=None).update(revoked_at=Now())
    credential.refresh_from_db(fields=["revoked_at"])


@transaction.atomic
def ensure_passthrough_key(customer_name: str) -> Credential:
    """The credential under which calls with a provider's own key are recorded, made at its first use.

    It opens one hidden virtual key, which belongs to the customer that the deployment names now. Nobody can present
    it: its digest is the digest of nothing.

    Raises:
        Unusable: there is no such customer.
    """
    customer = Customer.objects.filter(name=customer_name).first()
    if customer is None:
        raise Unusable(f"PASSTHROUGH_CUSTOMER: there is no customer “{customer_name}”")
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
    """How many working credentials rest on a pepper that is not the newest."""
    return (
        Credential.objects.exclude(kind=CredentialKind.PASSTHROUGH)
        .exclude(pepper=keyring.peppers()[0].name)
        .filter(Q(expires_at=None) | Q(expires_at__gt=Now()), revoked_at=None, virtual_key__revoked_at=None)
        .count()
    )


@transaction.atomic
def rotate_pepper() -> Path:
    """Add a new pepper to the file, for the credentials that are made from now on. Returns the file."""
    # One rotation at a time: of two, the later file would lose the earlier one's pepper.
    Gateway.objects.select_for_update().first()
    return keyring.add_pepper()


def check_expiry(expires_at: datetime | None) -> None:
    """Refuse an end that lies behind us.

    Raises:
        Unusable: it does.
    """
    if expires_at and expires_at <= timezone.now():
        raise Unusable(f"the expiry {expires_at:%Y-%m-%d %H:%M} UTC is in the past")


def check_terms(virtual_key: VirtualKey, provider_keys: Sequence[ProviderKey]) -> None:
    """Refuse a key, saved or not, whose terms can't be meant.

    Raises:
        Unusable: a team of another customer, labels that a ledger row can't carry, a pattern that isn't one, no
            provider key, or an allowed model that none of these provider keys serves.
    """
    team = virtual_key.team
    if team and team.customer_id != virtual_key.customer_id:
        raise Unusable(f"the team “{team}” belongs to another customer")
    if virtual_key.owner and not virtual_key.owner.isprintable():
        raise Unusable("the owner has characters that don't print")
    check_labels(virtual_key.labels)
    for pattern in (*virtual_key.allowed_models, *virtual_key.denied_models):
        check_pattern(pattern)
    check_fallbacks(virtual_key.fallback_models)
    check_max_tokens(virtual_key)
    check_reach(virtual_key.allowed_models, provider_keys)


def check_fallbacks(models: Sequence[str]) -> None:
    """Refuse a list of fallbacks that can't be meant.

    Raises:
        Unusable: one is no model's name, or there are too many of them.
    """
    if len(models) > MAX_FALLBACKS:
        raise Unusable(f"more than {MAX_FALLBACKS} fallbacks")
    for model in models:
        try:
            patterns.check_name(model)
        except ValidationError as error:
            raise Unusable(error.messages[0]) from None


def check_max_tokens(virtual_key: VirtualKey) -> None:
    """Refuse numbers of tokens that can't be meant.

    Raises:
        Unusable: one is out of range, or the default is above the ceiling.
    """
    for tokens in (virtual_key.max_tokens, virtual_key.default_max_tokens):
        if tokens is not None and not 1 <= tokens <= MOST_TOKENS:
            raise Unusable(f"max_tokens are from 1 to {MOST_TOKENS}")
    try:
        virtual_key.clean()
    except ValidationError as error:
        raise Unusable(error.messages[0]) from None


def check_reach(allowed_models: Iterable[str], provider_keys: Sequence[ProviderKey]) -> None:
    """Refuse allowed models that no call could ever be served for.

    Raises:
        Unusable: there is no provider key, or none of them serves one of the models.
    """
    if not provider_keys:
        raise Unusable("a virtual key needs at least one provider key")
    if not all(provider_key.model_patterns for provider_key in provider_keys):
        return
    served = [pattern for provider_key in provider_keys for pattern in provider_key.model_patterns]
    other_names = [f"{key.provider}/{pattern}" for key in provider_keys for pattern in key.model_patterns]
    other_names += ModelAlias.objects.values_list("name", flat=True)
    for pattern in allowed_models:
        if not any(patterns.overlap(pattern, other) for other in (*served, *other_names)):
            raise Unusable(f"none of its provider keys serves “{pattern}”; they serve {', '.join(sorted(set(served)))}")


def check_pattern(pattern: str) -> None:
    """Refuse what can't be a model's name or pattern.

    Raises:
        Unusable: with a sentence that says which characters can.
    """
    try:
        patterns.check(pattern)
    except ValidationError as error:
        raise Unusable(error.messages[0]) from None


def check_weights(routes: Routes) -> None:
    """Refuse shares that can't be shared out.

    Raises:
        Unusable: a weight out of range, or a provider key that is named twice.
    """
    for provider_key, weight in routes:
        if not 1 <= weight <= MAX_WEIGHT:
            raise Unusable(f"the weight of “{provider_key}” is a whole number from 1 to {MAX_WEIGHT}")
    if len({provider_key.pk for provider_key, _ in routes}) < len(routes):
        raise Unusable("a provider key is named twice")


def check_labels(labels: object) -> None:
    """Refuse labels that a ledger row can't carry: an object of short strings is what it can.

    Raises:
        Unusable: anything else.
    """
    if not isinstance(labels, dict) or len(labels) > LABELS:
        raise Unusable(f'labels are an object of at most {LABELS} strings, like {{"project": "atlas"}}')
    for text in (*labels.keys(), *labels.values()):
        if not isinstance(text, str) or len(text) > LABEL_LENGTH or not text.isprintable():
            raise Unusable(f"labels and their values are printable strings of at most {LABEL_LENGTH} characters")
