"""The list of calls, its export, and the page of one call."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_safe

from administration import rooms
from administration.calls import details, filters
from administration.calls.filters import CallFilter
from administration.roles import names, visible
from administration.rooms import Page
from keys import exports
from keys.exports import Export
from usage import archived, export, moments, paid, request_ids
from usage.archived import ArchivedMonth
from usage.models import LedgerEntry

VIEW = ("usage.view_ledgerentry",)


@require_safe
def calls(request: HttpRequest) -> HttpResponseBase:
    """The calls that fit the filter in the URL, latest first; with `format`, all of them as a download."""
    kind = exports.wanted(request)
    form = CallFilter(request.GET, user=request.user)
    wanted = None
    if form.is_valid():
        wanted = filters.conditions(form.cleaned_data, visible(request.user, LedgerEntry.objects.all()))
        if kind:
            return download(request, form, kind)
    part = filters.page(wanted, filters.before_of(request.GET.get("before"))) if wanted else None
    context = admin.site.each_context(request) | {
        "title": "Calls",
        "form": form,
        "part": part,
        "first_page": "before" not in request.GET,
        "next_query": query(request, before=request_ids.request_id(part.next)) if part and part.next else "",
        "latest_query": query(request),
        **exports.links(query(request) if request.user.has_perm(names.EXPORT_CALLS) else None),
        "may_search": True,
        "archived": archived_words(form) if part and not part.next else "",
    }
    return TemplateResponse(request, "admin/calls/list.html", context)


def archived_words(form: CallFilter) -> str:
    """Which calls of the range are archived, and where; empty: none are."""
    found = archived.overlapping(form.cleaned_data.get("since"), form.cleaned_data.get("until"))
    return archived.in_words(found) if found else ""


def query(request: HttpRequest, **changes: str) -> str:
    """The filter for another URL, without empty values and without the place in the list."""
    found = request.GET.copy()
    for name in [name for name, value in found.items() if not value or name in ("before", "format")]:
        del found[name]
    for name, value in changes.items():
        found[name] = value
    return found.urlencode()


def download(request: HttpRequest, form: CallFilter, kind: str) -> HttpResponseBase:
    """The calls that fit, oldest first, in the columns of `manage.py export_usage`.

    Raises:
        PermissionDenied: this person may see calls, and not export them.
    """
    if not request.user.has_perm(names.EXPORT_CALLS):
        raise PermissionDenied
    wanted = filters.conditions(form.cleaned_data, visible(request.user, LedgerEntry.objects.all(), "export"))
    costs = paid.sees_costs(request.user)
    parts = filters.oldest_first(wanted)
    shown = parts if costs else ([paid.as_paid(row) for row in part] for part in parts)
    pages = ([list(row.values()) for row in export.described([part])] for part in shown)
    asked, zone = query(request), timezone.get_current_timezone_name()
    about = {"filter": asked or "all calls", "time_zone": zone, "made_at": moments.show(moments.now())}
    lacking = [
        str(month) for month in archived.overlapping(form.cleaned_data.get("since"), form.cleaned_data.get("until"))
    ]
    if lacking:
        about["archived_and_not_here"] = ", ".join(lacking)
    name = "-".join(("calls", *(f"without-{month}" for month in lacking)))
    return Export(request, "usage_ledgerentry", export.table(name, about), pages, kind, query=asked or None)


@require_safe
def call(request: HttpRequest, call: str) -> HttpResponse:
    """The page of one call.

    Raises:
        Http404: there is no such call, or this person may not see it.
    """
    if (month := archived_month(call)) is not None:
        return away(request, call, month)
    try:
        row = (
            visible(request.user, LedgerEntry.objects.all())
            .select_related("virtual_key", "provider_key", "team__customer", "customer")
            .get(pk=request_ids.parse(call))
        )
    except (ValueError, LedgerEntry.DoesNotExist):
        raise Http404("There is no such call.") from None
    row = paid.seen_by(request.user, row)
    context: dict[str, Any] = admin.site.each_context(request) | {
        "title": f"Call {request_ids.request_id(row.pk)}",
        "row": row,
        "call": details.of(row, request.user),
        "calls_url": reverse("admin:calls"),
    }
    return TemplateResponse(request, "admin/calls/call.html", context)


def archived_month(call: str) -> ArchivedMonth | None:
    """The archived month of a call, if it isn't in the ledger."""
    try:
        pk = request_ids.parse(call)
    except ValueError:
        return None
    month = archived.of_call(pk)
    return month if month is not None and not LedgerEntry.objects.filter(pk=pk).exists() else None


def away(request: HttpRequest, call: str, month: ArchivedMonth) -> HttpResponse:
    """Say where the calls of an archived month are. Whether there was such a call isn't known here."""
    context = admin.site.each_context(request) | {"title": f"Call {call}", "month": month, "how": archived.HOW}
    return TemplateResponse(request, "admin/calls/archived.html", context, status=404)


rooms.CALLS.add(
    Page(
        "Calls",
        "admin:calls",
        VIEW,
        route="calls/",
        view=calls,
        also=("admin:call", "admin:usage_ledgerentry_changelist", "admin:usage_ledgerentry_change"),
    ),
    first=True,
)
rooms.CALLS.add(Page("Call", "admin:call", VIEW, route="calls/<str:call>/", view=call, linked=False))
