"""What the front page shows, each read with a fixed number of queries: from roll-ups, counters and small tables.

A person sees the numbers of the rows that they may see (`keys.visibility`).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import (
    Count,
    DateTimeField,
    DecimalField,
    Exists,
    F,
    Min,
    OuterRef,
    Prefetch,
    Q,
    QuerySet,
    Subquery,
    Sum,
    Value,
)
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, Greatest, Now, TruncMinute
from django.utils import timezone

from administration.charts import Chart, Series
from keys.models import CheckState, Cooldown, ProviderKey
from keys.visibility import visible
from usage.budgets import Budget, Override, Period, Unit, Window
from usage.cells import OWNER
from usage.exhausted import is_used_up
from usage.models import OWED, Alert, Delivery, Hold, Process, QuarterTotal, Refusal, Rollup, Status
from usage.refusal_reasons import SENTENCES
from usage.totals import sees_all
from usage.workers import Worker, WorkerKind, with_silence

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# At most so far is looked: budgets in order of customers, teams and keys; alerts and refusals, the latest ones.
BUDGETS, ALERTS, REFUSALS = 20_000, 2_000, 50_000
# Budgets in danger that are shown. A budget that has used less than this part of its amount isn't forecast.
SHOWN, USED = 8, Decimal("0.25")
# Budgets near their amount of which the exact state is asked.
MOST_NEAR = 20 * SHOWN
# The shortest time from which a budget's spending is projected.
SHORTEST = timedelta(hours=1)

# How calls ended, by who has to look into it. An answer that the provider refused is the provider's.
ERRORS = (
    ("the provider’s", "theirs", (Status.FAILED, Status.REFUSED_BY_PROVIDER)),
    ("the caller’s", "callers", (Status.CLIENT_DISCONNECTED,)),
    ("ours", "ours", (Status.INTERRUPTED,)),
)
# The reasons of refusals that are the gateway's or the provider's own fault. All others are the caller's.
OUR_REASONS = frozenset(
    code
    for sentence in (
        "The gateway could not reach its database in time",
        "The gateway was overloaded",
        "The gateway was being restarted",
        "The gateway failed",
    )
    for code in SENTENCES[sentence]
)
PROVIDER_REASONS = frozenset(
    code
    for sentence in (
        "The provider limits the rate",
        "The provider failed or did not answer",
        "The provider refuses the gateway's own key or account",
    )
    for code in SENTENCES[sentence]
)


# Spend and calls


@dataclass(frozen=True, slots=True)
class Spend:
    """USD: today, yesterday until the same time, this month, and what monthly budgets of customers allow (None: no such
    budget). `calls`, `errors`: of the last 24 hours, by the hour."""

    today: Decimal
    yesterday: Decimal
    month: Decimal
    allowed: Decimal | None
    calls: Chart
    errors: Chart

    @property
    def change(self) -> int | None:
        """Percent by which today is above yesterday at this time; None if nothing was spent yesterday."""
        return round((self.today / self.yesterday - 1) * 100) if self.yesterday else None

    @property
    def part(self) -> int | None:
        """Percent of the month's budget that is spent."""
        return round(self.month / self.allowed * 100) if self.allowed else None


