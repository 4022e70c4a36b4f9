"""The usage report. Its question stands in the URL."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.views.decorators.http import require_safe

from administration.roles import names
from administration.usage_report.links import Links
from administration.usage_report.sections import section
from keys import exports
from keys.errors import Unusable
from keys.visibility import visible
from usage import rollups
from usage.models import Rollup
from usage.reporting import files, forecast_files, tables
from usage.reporting.asked import SHOWN, Asked, AskedForm


@require_safe
@permission_required("usage.view_rollup", raise_exception=True)
def report(request: HttpRequest) -> HttpResponseBase:
    """The usage report; with `format`, its table as a download."""
    kind = exports.wanted(request)
    rolled_up_at = rollups.freshen()
    form = AskedForm(request.GET, user=request.user)
    context: dict[str, Any] = {"title": "Usage report", "form": form, "rolled_up_at": rolled_up_at}
    if form.is_valid():
        asked = form.asked()
        form.fill_in(asked)
        links = Links(asked, request.user)
        context |= {"asked": asked, "heading": asked.heading(), "tabs": list(_tabs(asked, links))}
        try:
            if kind:
                return files.download(request, asked, kind)
            context |= section(asked, request.user, tables.shown_amount(asked, request.user))
        except Unusable as error:
            context["refused"] = str(error)
        may_export = request.user.has_perm(names.EXPORT_REPORT)
        context |= exports.links(asked.query_string() if may_export else None)
        budgets = f"{asked.query_string()}&{forecast_files.PARAMETER}={forecast_files.BUDGETS}"
        context["budgets_query"] = budgets if may_export else None
        context["save_query"] = asked.query_string()
        context["ever_used"] = bool(context.get("table")) or visible(request.user, Rollup.objects.all()).exists()
    return TemplateResponse(request, "admin/usage/report.html", admin.site.each_context(request) | context)


def _tabs(asked: Asked, links: Links) -> Iterator[dict[str, Any]]:
    for name, title in SHOWN.items():
        yield {"title": title, "url": links.report(show=name), "current": name == asked.show}
