"""What the page of one virtual key, team or customer shows, each part in a fixed number of queries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from django.db.models import QuerySet

from administration.roles import visible
from keys.audit.models import AuditEvent
from keys.audit.words import Words
from keys.models import Customer, Team, VirtualKey
from usage.budgets import Budget
from usage.cells import OWNER
from usage.exhausted import is_used_up
from usage.limits import Limit
from usage.models import LedgerEntry, Refusal
from usage.owner_days import Used
from usage.standing import with_limit_standing, with_standing

Owner = Customer | Team | VirtualKey
KINDS: dict[type[Any], int] = {Customer: 0, Team: 1, VirtualKey: 2}
# Rows of the lists of a page; each has a link to all.
LATEST = 8
# A bar is amber from this part of a budget on, and red when it is used up.
AMBER = Decimal("0.8")
# Height of the chart's bars.
HEIGHT = 60
# The latest refusals of all, among which those of a team or customer are looked for.
REFUSALS_LOOKED_AT = 20_000


def place(owner: Owner) -> int:
    """The owner as budgets and roll-ups name it (`Owned.owner`)."""
    return owner.pk * 4 + KINDS[type(owner)]


def places_above(owner: Owner) -> list[int]:
    """The owner, and those whose budgets and limits apply to its calls, too."""
    found = [place(owner)]
    if isinstance(owner, VirtualKey) and owner.team_id is not None:
        found.append(owner.team_id * 4 + 1)
    if not isinstance(owner, Customer):
        found.append(owner.customer_id * 4)
    return found


@dataclass(frozen=True, slots=True)
class Parts:
    """The bar of a budget: its parts in percent of what is allowed. `colour` is `full` when it is exhausted, `tight`
    when little is, else `ample`."""

    spent: float
    held: float
    colour: str


def parts(allowed: Decimal, spent: Decimal, held: Decimal, *, refuses: bool) -> Parts:
    """The bar of a budget.

    Args:
        refuses: it has refused a call in this window.
    """
    exhausted = refuses and is_used_up(allowed - spent - held, allowed)
    whole = max(allowed, spent + held, Decimal(1).scaleb(-12))
    colour = "full" if exhausted or spent + held >= allowed else "tight" if spent + held >= allowed * AMBER else "ample"
    percent_spent, percent_held = (float(max(part, Decimal(0)) / whole * 100) for part in (spent, held))
    return Parts(percent_spent, percent_held, colour)


@dataclass(frozen=True, slots=True)
class BudgetBar:
    """A budget with its current window, and the parts of its bar."""

    budget: Any
    parts: Parts


def budgets(owner: Owner, user: Any) -> list[BudgetBar]:
    """The active budgets that apply to an owner's calls, the owner's first."""
    rows = visible(user, Budget.objects.filter(owner__in=places_above(owner), active=True))
    found = []
    standing: QuerySet[Any] = with_standing(rows)
    for row in standing.select_related(*OWNER, "provider_key").order_by("pk"):
        found.append(BudgetBar(row, parts(row.allowed, row.spent, row.held, refuses=row.exhausted_since is not None)))
    return found


def limits(owner: Owner, user: Any) -> list[Any]:
    """The active limits that apply to an owner's calls."""
    rows = visible(user, Limit.objects.filter(owner__in=places_above(owner), active=True))
    return list(with_limit_standing(rows).select_related(*OWNER, "provider_key").order_by("pk"))


def latest_calls(owner: Owner, user: Any) -> list[LedgerEntry]:
    """The latest calls of an owner."""
    rows = visible(user, LedgerEntry.objects.filter(**{field(owner): owner.pk}))
    return list(
        rows.select_related("virtual_key", "provider_key", "team__customer", "customer").order_by("-id")[:LATEST]
    )


def latest_refusals(owner: Owner, user: Any) -> list[Refusal]:
    """The latest refusals of an owner's calls; of a team or customer, among the latest of all."""
    rows = visible(user, Refusal.objects.select_related("virtual_key"))
    if isinstance(owner, VirtualKey):
        return list(rows.filter(virtual_key=owner).order_by("-refused_at")[:LATEST])
    # By time: joined with a set of ids, the keys of a large customer would be read before the first refusal.
    times = Refusal.objects.order_by("-refused_at").values_list("refused_at", flat=True)
    first = times[REFUSALS_LOOKED_AT - 1 : REFUSALS_LOOKED_AT].first()
    lately = rows if first is None else rows.filter(refused_at__gte=first)
    return list(lately.filter(**{f"virtual_key__{field(owner)}": owner.pk}).order_by("-refused_at")[:LATEST])


def changes(owner: Owner, user: Any) -> list[dict[str, Any]] | None:
    """The latest changes of an owner and of what belongs to it; None for people who may not see the audit log."""
    if not user.has_perm("keys.view_auditevent"):
        return None
    table = owner._meta.db_table
    events: QuerySet[AuditEvent] = visible(user, AuditEvent.objects.all())
    own = events.filter(table_name=table, object=str(owner.pk)).order_by("-id")[:LATEST]
    below = events.filter(about=f"{table}:{owner.pk}").order_by("-id")[:LATEST]
    found = list(own.union(below).order_by("-id")[:LATEST])
    words = Words(found)
    return [{"at": event.at, "who": words.who(event), "what": words.what(event)} for event in found]


def field(owner: Owner) -> str:
    """The foreign key by which calls name this kind of owner."""
    return {Customer: "customer_id", Team: "team_id", VirtualKey: "virtual_key_id"}[type(owner)]


@dataclass(frozen=True, slots=True)
class Bar:
    """A day in the chart: its place and height in the drawing."""

    x: float
    y: float
    width: float
    height: float
    day: Any
    used: Used


def chart(days: Mapping[date, Used]) -> list[Bar]:
    """The cost of each day as bars, in a drawing of 100 by `HEIGHT`."""
    most = max((used.cost for used in days.values()), default=Decimal(0))
    step = 100 / len(days)
    found = []
    for number, (day, used) in enumerate(days.items()):
        height = float(used.cost / most) * HEIGHT if most else 0.0
        found.append(Bar(number * step + step * 0.1, HEIGHT - height, step * 0.8, height, day, used))
    return found
