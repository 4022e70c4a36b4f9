"""Pages of usage in the admin."""

from __future__ import annotations

from django.contrib import admin
from django.contrib.auth.decorators import permission_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, QueryDict
from django.template.response import TemplateResponse
from django.views.decorators.http import require_safe

from keys.audit.notes import note
from keys.visibility import visible
from usage import reports, rollups
from usage.models import Rollup


@require_safe
@permission_required("usage.view_rollup", raise_exception=True)
def report(request: HttpRequest) -> HttpResponse:
    """The usage report; with `format=csv`, its table as a download."""
    rolled_up_at = rollups.freshen()
    form = reports.ReportForm(request.GET, user=request.user)
    made = None
    if form.is_valid():
        made = reports.make(form.cleaned_data, request.user)
        form.data = shown(request.GET, made)
    if made and request.GET.get("format") == "csv":
        if not request.user.has_perm("usage.export_rollup"):
            raise PermissionDenied
        filters = {"since": made.since, "until": made.until, "query": request.GET.urlencode()}
        note("exported", "usage_rollup", "", **filters, rows=len(made.lines))
        return HttpResponse(
            "".join(made.csv()),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="usage-{made.since}-{made.until}.csv"'},
        )
    query = request.GET.copy()
    query["format"] = "csv"
    return TemplateResponse(
        request,
        "admin/usage/report.html",
        admin.site.each_context(request)
        | {
            "title": "Usage report",
            "form": form,
            "report": made,
            "lines": made.lines[: reports.LINES] if made else [],
            "measures": made.measures if made else [],
            "csv_query": query.urlencode() if request.user.has_perm("usage.export_rollup") else "",
            "rolled_up_at": rolled_up_at,
            "ever_used": bool(made and made.lines) or visible(request.user, Rollup.objects.all()).exists(),
        },
    )


def shown(query: QueryDict, report: reports.Report) -> QueryDict:
    """The query with the defaults filled in that the report used for empty fields."""
    filled = query.copy()
    filled["since"], filled["until"] = report.since.isoformat(), report.until.isoformat()
    filled.setlist("group", report.groups)
    return filled
