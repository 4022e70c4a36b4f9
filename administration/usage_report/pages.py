"""The usage report. Its question stands in the URL."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from django.contrib import admin
from django.contrib.auth.decorators import permission_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.views.decorators.http import require_safe

from administration.roles import names
from administration.usage_report.links import Links
from administration.usage_report.sections import section
from keys.errors import Unusable
from keys.exports import PAGE, Export
from keys.visibility import visible
from usage import rollups
from usage.models import Rollup
from usage.reporting import tables
from usage.reporting.asked import SHOWN, Asked, AskedForm


@require_safe
@permission_required("usage.view_rollup", raise_exception=True)
def report(request: HttpRequest) -> HttpResponseBase:
    """The usage report; with `format=csv`, its table as a download."""
    rolled_up_at = rollups.freshen()
    form = AskedForm(request.GET, user=request.user)
    context: dict[str, Any] = {"title": "Usage report", "form": form, "rolled_up_at": rolled_up_at}
    if form.is_valid():
        asked = form.asked()
        if request.GET.get("format") == "csv":
            return download(request, asked)
        form.fill_in(asked)
        links = Links(asked, request.user)
        context |= {"asked": asked, "heading": asked.heading(), "tabs": list(_tabs(asked, links))}
        try:
            context |= section(asked, request.user, tables.shown_amount(asked, request.user))
        except Unusable as error:
            context["refused"] = str(error)
        context["csv_url"] = f"{links.report()}&format=csv" if request.user.has_perm(names.EXPORT_REPORT) else ""
        context["ever_used"] = bool(context.get("table")) or visible(request.user, Rollup.objects.all()).exists()
    return TemplateResponse(request, "admin/usage/report.html", admin.site.each_context(request) | context)


def _tabs(asked: Asked, links: Links) -> Iterator[dict[str, Any]]:
    for name, title in SHOWN.items():
        yield {"title": title, "url": links.report(show=name), "current": name == asked.show}


def download(request: HttpRequest, asked: Asked) -> HttpResponseBase:
    """All rows of the table.

    Raises:
        PermissionDenied: this person may see reports, and not export them.
    """
    if not request.user.has_perm(names.EXPORT_REPORT):
        raise PermissionDenied
    columns = tables.columns(asked, request.user)
    header = [f"{column.title}, {column.unit}" if column.unit else column.title for column in columns]
    rows = (
        [value.isoformat() if column.kind == "moment" else value for column, value in zip(columns, row, strict=True)]
        for row in tables.rows(asked, request.user)
    )
    filename = f"usage-{asked.days.first}-{asked.days.last}.csv"
    pages = iter(lambda: list(islice(rows, PAGE)), [])
    return Export(request, "usage_rollup", filename, header, pages, query=asked.query_string())
