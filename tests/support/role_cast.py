"""A person of each role, and a row of every page that belongs to Alice's team."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.apps import apps
from django.contrib.auth.models import User
from django.db import connection
from django.db.models import Model
from django.utils import timezone

from administration.models import ApiToken, Person
from administration.role_names import Role
from administration.roles import giving
from billing import closing as closings
from billing.covers import Sum
from billing.drafts import Draft, Period
from billing.models import Closing, Issuer, Particulars, Statement
from keys import issuing
from keys.audit.models import AuditEvent
from keys.models import (
    Cooldown,
    Customer,
    Gateway,
    GatewayToken,
    ModelAlias,
    Performance,
    ProviderKey,
    Team,
    VirtualKey,
)
from messages_api.models import Batch, File
from reconciliation.models import AdjustmentRun, AdminKey, Bill, BillFormat, Comparison, ReportedKey
from tests.support.ledger_rows import make_entry
from usage.models import (
    Adjustment,
    Alert,
    AlertTarget,
    Budget,
    Delivery,
    ExchangeRate,
    FreeCalls,
    Hold,
    LedgerEntry,
    Limit,
    Overrun,
    Price,
    Process,
    Refusal,
    Retained,
    SavedReport,
    Worker,
)

# The columns of the table: the last five have their role for everything, except where the name says otherwise.
VISITORS = (
    *("visitor", "no role", "owner", "key admin", "team admin", "other team", "key admin of other customer"),
    *("billing admin", "finance", "auditor", "member"),
)


@dataclass
class Cast:
    """The people by the table's columns (None: not signed in), and rows by the labels of their models."""

    people: dict[str, User | None]
    rows: dict[str, Model]

    def row(self, label: str) -> Model:
        """The row that belongs to Alice's team, or to the deployment."""
        return self.rows[label]


def make_role_cast() -> Cast:
    """People, and rows. Alice's key is the member's own."""
    acme, globex = Customer.objects.create(name="Acme"), Customer.objects.create(name="Globex")
    research = Team.objects.create(customer=acme, name="Research")
    others = Team.objects.create(customer=acme, name="Others")
    echo = ProviderKey.objects.create(name="echo", provider="echo")
    alice, _ = issuing.issue_virtual_key(
        name="alice", customer=acme, team=research, owner="member", provider_keys=[(echo, 1)]
    )
    issuing.issue_gateway_token("ci", alice)
    people: dict[str, User | None] = {"visitor": None, "no role": User.objects.create_user("no_role", is_staff=True)}
    given: dict[str, tuple[Role, dict[str, Any]]] = {
        "owner": (Role.OWNER, {}),
        "key admin": (Role.KEY_ADMIN, {}),
        "team admin": (Role.TEAM_ADMIN, {"team": research}),
        "other team": (Role.TEAM_ADMIN, {"team": others}),
        "key admin of other customer": (Role.KEY_ADMIN, {"customer": globex}),
        "billing admin": (Role.BILLING_ADMIN, {}),
        "finance": (Role.FINANCE, {}),
        "auditor": (Role.AUDITOR, {}),
        "member": (Role.MEMBER, {}),
    }
    for name, (role, scope) in given.items():
        people[name] = user = User.objects.create_user(name.replace(" ", "_"))
        giving.give(None, user, role, **scope)
    assert tuple(people) == VISITORS
    member = Person.objects.create(username="colleague")
    giving.give(None, member, Role.TEAM_ADMIN, team=research)
    rows = [member, echo, report_of(people["owner"], research), *rows_of(alice, echo)]
    return Cast(people, {row._meta.label_lower: row for row in rows})


def report_of(owner: User | None, team: Team) -> SavedReport:
    """A shared report about a team."""
    assert owner is not None
    query = f"range=last_month&zone=UTC&every=whole&by=model&team={team.pk}"
    return SavedReport.objects.create(owner=owner, name="Models", query=query, shared=True)


