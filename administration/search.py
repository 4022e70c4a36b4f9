"""What the search box finds: keys, customers, teams, calls, sessions, batches, files and provider keys.

Each look-up uses an index or reads a bounded number of rows, and asks the page of its table for the rows that this
person may see. No text is ever part of a URL, since it may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.auth.models import AnonymousUser
from django.db import connection
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse

from administration.roles import names
from keys import credentials, key_search, keyring
from keys.models import Credential, CredentialKind, Customer, GatewayToken, ProviderKey, Team, VirtualKey
from keys.virtual_keys import END, ID
from keys.visibility import visible
from messages_api.models import Batch, File
from messages_api.refusal_admin import minutes
from usage import archived, request_ids
from usage.models import Hold, LedgerEntry, Refusal

# Results of one kind that are shown, and the longest text that is looked for.
MOST = 10
LONGEST = 250
# A session is no column of the ledger: it is looked for among this many calls, the latest ones.
LATEST_CALLS = 20_000
CALLS_OF_SESSION = 100
OF_SESSION = """
SELECT l.id FROM (SELECT id, client_labels FROM usage_ledgerentry ORDER BY id DESC LIMIT %s) AS l
WHERE l.client_labels->>%s = %s LIMIT %s
"""
# The label under which the ledger keeps a client's session (messages_api/relay/incoming.py).
SESSION = "claude_code_session"
# What may be a secret of a provider or of the gateway. It is neither shown again nor compared with names.
SECRET = re.compile(r"\s*(?:sk|gt|pk|key)-\S{16,}\s*|\S{40,}")

# The pages that are made for a row. Each shows only what its person may see.
PAGES: dict[type[Model], str] = {
    VirtualKey: "admin:key",
    Customer: "admin:customer",
    Team: "admin:team",
    ProviderKey: "admin:provider_key",
    LedgerEntry: "admin:call",
}


@dataclass(frozen=True, slots=True)
class Found:
    """A result: what kind of thing it is, its name, a line about it, and its page."""

    kind: str
    name: str
    about: str
    url: str


def find(request: HttpRequest, text: str) -> list[Found]:
    """What a text may mean, of what this person may see: at most `MOST` results of each kind."""
    text = text.replace("\0", "").strip()
    if not text or len(text) > LONGEST or isinstance(request.user, AnonymousUser):
        return []
    if credentials.is_ours(text):
        return [*_owners_of_secret(request, text)]
    found = [result for look in LOOK_UPS for result in look(request, text)]
    return list(dict.fromkeys(found or _session(request, text)))


def may_be_secret(text: str) -> bool:
    """Whether a text may be a secret, so that it must not be shown again."""
    return SECRET.fullmatch(text) is not None


def _visible(request: HttpRequest, model: type[Model]) -> QuerySet[Any]:
    """The rows of a table that this person may see."""
    page = admin.site._registry[model]
    if not page.has_view_or_change_permission(request):
        return model._default_manager.none()
    return visible(request.user, page.get_queryset(request))


def _page(row: Model) -> str:
    """The page that is made for a row, or else the page of its columns."""
    if name := PAGES.get(type(row)):
        return reverse(name, args=[request_ids.request_id(row.pk) if isinstance(row, LedgerEntry) else row.pk])
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


# Keys


def _key(row: VirtualKey) -> Found:
    return Found("Virtual key", row.name, f"{row.belongs_to}, {row.state}", _page(row))


def _token(row: GatewayToken) -> Found:
    about = f"of {row.virtual_key.full_name}{', revoked' if row.revoked_at else ''}"
    return Found("Gateway token", row.name or str(row), about, _page(row))


def _of_credentials(request: HttpRequest, fitting: QuerySet[Credential]) -> Iterator[Found]:
    """The virtual keys and gateway tokens that have one of these credentials, for people who may see their ends."""
    if not request.user.has_perm(names.VIEW_CREDENTIAL):
        return
    rows = list(fitting.values_list("pk", "kind", "virtual_key_id")[: 2 * MOST])
    keys = [key for _, kind, key in rows if kind == CredentialKind.VIRTUAL_KEY]
    tokens = [pk for pk, kind, _ in rows if kind == CredentialKind.GATEWAY_TOKEN]
    if keys:
        yield from map(
            _key, _visible(request, VirtualKey).filter(pk__in=keys).select_related("customer", "team")[:MOST]
        )
    if tokens:
        issued = _visible(request, GatewayToken).filter(pk__in=tokens)
        yield from map(_token, issued.select_related("virtual_key__customer", "virtual_key__team")[:MOST])


def _owners_of_secret(request: HttpRequest, text: str) -> Iterator[Found]:
    """The key of a whole secret; of a mistyped one, the keys that end like it."""
    if credentials.is_intact(text):
        digests = [credentials.digest(text, pepper.key) for pepper in keyring.peppers()]
        return _of_credentials(request, Credential.objects.filter(digest__in=digests))
    return _of_credentials(request, Credential.objects.filter(last=credentials.ends(text)[1]))


def _by_end(request: HttpRequest, text: str) -> Iterator[Found]:
    end = END.fullmatch(text)
    return _of_credentials(request, Credential.objects.filter(last=end[1])) if end else iter(())


def _keys_by_name(request: HttpRequest, text: str) -> Iterator[Found]:
    """Keys by name, `Acme/ci` or `id:17`: the exact name first, then those that the list of keys finds."""
    rows = _visible(request, VirtualKey).select_related("customer", "team").order_by()
    *owners, name = (part.strip() for part in text.split("/"))
    for owner in owners:
        rows = rows.filter(Q(customer__name__iexact=owner) | Q(team__name__iexact=owner))
    found = [*rows.filter(name=name)[:MOST], *rows.filter(key_search.fits(name))[:MOST]] if name else []
    if number := ID.fullmatch(text):
        found += rows.filter(pk=int(number[1]))
    return map(_key, list(dict.fromkeys(found))[:MOST])


# Owners and providers


def _customers(request: HttpRequest, text: str) -> Iterator[Found]:
    for row in _visible(request, Customer).filter(name__icontains=text).order_by("name")[:MOST]:
        yield Found("Customer", row.name, "paused" if row.paused else "", _page(row))


def _teams(request: HttpRequest, text: str) -> Iterator[Found]:
    owner, slash, name = text.rpartition("/")
    rows = _visible(request, Team).filter(name__icontains=name.strip() if slash else text)
    rows = rows.filter(customer__name__icontains=owner.strip()) if slash else rows
    for row in rows.order_by("name")[:MOST]:
        yield Found("Team", row.name, f"of {row.customer.name}{', paused' if row.paused else ''}", _page(row))


def _provider_keys(request: HttpRequest, text: str) -> Iterator[Found]:
    end = text.lstrip("…")
    rows = _visible(request, ProviderKey).filter(Q(name__icontains=text) | Q(secret_hint=end, secret_hint__gt=""))
    for row in rows.order_by("name")[:MOST]:
        yield Found("Provider key", row.name, row.kind.label, _page(row))


# Calls


def _id_of(text: str) -> UUID | None:
    try:
        return request_ids.parse(text)
    except ValueError:
        return None


def _calls(request: HttpRequest, text: str) -> Iterator[Found]:
    """A call by our request id or the provider's, whether it is recorded, in progress or refused."""
    call = _id_of(text)
    by_id = Q(pk=call) if call else Q(provider_request_id=text)
    for row in _visible(request, LedgerEntry).filter(by_id).order_by()[:MOST]:
        about = f"{row.virtual_key}, {row.model}, {row.get_status_display()}"
        yield Found("Call", request_ids.request_id(row.pk), about, _page(row))
    if call is None:
        return
    month = archived.of_call(call)
    may_see = month is not None and request.user.has_perm("usage.view_ledgerentry")
    if month is not None and may_see and not LedgerEntry.objects.filter(pk=call).exists():
        name = request_ids.request_id(call)
        yield Found("Archived call", name, archived.in_words([month]), reverse("admin:call", args=[name]))
    for row in _visible(request, Hold).filter(pk=call):
        yield Found("Call in progress", request_ids.request_id(row.pk), row.requested_model, _page(row))
    refusals = _visible(request, Refusal)
    for row in refusals.filter(pk=call).select_related("virtual_key"):
        yield Found("Refused call", request_ids.request_id(row.pk), str(row.virtual_key or ""), _page(row))
    if request_ids.PREFIX in text and not refusals.filter(pk=call).exists():
        counted = refusals.filter(minute__in=minutes(call)).order_by().first()
        if counted is not None and not LedgerEntry.objects.filter(pk=call).exists():
            about = "it may be one of those that were only counted in that minute"
            yield Found("Refused call", request_ids.request_id(call), about, _page(counted))


