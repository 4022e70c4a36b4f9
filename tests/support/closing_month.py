"""A company whose last month is to be closed: two months of calls in Berlin's time, a team's day that went wrong, and a
provider's report of the same calls with a discount, a fee and a guess in it.

Every date is computed from the clock and Berlin's zone, so that the month is the one that the pages call the last one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from django.db import connection
from django.db.models import Sum
from django.utils import timezone

from billing import closing, months
from billing.formats import pdf
from billing.models import Issuer, Particulars
from keys.models import Customer, ProviderKey, Team, VirtualKey
from reconciliation import running
from reconciliation.reading import Run
from reconciliation.sources import AdminKey
from tests.support.gateway import wait_until
from tests.support.ledger_rows import Cast
from tests.support.reported import HAIKU, OPUS, SONNET, Organisation, listed, organisation
from usage import rollups
from usage.models import ExchangeRate, LedgerEntry, Rollup
from usage.tokens import TokenCounts

BERLIN = ZoneInfo("Europe/Berlin")
# Customer, team, its cost centre, key, model, the hour in Berlin, and thousands of tokens of input a call.
KEYS = (
    ("Northwind", "Research", "4100", "notebooks", OPUS, 9, 420),
    ("Northwind", "Research", "4100", "evaluation", SONNET, 11, 310),
    ("Northwind", "Platform", "4200", "ci", HAIKU, 14, 260),
    ("Contoso", "Support", "7300", "assistant", SONNET, 10, 280),
)
# How busy the days of a week are, Monday first, in percent.
WEEK = (100, 118, 96, 130, 104, 22, 15)
# On this day of the last month, a loop in the team Platform's key calls again and again.
WRONG_DAY, WRONG_KEY, WRONG_CALLS = 12, "ci", 60
# What the contract takes off the dearest model's list price.
DISCOUNT = Decimal("0.88")
FEE = Decimal("1.75")


@dataclass
class Books:
    """Two months of calls.

    Attributes:
        month: the first day of the last month in Berlin; `earlier`: of the month before it.
        keys: virtual keys by name.
        turns_at: when another month becomes the last one.
    """

    acme: Organisation
    month: date
    earlier: date
    keys: dict[str, VirtualKey]
    turns_at: datetime

    @property
    def is_soon_over(self) -> bool:
        """Whether a walk may see the month's turn, after which the last month is another one."""
        return timezone.now() > self.turns_at - timedelta(hours=1)

    @property
    def customer(self) -> Customer:
        """Who pays for the team whose day went wrong."""
        return self.keys[WRONG_KEY].customer

    @property
    def teams(self) -> dict[str, Team]:
        """The teams, by the names that reports show."""
        found = (key.team for key in self.keys.values())
        return {str(team): team for team in found if team is not None}

    @property
    def wrong_day(self) -> date:
        """The day on which it went wrong."""
        return self.month.replace(day=WRONG_DAY)


@contextmanager
def books() -> Iterator[Books]:
    """Calls of the last month in Berlin, which is open, and of the one before, which is closed; all rolled up, and
    compared with the provider's report."""
    keys: dict[str, VirtualKey] = {}
    with organisation(make=lambda: make_callers(keys)) as acme:
        month = months.last_whole(timezone.now(), BERLIN.key)
        turns_at = months.end(months.following(month), BERLIN.key)
        made = Books(acme, month, months.before(month), keys, turns_at)
        for first in (made.earlier, made.month):
            make_calls(made, first)
        make_edges(made)
        make_strange(made)
        # Roll-ups leave out what is newer than the oldest open transaction of the server, also those of other tests.
        wait_until(is_rolled_up, 120)
        bill(made)
        reconcile(made)
        try:
            yield made
        finally:
            forget_prices()


def is_rolled_up() -> bool:
    """Roll up what there is; whether that is everything."""
    rollups.roll_up()
    summed: int | None = Rollup.objects.aggregate(calls=Sum("calls"))["calls"]
    return summed == LedgerEntry.objects.count()