def rows_of(key: VirtualKey, echo: ProviderKey) -> list[Model]:
    """A row of every other page."""
    now, budget = timezone.now(), Budget.objects.create(virtual_key=key, amount=10, period="none")
    entry = LedgerEntry.objects.get(pk=make_entry(key, provider_key=echo))
    alert = Alert.objects.create(budget=budget, start=now, threshold=50, spent=5, amount=10, at=now)
    target = AlertTarget.objects.create(channel="email", address="ops@example.com", customer=key.customer)
    call: dict[str, Any] = {"virtual_key": key, "team": key.team}
    assert key.team is not None
    return [
        *(key.customer, key.team, key, budget, entry, alert, target, Gateway.objects.get()),
        GatewayToken.objects.get(kind="gateway_token"),
        ModelAlias.objects.create(name="fast", target="claude-haiku-4-5"),
        Cooldown.objects.create(provider_key=echo, reason="failing", since=now, until=now + timedelta(hours=1)),
        Performance.objects.create(provider_key=echo, model="echo-1", attempts=1, failures=0, share=1, at=now),
        AuditEvent.objects.earliest("id"),
        Limit.objects.create(virtual_key=key, kind="rpm", rate=60),
        budget.top_up(Decimal(1), reason="test", author="boss"),
        budget.override(Decimal(1), windows=None, until=now + timedelta(days=1), reason="test", author="boss"),
        Price.objects.create(
            model="claude-x", valid_from=now + timedelta(days=1), **dict.fromkeys(PRICES, 1), web_search=1
        ),
        ExchangeRate.objects.create(currency="EUR", rate="0.9", source="ECB", valid_from=now + timedelta(days=1)),
        Delivery.objects.create(alert=alert, target=target, created_at=now, next_at=now),
        Adjustment.objects.create(entry_id=entry.pk, reason="correction"),
        make_retained(entry.pk),
        FreeCalls.objects.create(day=now.date(), virtual_key=key, endpoint="count_tokens", status="completed", calls=1),
        Refusal.objects.create(
            id=uuid.uuid4(), refused_at=now, http_status=403, error_type="x", reason="paused", virtual_key=key
        ),
        Overrun.objects.create(call=entry.pk, at=now, virtual_key=key, cost=2, held=1),
        Process.objects.create(id=uuid.uuid4(), host="host", pid=1),
        Worker.objects.create(id=uuid.uuid4(), kind="worker", host="host", pid=2),
        Batch.objects.create(
            id=uuid.uuid4(), **call, provider_key=echo, requests=1, ceiling=1, provider_batch_id="msgbatch_1"
        ),
        File.objects.create(id="file_1", **call, provider_key=echo),
        *make_statement(key),
        *reconciled(echo),
        make_hold(key),
        make_token(),
    ]


PRICES = ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h")


def reconciled(echo: ProviderKey) -> list[Model]:
    """What a provider's reports and bills leave."""
    now = timezone.now()
    admin_key = AdminKey.objects.create(name="organisation", provider="anthropic", active=False)
    format_ = BillFormat.objects.create(name="cloud", provider_key=echo)
    return [
        *(admin_key, format_),
        ReportedKey.objects.create(admin_key=admin_key, api_key_id="apikey_1"),
        Bill.objects.create(
            format=format_, filename="bill.csv", sha256="0" * 64, size=1, lines=1, first_day=now, last_day=now, amount=1
        ),
        Comparison.objects.create(admin_key=admin_key, provider_key=echo, start=now, model="echo-1", theirs=1, ours=1),
        AdjustmentRun.objects.create(
            provider_key=echo, since=now, until=now, reason="test", author="boss", calls=0, cost=0, charge=0
        ),
    ]


def make_retained(call: uuid.UUID) -> Retained:
    """What is retained for an interrupted call: nothing of any budget."""
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO usage_retained (id, retained_at, charges) VALUES (%s, now(), '{}')", [call])
    return Retained.objects.get(pk=call)


def make_token() -> ApiToken:
    """An API token of a person who has no part in the table."""
    person = User.objects.create_user("program", is_staff=True)
    ends = timezone.now() + timedelta(days=30)
    scopes = ["calls:read"]
    return ApiToken.objects.create(user=person, name="nightly", digest=b"x" * 32, scopes=scopes, expires_at=ends)


def make_hold(key: VirtualKey) -> Hold:
    """A call in progress, without what its process does for it."""
    numbers = ("ceiling", "input_tokens", "input_cost", "max_tokens", "output_price", "credential", "provider_key")
    owner = {"virtual_key": key, "team": key.team, "customer": key.customer}
    call = {"admitted_at": timezone.now(), "stream": False, "provider": "echo"}
    return Hold.objects.create(**owner, **call, **dict.fromkeys(numbers, 1))


def make_statement(key: VirtualKey) -> list[Model]:
    """An issuer, billing particulars, and a statement of the key's team, without what a closing puts into it."""
    issuer = Issuer.objects.create(name="Platform", prefix="PF")
    particulars = Particulars.objects.create(customer=key.customer, issuer=issuer, by_team=True)
    month = {"starts_at": datetime(2026, 9, 1, tzinfo=UTC), "ends_at": datetime(2026, 10, 1, tzinfo=UTC)}
    closing = Closing.objects.create(
        customer=key.customer,
        month=date(2026, 9, 1),
        zone="UTC",
        below_xid="1",
        closed_at=timezone.now(),
        closed_by="boss",
        **month,
    )
    draft = Draft(
        Period(key.customer, closing.month, "UTC", closing.starts_at, closing.ends_at, particulars, None),
        *(key.team, True, "USD", None, Sum(), []),
    )
    content = closings.content_of(draft, closing, [], None)
    row = Statement(kind="statement", closing=closing, total=0, total_usd=0)
    issued = closings.issue(row, draft, content, issuer, timezone.now(), lambda *_: {f"{row.number}.pdf": b"%PDF-"})
    return [issuer, particulars, issued]


def every_model() -> list[str]:
    """The labels of this product's own models. Those that a test makes live in the test's module."""
    ours = ("keys", "usage", "reconciliation", "messages_api", "billing", "administration")
    return [model._meta.label_lower for model in apps.get_models() if model.__module__.split(".")[0] in ours]