def _stored(request: HttpRequest, text: str) -> Iterator[Found]:
    """A batch or file by the provider's id."""
    accounts = list(ProviderKey.objects.values_list("pk", flat=True))
    batches = _visible(request, Batch).filter(provider_key__in=accounts, provider_batch_id=text)
    for row in batches.exclude(provider_batch_id="").select_related("virtual_key").order_by()[:MOST]:
        yield Found("Batch", row.provider_batch_id, f"of {row.virtual_key}, {row.get_state_display()}", _page(row))
    for row in _visible(request, File).filter(pk=text).select_related("virtual_key"):
        yield Found("File", row.pk, f"of {row.virtual_key}", _page(row))


def _session(request: HttpRequest, text: str) -> Iterator[Found]:
    """The latest calls of a client's session."""
    rows = _visible(request, LedgerEntry)
    if len(text) < 8:
        return
    with connection.cursor() as cursor:
        cursor.execute(OF_SESSION, [LATEST_CALLS, SESSION, text, CALLS_OF_SESSION])
        calls = [row[0] for row in cursor.fetchall()]
    for row in rows.filter(pk__in=calls)[:MOST]:
        about = f"of this session, {row.virtual_key}, {row.model}"
        yield Found("Call", request_ids.request_id(row.pk), about, _page(row))


LOOK_UPS: tuple[Callable[[HttpRequest, str], Iterator[Found]], ...] = (
    _keys_by_name,
    _by_end,
    _customers,
    _teams,
    _provider_keys,
    _calls,
    _stored,
)