def spend(user: Any, now: datetime) -> Spend:
    """The spend of today and this month in the viewer's zone. Two queries on roll-ups, one on budgets."""
    local = timezone.localtime(now)
    today = local.replace(hour=0, minute=0, second=0, microsecond=0)
    first_hour = now.replace(minute=0, second=0, microsecond=0) - 23 * HOUR
    since = min(today - DAY, first_hour)
    rollups: Any = QuarterTotal.objects.all() if sees_all(user) else visible(user, Rollup.objects.all())
    spent = {"today": Decimal(0), "yesterday": Decimal(0)}
    by_hour: dict[int, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    recent = rollups.filter(bucket__gte=since).order_by().values_list("bucket", "status")
    for bucket, status, calls, owed in recent.annotate(Sum("calls"), paid=Sum(OWED)):
        if bucket >= today:
            spent["today"] += owed
        elif today - DAY <= bucket < now - DAY:
            spent["yesterday"] += owed
        if bucket >= first_hour:
            by_hour[int((bucket - first_hour) / HOUR)][status] += calls
    month = rollups.filter(bucket__gte=today.replace(day=1)).aggregate(paid=Sum(OWED))["paid"]
    labels = [f"{timezone.localtime(first_hour + hour * HOUR):%H:%M}" for hour in range(24)]

    def series(title: str, kind: str, statuses: tuple[str, ...]) -> Series:
        return Series(title, kind, [sum(by_hour[hour][status] for status in statuses) for hour in range(24)])

    return Spend(
        today=spent["today"],
        yesterday=spent["yesterday"],
        month=month or Decimal(0),
        allowed=_allowed_a_month(user),
        calls=Chart("Calls an hour", labels, [series("calls", "calls", tuple(Status.values))]),
        errors=Chart("Errors an hour", labels, [series(*each) for each in ERRORS]),
    )


def _allowed_a_month(user: Any) -> Decimal | None:
    budgets = Budget.objects.filter(
        active=True, unit=Unit.USD, period=Period.MONTH, rolling=False, customer__isnull=False, model_patterns=[]
    )
    allowed: Decimal | None = visible(user, budgets).aggregate(allowed=Sum(ALLOWED))["allowed"]
    return allowed


def refusals(user: Any, now: datetime) -> Chart:
    """Refusals of the last hour by the minute, of the latest `REFUSALS`. One query."""
    first = now.replace(second=0, microsecond=0) - timedelta(minutes=59)
    latest = (
        visible(user, Refusal.objects.filter(refused_at__gte=first)).order_by("-refused_at").values("pk")[:REFUSALS]
    )
    counts: dict[str, list[int]] = {kind: [0] * 60 for kind in ("theirs", "callers", "ours")}
    by_minute = (
        Refusal.objects.filter(pk__in=latest, refused_at__gte=first).annotate(at=TruncMinute("refused_at")).order_by()
    )
    for at, reason, count in by_minute.values_list("at", "reason").annotate(Sum("count")):
        kind = "ours" if reason in OUR_REASONS else "theirs" if reason in PROVIDER_REASONS else "callers"
        counts[kind][min(int((at - first) / timedelta(minutes=1)), 59)] += count
    labels = [f"{timezone.localtime(first + timedelta(minutes=minute)):%H:%M}" for minute in range(60)]
    return Chart("Refusals a minute", labels, [Series(title, kind, counts[kind]) for title, kind, _ in ERRORS])


# Budgets

# Of two sets of budgets, the nearest to their amount. Each window is found by its budget: joined with all windows, the
# query would read them all.
NEAREST = """
WITH looked_at (id, amount) AS MATERIALIZED ((%s) UNION (%s))
SELECT l.id FROM looked_at l CROSS JOIN LATERAL (
    SELECT w.spent + w.held AS used, w.until FROM usage_window w
    WHERE w.budget_id = l.id AND w.start <= %%s ORDER BY w.start DESC LIMIT 1
) AS w
WHERE (w.until IS NULL OR w.until > %%s) AND w.used >= l.amount * %%s
ORDER BY w.used / greatest(l.amount, 0.000001) DESC LIMIT %%s
"""
MONEY = DecimalField(max_digits=30, decimal_places=12)
ALLOWED = RawSQL(
    "(SELECT a.amount FROM usage_allowed(usage_budget.id, usage_budget.amount, usage_now()) AS a)", [], MONEY
)
EXHAUSTED = RawSQL("usage_exhausted_since(usage_budget, usage_window.start, usage_now())", [], DateTimeField())


@dataclass(frozen=True, slots=True)
class Danger:
    """A budget that is exhausted (`ends` is None), or that will be at `ends` if spending goes on as in its window."""

    budget: Budget
    used: Decimal
    allowed: Decimal
    ends: datetime | None

    @property
    def percent(self) -> int:
        """The part that is spent and held, up to 100."""
        return min(100, round(self.used / self.allowed * 100)) if self.allowed else 100


def dangers(user: Any, now: datetime) -> list[Danger]:
    """Budgets that are exhausted, and those that will be by the end of the week in the viewer's zone. Four queries.

    It looks at the first `BUDGETS` budgets, those of customers and teams before those of keys, and at those with the
    latest `ALERTS` alerts: of any budget that refuses calls or has passed a threshold. What a budget allows now is
    asked only for those that are near their amount, or have another one for a time.
    """
    local = timezone.localtime(now)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    week_ends = midnight + timedelta(days=7 - local.weekday())
    current = Window.objects.filter(Q(until=None) | Q(until__gt=now), start__lte=now).annotate(
        used=F("spent") + F("held")
    )
    near = _near(visible(user, Budget.objects.filter(active=True)), now)
    used = current.filter(budget__in=near).annotate(allowed=ALLOWED).filter(used__gte=F("allowed") * USED)
    rows = used.annotate(exhausted_since=EXHAUSTED).select_related(*(f"budget__{owner}" for owner in OWNER))
    found = []
    for row in rows.order_by(_part(F("allowed")).desc())[:MOST_NEAR]:
        refuses = row.exhausted_since is not None and is_used_up(row.allowed - row.used, row.allowed)
        out = refuses or row.used >= row.allowed
        ends = None if out else _ends(row, now)
        if out or (ends is not None and ends < min(row.until or week_ends, week_ends)):
            found.append(Danger(row.budget, row.used, row.allowed, ends))
    return sorted(found, key=lambda each: (each.ends is not None, each.ends or now, -each.used))


def _near(active: QuerySet[Budget], now: datetime) -> list[int]:
    """The ids of the budgets that are nearest to their amount, and of those that have another amount for a time."""
    order = (F("virtual_key").asc(nulls_first=True), "pk")
    alerts = Alert.objects.filter(budget__isnull=False).order_by("-pk").values("budget")[:ALERTS]
    looked_at = (active.order_by(*order)[:BUDGETS], active.order_by().filter(pk__in=alerts))
    (first, of_first), (alerted, of_alerted) = (
        each.values_list("pk", "amount").query.sql_with_params() for each in looked_at
    )
    with connection.cursor() as cursor:
        cursor.execute(NEAREST % (first, alerted), [*of_first, *of_alerted, now, now, USED, MOST_NEAR])
        nearest = [row[0] for row in cursor.fetchall()]
    overridden = Override.objects.filter(starts_at__lte=now, until__gt=now, budget__in=active.order_by().values("pk"))
    return [*nearest, *overridden.order_by("-pk").values_list("budget", flat=True)[:MOST_NEAR]]


def _part(allowed: Any) -> Any:
    """The part of an amount that is spent or held."""
    return F("used") / Greatest(allowed, Value(Decimal("0.000001")), output_field=MONEY)


def _ends(row: Any, now: datetime) -> datetime | None:
    """When a budget will be used up at the pace of its window."""
    elapsed = max(now - max(row.start, row.budget.created_at), SHORTEST)
    if row.used <= 0:
        return None
    try:
        ends: datetime = now + elapsed * float((row.allowed - row.used) / row.used)
    except OverflowError:
        return None
    return ends


# Providers


@dataclass(frozen=True, slots=True)
class Trouble:
    """A provider key that gets no calls, or whose last test failed, and why."""

    provider_key: ProviderKey
    why: str


def troubles(user: Any, now: datetime) -> list[Trouble]:
    """Provider keys in trouble. Two queries on small tables."""
    cooling = Cooldown.objects.filter(Q(until__gt=now) | Q(reason="refused")).order_by("model")
    rows = visible(user, ProviderKey.objects.filter(active=True)).select_related("last_check").order_by("name")
    found = []
    for row in rows.prefetch_related(Prefetch("cooldowns", cooling, to_attr="cooling")):
        check = getattr(row, "last_check", None)
        reasons = [f"{each.model or 'all models'}: {each.get_reason_display()}" for each in row.cooling]
        if not reasons and check and check.state in (CheckState.REFUSED, CheckState.UNREACHABLE):
            reasons = [f"last test: {check.headline()}"]
        if reasons:
            found.append(Trouble(row, "; ".join(reasons[:3])))
    return found


# The gateway's own state


def holds(user: Any) -> dict[str, Any]:
    """The number of calls in progress, the USD held for them, and the oldest admission. One query."""
    rows = visible(user, Hold.objects.all())
    return rows.aggregate(calls=Count("pk"), usd=Sum("ceiling"), oldest=Min("admitted_at"))


def processes(user: Any, lease: timedelta) -> dict[str, int]:
    """Web processes that are alive, and those whose lease has ended, by the database's clock. One query."""
    alive = Q(heartbeat_at__gt=Now() - lease)
    return visible(user, Process.objects.all()).aggregate(
        alive=Count("pk", filter=alive), dead=Count("pk", filter=~alive)
    )


@dataclass(frozen=True, slots=True)
class Workers:
    """Celery's processes: workers and beats that live, those that don't, when the last task began, and how many
    milliseconds it had waited at most (None: unknown)."""

    workers: int
    beats: int
    dead: int
    task_at: datetime | None
    waited_ms: int | None

    @property
    def stands(self) -> str:
        """What is wrong; empty if nothing is."""
        if not self.workers:
            return "no worker runs"
        return "" if self.beats else "no beat runs, so no periodic task is sent"


def workers(user: Any) -> Workers:
    """The state of Celery's processes. One query."""
    rows = list(visible(user, with_silence(Worker.objects.all())))
    alive = [row for row in rows if row.alive]
    working = [row for row in alive if row.kind == WorkerKind.WORKER]
    return Workers(
        len(working),
        len(alive) - len(working),
        len(rows) - len(alive),
        max((row.task_at for row in working if row.task_at), default=None),
        max((row.waited_ms for row in working if row.waited_ms is not None), default=None),
    )


def queue(user: Any) -> dict[str, Any]:
    """Alerts that are still to be sent, and since when one of them waits for a worker. One query.

    An alert whose deliveries are delivered or given up waits for nothing. One whose next attempt is later waits for
    that, and not for a worker.
    """
    deliveries = Delivery.objects.filter(alert=OuterRef("pk"))
    under_way = deliveries.filter(delivered_at=None, given_up_at=None)
    open_alerts = Alert.objects.filter(Exists(under_way) | ~Exists(deliveries), delivered_at=None, unsent="")
    due = Subquery(under_way.order_by("next_at").values("next_at")[:1])
    return visible(user, open_alerts).aggregate(waiting=Count("pk"), oldest=Min(Coalesce(due, "at")))
