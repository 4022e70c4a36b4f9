"""The URLs of the reports."""

from __future__ import annotations

from django.urls import path

from administration.analytics.paths import BASE, BEFORE, REPORTS
from administration.analytics.views import report

urlpatterns = [
    path(f"{before}{BASE}{name}", report, {"report": name}, name=f"analytics_{name}")
    for before in reversed(BEFORE)
    for name in REPORTS
]
