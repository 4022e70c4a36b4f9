"""Pages: the months of customers, a draft, and an issued document."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db.models import QuerySet, Sum
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from administration import rooms
from administration.roles import names, visible
from administration.rooms import Page, listed
from administration.statements import files, listing, mails
from billing import closing, credit_notes, documents, drafts, months, verification
from billing.formats import pdf
from billing.models import CloseRequest, LineKind, Statement
from keys.errors import Unusable
from keys.models import Customer
from keys.uncached import framed
from usage import moments, rollups

VIEW = ("billing.view_statement",)
# Asked about the customer.
DRAFTS = "billing.view_particulars"
# Lines of a page.
LINES = 200
# Months that the list offers.
MONTHS = 24


class MonthForm(forms.Form):
    """Which month to list, and whose. Everything stands in the URL."""

    month = forms.ChoiceField(required=False)
    q = forms.CharField(label="Customer", required=False, max_length=200, help_text="A part of its name.")

    def __init__(self, data: Any, offered: list[date]) -> None:
        super().__init__(data)
        self.fields["month"].choices = [(f"{each:%Y-%m}", f"{each:%B %Y}") for each in offered]  # type: ignore[attr-defined]


@require_safe
def statements(request: HttpRequest) -> HttpResponse:
    """The months of the customers whose drafts a person may see, and all documents of the month that they may see."""
    rollups.freshen()
    # The reader's month: while it is the 30th in UTC, it may be the 1st in Berlin, whose month is over.
    this = moments.now().astimezone(timezone.get_current_timezone()).date().replace(day=1)
    offered = [this]
    while len(offered) < MONTHS:
        offered.append(months.before(offered[-1]))
    data = request.GET.copy()
    last = f"{months.before(this):%Y-%m}"
    data["month"] = data.get("month") or last
    form = MonthForm(data, offered)
    valid = form.is_valid()
    asked = form.cleaned_data if valid else {}
    month = months.parse(asked.get("month") or last)
    own = visible(request.user, Statement.objects.all())
    customers = customers_of(request.user)
    if text := asked.get("q"):
        customers = customers.filter(name__icontains=text)
    part = listing.page(customers, own, month, page_number(request)) if valid else None
    # Who sees no drafts, such as a team's admin, sees the documents.
    others = own.filter(month=month).select_related("customer", "team__customer")[:LINES]
    query = request.GET.copy()
    query.pop("page", None)
    context = {
        "title": "Statements",
        "form": form,
        "month": month,
        "part": part,
        "others": list(others) if not request.user.has_perm(DRAFTS) else [],
        "query": query.urlencode(),
        "has_customers": Customer.objects.exists(),
        "may_add_particulars": request.user.has_perm("billing.add_particulars"),
        "may_add_issuer": request.user.has_perm("billing.add_issuer"),
    }
    return framed(request, "admin/statements/list.html", context)


def customers_of(user: Any) -> QuerySet[Customer]:
    """The customers whose drafts a person may see."""
    rows = Customer.objects.all()
    return visible(user, rows) if user.has_perm(DRAFTS) and user.has_perm("keys.view_customer") else rows.none()


def page_number(request: HttpRequest) -> int:
    """The page that the URL asks for."""
    text = request.GET.get("page", "1")
    return int(text) if text.isdecimal() and len(text) < 10 else 1


def customer_of(request: HttpRequest, pk: int) -> Customer:
    """The customer of a draft.

    Raises:
        Http404: it doesn't exist, or the person may not see it.
    """
    found = customers_of(request.user).filter(pk=pk).first()
    if found is None or not request.user.has_perm(DRAFTS, found):
        raise Http404("There is no such draft.")
    return found


@require_http_methods(["GET", "HEAD", "POST"])
def draft(request: HttpRequest, customer: int, month: str) -> HttpResponse:
    """What a month's documents would say now, and what is missing. A POST closes the month.

    Raises:
        Http404: there is no such customer or month.
        PermissionDenied: the person may not close months of this customer.
    """
    found = customer_of(request, customer)
    try:
        day = months.parse(month)
    except Unusable:
        raise Http404("There is no such month.") from None
    may_close = request.user.has_perm(names.CLOSE_MONTH, found)
    refusal = ""
    if request.method == "POST":
        if not may_close:
            raise PermissionDenied
        try:
            return closed(request, found, day)
        except Unusable as error:
            refusal = str(error)
    rollups.freshen()
    try:
        made = drafts.compute(found, day)
    except Unusable as error:
        issued = visible(request.user, Statement.objects.filter(customer=found, month=day))
        context = {"title": f"{found}, {day:%B %Y}", "issued": list(issued), "refusal": str(error)}
        return framed(request, "admin/statements/none.html", context, status=404)
    shown: dict[str, Any] = {
        "title": f"Draft: {found}, {day:%B %Y}",
        "customer": found,
        "month": made,
        "day": day,
        "documents": [shown_draft(each) for each in made.drafts],
        "issuer": made.period.particulars.issuer if made.period.particulars else None,
        "asked": CloseRequest.objects.filter(customer=found, month=day).first(),
        "may_close": may_close,
        "may_add_particulars": request.user.has_perm("billing.add_particulars"),
        "refusal": refusal,
        "held": made.held,
        "links": list(links_of(request.user, made)),
    }
    return framed(request, "admin/statements/draft.html", shown, status=409 if refusal else 200)


def links_of(user: Any, month: drafts.Month) -> Iterator[tuple[str, str]]:
    """What is looked at before a month is closed: titles and addresses of pages that a person may see."""
    period = month.period
    if user.has_perm("usage.view_rollup"):
        asked = {
            "since": period.month,
            "until": months.following(period.month) - timedelta(days=1),
            "zone": period.zone,
            "by": "team",
            "customer": period.customer.pk,
            "compare": "yes",
        }
        yield "Its usage by team", f"{reverse('usage_report')}?{urlencode(asked)}"
    if user.has_perm("reconciliation.view_comparison"):
        yield "Providers’ reports of this month", f"{reverse('admin:reconciliation')}?month={period.month:%Y-%m}"


def closed(request: HttpRequest, customer: Customer, month: date) -> HttpResponse:
    """Close a month, and lead to its document.

    Raises:
        Unusable: it can't be closed.
    """
    issued = closing.close(
        customer,
        month,
        by=request.user.get_username(),
        make_files=pdf.make,
        leave_earlier="leave_earlier" in request.POST,
    )
    if not issued:
        messages.info(request, f"{month:%B %Y} of {customer} closes when another person confirms it.")
        return HttpResponseRedirect(reverse("admin:statement_draft", args=[customer.pk, f"{month:%Y-%m}"]))
    sent = mails.send(issued)
    said = f"{month:%B %Y} of {customer} is closed."
    messages.success(request, f"{said} {sent} e-mail{'s are' if sent > 1 else ' is'} on the way." if sent else said)
    return HttpResponseRedirect(reverse("admin:statement", args=[issued[0].number]))


def shown_draft(made: drafts.Draft) -> dict[str, Any]:
    """A draft as the page shows it: its lines up to a page's number, and its sums by team, in USD where there is no
    exchange rate."""
    in_usd = made.rate is None
    return {
        "draft": made,
        "lines": made.lines[:LINES],
        "more": max(0, len(made.lines) - LINES),
        "teams": teams_of((line.team, line.kind, line.net if in_usd else line.amount) for line in made.lines),
        "currency": "USD" if in_usd else made.currency,
    }


def teams_of(lines: Any) -> list[tuple[str, Decimal]]:
    """The sums of teams, the largest first."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for team, kind, amount in lines:
        sums["rounding" if kind == LineKind.ROUNDING else team or "no team"] += amount
    return sorted(((name, amount) for name, amount in sums.items() if amount), key=lambda item: -abs(item[1]))


