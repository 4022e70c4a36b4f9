"""The front page: how the gateway does, each figure with a link to the page that explains it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.conf import settings
from django.contrib import admin
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from django.views.decorators.http import require_safe

from administration import first_steps, overview, rooms
from administration.rooms import Page
from usage import rollups

# Alerts that wait for longer than this have no worker that sends them.
UNSENT = timedelta(minutes=3)
CONNECTIONS = """
SELECT count(*), current_setting('max_connections')::integer, current_setting('server_version'), usage_now()
FROM pg_stat_activity WHERE backend_type = 'client backend'
"""


@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """The overview, or the path to the first call. A person sees the parts that they have a permission for."""
    now = timezone.now()
    user: Any = request.user
    context = admin.site.each_context(request) | {"title": "Overview", "path": first_steps.path(user)}
    if user.has_perm("usage.view_rollup"):
        context |= {"rolled_up_at": rollups.freshen(), "spend": overview.spend(user, now)}
    if user.has_perm("usage.view_refusal"):
        context["refusals"] = overview.refusals(user, now)
    if user.has_perm("usage.view_budget"):
        dangers = overview.dangers(user, now)
        context |= {"dangers": dangers[: overview.SHOWN], "more_dangers": max(0, len(dangers) - overview.SHOWN)}
    if user.has_perm("keys.view_providerkey"):
        context["troubles"] = overview.troubles(user, now)
    if user.has_perm("usage.view_hold"):
        context["holds"] = overview.holds(user)
    if user.has_perm("usage.view_process"):
        context |= _gateway(user)
    context["base_url"] = request.build_absolute_uri("/").rstrip("/")
    return TemplateResponse(request, "admin/index.html", context)


def _gateway(user: Any) -> dict[str, Any]:
    """The processes, the workers, the queue and the database. Four queries.

    What waits for too long is a matter of the database's clock, which has dated it.
    """
    lease = timedelta(seconds=settings.CONFIGURATION.lease_seconds)
    queue = overview.queue(user)
    with connection.cursor() as cursor:
        cursor.execute(CONNECTIONS)
        used, most, version, now = cursor.fetchone()
    return {
        "processes": overview.processes(user, lease),
        "workers": overview.workers(user),
        "tasks_stuck": now - UNSENT,
        "queue": queue,
        "queue_stuck": queue["oldest"] is not None and queue["oldest"] < now - UNSENT,
        "database": {"used": used, "most": most, "version": version.split()[0], "full": used > most * 0.8},
    }


rooms.OVERVIEW.add(Page("Overview", "admin:index", route="", view=show))
