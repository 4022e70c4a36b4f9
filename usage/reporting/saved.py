"""Saving reports, and who sees which.

A person sees their own reports, and the shared ones whose customers, teams, virtual keys and provider keys they may all
see. What a report answers is always what its reader may see.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q, QuerySet
from django.http import QueryDict

from keys.errors import Unusable, refused
from keys.visibility import visible
from usage.reporting.asked import OF_ROWS, Asked, AskedForm
from usage.reporting.dimensions import ALL
from usage.saved_reports import LONGEST_QUERY, SavedReport

# Who may see reports may save them.
SEE = "usage.view_rollup"
# Who may take away the shared reports of others, such as of people who have left.
REMOVE = "usage.delete_savedreport"
MOST = 200


def asked_by(query: str, user: Any) -> Asked:
    """What the parameters of a report's URL ask, for this person.

    Raises:
        Unusable: with what is wrong.
    """
    form = AskedForm(query, user=user)
    if not form.is_valid():
        name, messages = next(iter(form.errors.items()))
        raise Unusable(f"{name}: {messages[0]}" if name != "__all__" else str(messages[0]))
    return form.asked()


def save(user: Any, report: SavedReport) -> SavedReport:
    """Save a new or changed report of a person. Its parameters are kept as the report's own URL has them.

    Raises:
        PermissionDenied: the person may see no reports, or it is another person's.
        Unusable: a parameter, the name or the number of reports is wrong.
    """
    if not may_change(user, report):
        raise PermissionDenied
    report.name = report.name.strip()
    report.query = asked_by(report.query, user).query_string()
    if len(report.query) > LONGEST_QUERY:
        raise Unusable("the report has too many filters to be saved: choose fewer customers, teams or keys")
    if report._state.adding and SavedReport.objects.filter(owner=user.pk).count() >= MOST:
        raise Unusable(f"you have {MOST} saved reports: delete one that you don't need")
    with refused():
        report.full_clean()
    report.save()
    return report


def may_change(user: Any, report: SavedReport) -> bool:
    """Whether a person may rename, share or mail a report: their own, as long as they may see reports."""
    return bool(report.owner_id == user.pk and user.has_perm(SEE))


def may_remove(user: Any, report: SavedReport) -> bool:
    """Whether a person may delete a report."""
    return may_change(user, report) or bool(report.shared and user.has_perm(REMOVE))


def seen_by(user: Any) -> QuerySet[SavedReport]:
    """The reports that a person finds: their own, and the shared ones about what they may see."""
    rows = SavedReport.objects.select_related("owner")
    if not user.has_perm(SEE):
        return rows.none()
    shared = dict(rows.filter(shared=True).exclude(owner=user.pk).values_list("pk", "query"))
    return rows.filter(Q(owner=user.pk) | Q(pk__in=_about_what_is_seen(user, shared)))


def _about_what_is_seen(user: Any, queries: Mapping[int, str]) -> list[int]:
    """Those of the queries that name nothing which a person may not see. One query for each dimension of rows."""
    named = {pk: named_rows(query) for pk, query in queries.items()}
    unseen = {name: _unseen(user, name, {each for rows in named.values() for each in rows[name]}) for name in OF_ROWS}
    return [pk for pk, rows in named.items() if not any(rows[name] & unseen[name] for name in OF_ROWS)]


def _unseen(user: Any, name: str, ids: set[int]) -> set[int]:
    model = ALL[name].model
    if not ids or model is None:
        return set()
    rows = visible(user, model._default_manager.filter(pk__in=ids), "choose")
    return ids - set(rows.order_by().values_list("pk", flat=True))


def named_rows(query: str) -> dict[str, set[int]]:
    """The ids of rows that a saved query names, by dimension."""
    given = QueryDict(query)
    return {name: _numbers(given.getlist(name)) for name in OF_ROWS}


def _numbers(texts: Iterable[str]) -> set[int]:
    return {int(text) for text in texts if text.isascii() and text.isdecimal()}


def in_words(error: Unusable | ValidationError) -> str:
    """An error for people, as a sentence."""
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}".rstrip(".") + "."