def statement_of(request: HttpRequest, number: str) -> Statement:
    """The document of this number.

    Raises:
        Http404: it doesn't exist, or the person may not see it.
    """
    rows = Statement.objects.select_related("issuer", "customer", "team__customer", "closing", "corrects")
    # PostgreSQL takes no zero byte.
    found: Statement | None = visible(request.user, rows).filter(number=number.replace("\0", "")).first()
    if found is None:
        raise Http404("There is no such document.")
    return found


@require_http_methods(["GET", "HEAD", "POST"])
def statement(request: HttpRequest, number: str) -> HttpResponse:
    """An issued document; with `verify` in the URL, whether it is as it was issued; with `credit`, what a credit note
    would say. A POST issues the credit note.

    Raises:
        Http404: there is no such document, or the person may not see it.
        PermissionDenied: the person may not issue credit notes for this customer.
    """
    found = statement_of(request, number)
    may_credit = request.user.has_perm(names.CLOSE_MONTH, found.customer) and found.kind == "statement"
    refusal = ""
    if request.method == "POST":
        if not may_credit:
            raise PermissionDenied
        try:
            issued = credit_notes.issue(
                found.closing,
                reason=request.POST.get("reason", "")[:500],
                by=request.user.get_username(),
                make_files=pdf.make,
            )
        except Unusable as error:
            refusal = str(error)
        else:
            mails.send(issued)
            messages.success(request, f"Credit note {issued[0].number} is issued.")
            return HttpResponseRedirect(reverse("admin:statement", args=[issued[0].number]))
    part = Paginator(found.lines.order_by("position"), LINES).get_page(page_number(request))
    sums = found.lines.order_by("team", "kind").values_list("team", "kind").annotate(sum=Sum("amount"))
    context = {
        "title": f"{found.get_kind_display().capitalize()} {found.number}",
        "statement": found,
        "said": documents.said(found),
        "part": part,
        "teams": teams_of(sums),
        "estimated": found.lines.filter(estimated=True).aggregate(sum=Sum("amount"))["sum"],
        "files": [
            (name, reverse("admin:statement_file", args=[found.number, name]))
            for name in files.names(request.user, found)
        ],
        "siblings": siblings(request, found),
        "faults": verification.verify(found) if "verify" in request.GET else None,
        "credits": credit_notes.preview(found.closing)[1] if may_credit and "credit" in request.GET else None,
        "may_credit": may_credit,
        "refusal": refusal,
        "note": documents.NOTE,
    }
    return framed(request, "admin/statements/statement.html", context, status=409 if refusal else 200)