def forget_prices() -> None:
    """Take away what is no managed table, so that the next test doesn't find it."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM usage_exchangerate")


def make_callers(keys: dict[str, VirtualKey]) -> Cast:
    """The virtual keys, which are also put into `keys` by their names."""
    for customer_name, team_name, _, name, *_ in KEYS:
        customer, _ = Customer.objects.get_or_create(name=customer_name, time_zone=BERLIN.key)
        team, _ = customer.teams.get_or_create(name=team_name)
        keys[name] = VirtualKey.objects.create(name=name, customer=customer, team=team)
    retired = ProviderKey.objects.create(name="retired", provider="anthropic", active=False)
    return Cast(keys["notebooks"], keys["evaluation"], keys["assistant"], retired)


def moment(day: date, hour: int, minute: int = 0) -> datetime:
    """A time of a day in Berlin."""
    return datetime.combine(day, time(hour, minute), BERLIN).astimezone(UTC)


def days_of(month: date) -> Iterator[date]:
    """The days of a month."""
    for number in range((months.following(month) - month).days):
        yield month + timedelta(days=number)


def make_call(made: Books, at: datetime, key: tuple[Any, ...], percent: int = 100, **changes: Any) -> None:
    """A call that the ledger and the provider's report have."""
    *_, model, _, thousands = key
    tokens = thousands * 10 * percent
    used = {"input_tokens": tokens, "output_tokens": tokens // 9, "cache_read_input_tokens": tokens * 3}
    made.acme.counted(at, used, model, paid=DISCOUNT if model == OPUS else Decimal(1))
    send(made, at, key, used, duration_ms=1_800 + 9 * percent, **changes)


def send(made: Books, at: datetime, key: tuple[Any, ...], used: dict[str, int], **changes: Any) -> None:
    """A call that the ledger has, held at a third more than it cost."""
    _, _, cost_centre, name, model, *_ = key
    split = listed(model).costs(TokenCounts(**used))
    made.acme.sent(
        at,
        used,
        model,
        by=made.keys[name],
        requested_model=model,
        labels={"cost_centre": cost_centre},
        cost_split=split,
        held=sum(split) * 4 / 3,
        **changes,
    )


def make_calls(made: Books, month: date) -> None:
    """A call a day of each key, long before and after midnight."""
    for day in days_of(month):
        for number, key in enumerate(KEYS):
            make_call(made, moment(day, key[5], 7 * number + 1), key, WEEK[day.weekday()] + (day.day * 7) % 17)


def make_edges(made: Books) -> None:
    """Calls that are in the month by Berlin's clock, and by UTC in another one; and one that is in none of it."""
    make_call(made, moment(made.month, 0, 20), KEYS[0], 30)
    make_call(made, moment(made.month - timedelta(days=1), 23, 40), KEYS[0], 30)


def make_strange(made: Books) -> None:
    """The day that went wrong, an interrupted call, and a fee that isn't for tokens."""
    [key] = (each for each in KEYS if each[3] == WRONG_KEY)
    for number in range(WRONG_CALLS):
        make_call(made, moment(made.wrong_day, 15 + number // 30, number % 30 * 2), key, 140, stream=True)
    at = moment(made.month.replace(day=17), 16)
    used = {"input_tokens": 90_000, "output_tokens": 4_000, "cache_read_input_tokens": 0}
    send(made, at, KEYS[1], used, estimated=True, status="client_disconnected")
    item = made.acme.counted(at, used | {"output_tokens": 2_750}, SONNET)
    item.fees["code_execution"] = FEE


def bill(made: Books) -> None:
    """Who issues the statements and to whom; the earlier month is closed."""
    issuer = Issuer.objects.create(name="Platform team", address="1 High Street\nBerlin", prefix="PLAT")
    ExchangeRate.objects.create(
        currency="EUR", valid_from=moment(made.earlier, 0) - timedelta(days=40), rate=Decimal("0.9152"), source="ECB"
    )
    for name, currency, centre in (("Northwind", "EUR", "4000"), ("Contoso", "USD", "7000")):
        customer = Customer.objects.get(name=name)
        Particulars.objects.create(
            customer=customer,
            issuer=issuer,
            billing_name=f"{name} GmbH",
            address="2 Long Road\nBerlin",
            currency=currency,
            cost_centre=centre,
            debit_account="6835",
            credit_account="4970",
        )
        closing.close(customer, made.earlier, by="finance", make_files=pdf.make, lease=timedelta(seconds=60))


def reconcile(made: Books) -> None:
    """Read the provider's report of the last month, and compare it."""
    made.acme.reports.refreshed_at = timezone.now()
    problem = running.run(AdminKey.objects.get(), Run(since=made.month))
    assert problem == "", problem
