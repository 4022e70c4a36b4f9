"""Downloads of a document's files, noted in the audit log."""

from __future__ import annotations

from typing import Any

from django.http import Http404, HttpResponse
from django.http.response import HttpResponseBase

from billing import documents, evidence
from billing.formats import EVIDENCE, MADE, MEDIA_OF_EVIDENCE, MEDIA_OF_PDF, PDF
from billing.models import Statement
from keys.audit.notes import note
from usage.paid import sees_costs

# Calls behind a document whose evidence pack a page makes; for more there is the command.
MOST_CALLS = 200_000


def names(user: Any, statement: Statement) -> list[str]:
    """The files of a document that a person may download. The evidence pack has what providers charge."""
    packed = sees_costs(user) and documents.said(statement)["calls"] <= MOST_CALLS
    return [PDF, *MADE, *([EVIDENCE] if packed else [])]


def made(statement: Statement, name: str) -> tuple[str, str, bytes]:
    """The name, the media type and the bytes of a file other than the evidence pack.

    Raises:
        Http404: the document has no such file.
    """
    filename = f"{statement.number}.{name}"
    note("exported", Statement._meta.db_table, str(statement.pk), number=statement.number, file=name)
    if name in MADE:
        media, make = MADE[name]
        return filename, media, make(statement)
    stored = statement.files.filter(name=filename).first()
    if name != PDF or stored is None:
        raise Http404("There is no such file.")
    return filename, MEDIA_OF_PDF, bytes(stored.content)


def content(statement: Statement, name: str, user: Any) -> tuple[str, str, bytes]:
    """The name, the media type and the bytes of a file.

    Raises:
        Http404: there is no such file, or this person may not see it.
    """
    if name not in names(user, statement):
        raise Http404("There is no such file.")
    if name != EVIDENCE:
        return made(statement, name)
    note("exported", Statement._meta.db_table, str(statement.pk), number=statement.number, file=name)
    may = {"names": user.has_perm("keys.view_auditevent"), "compared": user.has_perm("reconciliation.view_comparison")}
    with evidence.make(statement, **may) as pack:
        return f"{statement.number}.{name}", MEDIA_OF_EVIDENCE, pack.read()


def answer(statement: Statement, name: str, user: Any) -> HttpResponseBase:
    """The download of this name.

    Raises:
        Http404: there is no such file, or this person may not see it.
    """
    filename, media, found = content(statement, name, user)
    headers = {"Content-Disposition": f'attachment; filename="{filename}"'}
    return HttpResponse(found, content_type=media, headers=headers)