def siblings(request: HttpRequest, found: Statement) -> list[Statement]:
    """The other documents of a month."""
    rows = Statement.objects.filter(closing=found.closing).exclude(pk=found.pk).order_by("number")
    return list(visible(request.user, rows).select_related("team__customer"))


@require_safe
def statement_file(request: HttpRequest, number: str, name: str) -> HttpResponseBase:
    """A file of a document.

    Raises:
        Http404: there is no such document or file, or the person may not see it.
    """
    try:
        return files.answer(statement_of(request, number), name, request.user)
    except Unusable as error:  # the evidence of an archived month, whose files aren't here
        messages.error(request, f"The file can't be made: {error}.")
        return HttpResponseRedirect(reverse("admin:statement", args=[number]))


rooms.BILLING.add(
    Page(
        "Statements",
        "admin:statements",
        VIEW,
        route="billing/statements/",
        view=statements,
        also=("admin:statement_draft", "admin:statement", "admin:statement_file"),
    ),
    Page(
        "Draft",
        "admin:statement_draft",
        (DRAFTS,),
        route="billing/statements/draft/<int:customer>/<str:month>/",
        view=draft,
        linked=False,
    ),
    Page("Document", "admin:statement", VIEW, route="billing/statements/<str:number>/", view=statement, linked=False),
    Page(
        "File",
        "admin:statement_file",
        VIEW,
        route="billing/statements/<str:number>/files/<str:name>",
        view=statement_file,
        linked=False,
    ),
    first=True,
)
rooms.BILLING.add(listed("Particulars", "billing.particulars"))
rooms.SETTINGS.add(listed("Issuers", "billing.issuer"))
