"""Credit notes: what a closed month costs less than its statement says, without waiting for the next one.

A credit note covers the adjustments and late calls of its month that no document has covered, so the next statement
leaves them out.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from decimal import localcontext

from django.conf import settings
from django.db import transaction
from django.db.models import Max

from billing import closing, covers, drafts
from billing import lines as statement_lines
from billing.closing import MakeFiles
from billing.covers import Covered
from billing.drafts import Draft, Period
from billing.lines import PRECISION
from billing.models import Closing, Issuer, Kind, Particulars, Statement
from keys.audit.notes import note
from keys.errors import Unusable
from usage import moments


@transaction.atomic(savepoint=False)
def preview(closed: Closing, below_xid: str | None = None) -> tuple[list[Covered], list[Draft]]:
    """What a credit note about a month would cover and say now; one for each of its statements that changes.

    Raises:
        Unusable: the customer has no particulars any more.
    """
    below = below_xid or covers.horizon()[0]
    covered = [
        Covered(
            closed.customer_id,
            max(since, closed.starts_at),
            min(until, closed.ends_at),
            cut,
            below,
            earlier=True,
        )
        for since, until, cut in covers.cuts(closed.customer_id)
        if since < closed.ends_at and until > closed.starts_at and int(cut) < int(below)
    ]
    originals = list(Statement.objects.filter(closing=closed, credit=0).select_related("team"))
    particulars = Particulars.objects.select_related("issuer", "customer").filter(customer=closed.customer).first()
    period = Period(
        closed.customer, closed.month, closed.zone, closed.starts_at, closed.ends_at, particulars, previous=None
    )
    found = statement_lines.of(covered, drafts.numbers_of(closed.customer))
    first = originals[0]
    rate = drafts.rate_of(first.currency, closed.ends_at)
    made = drafts.split(period, covered, found, first.currency, rate, by_team=first.by_team)
    return covered, [each for each in made if each.sums.calls or each.sums.adjustments]


def issue(closed: Closing, *, reason: str, by: str, make_files: MakeFiles) -> list[Statement]:
    """Issue the credit notes of a month: one, or one for each team with a difference.

    Raises:
        Unusable: there is no reason, nothing is to be credited, or a team would have to pay more.
    """
    if not reason.strip() or "\0" in reason:
        raise Unusable("a credit note needs a reason, without control characters")
    closing.wait(closed.customer_id, closed.ends_at, timedelta(seconds=settings.CONFIGURATION.lease_seconds))
    with transaction.atomic(), localcontext(prec=PRECISION):
        particulars = closing.lock(closed.customer)
        covered, found = preview(closed, covers.horizon()[0])
        if not found:
            raise Unusable(f"nothing has changed in {closed.month:%Y-%m}, so there is nothing to credit")
        if any(each.sums.owed >= 0 for each in found):
            raise Unusable(
                f"{closed.month:%Y-%m} costs more than its statement says, or the same: the difference goes on the "
                "next statement"
            )
        last = Statement.objects.filter(closing=closed).aggregate(last=Max("credit"))["last"] or 0
        closing.keep_covers(closed, last + 1, covered)
        issuer = Issuer.objects.select_for_update().get(pk=particulars.issuer_id)
        at, issued = moments.now(), []
        for draft in found:
            original = original_of(closed, draft)
            content = closing.content_of(draft, closed, covered, None)
            content |= {
                "corrects": original.number if original else None,
                "reason": reason.strip(),
                "closed_by": by,
                "confirmed_by": "",
            }
            credit = Statement(
                kind=Kind.CREDIT_NOTE,
                closing=closed,
                credit=last + 1,
                corrects=original,
                total=draft.total,
                total_usd=draft.total_usd,
            )
            issued.append(closing.issue(credit, replace(draft), content, issuer, at, make_files))
        numbers = ", ".join(each.number for each in issued)
        note("credited", Closing._meta.db_table, str(closed.pk), numbers=numbers, reason=reason.strip())
    return issued


def original_of(closed: Closing, draft: Draft) -> Statement | None:
    """The statement that a credit note corrects."""
    return Statement.objects.filter(closing=closed, credit=0, team=draft.team).first()
