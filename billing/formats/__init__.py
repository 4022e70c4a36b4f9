"""The files of a document: each is made from what was frozen, so it is the same each time."""

from __future__ import annotations

from collections.abc import Callable

from billing import documents
from billing.formats import csv_file, focus, journal, xlsx
from billing.models import Statement

PDF = "pdf"
# What a person can download of each document: by the end of its name, its media type and what makes it. The evidence
# pack and the PDF have functions of their own.
MADE: dict[str, tuple[str, Callable[[Statement], bytes]]] = {
    "csv": ("text/csv; charset=utf-8", csv_file.make),
    "xlsx": ("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", xlsx.make),
    "json": ("application/json", documents.stored),
    "journal.csv": ("text/csv; charset=utf-8", journal.make),
    "focus.csv": ("text/csv; charset=utf-8", focus.make),
}
MEDIA_OF_PDF = "application/pdf"
EVIDENCE, MEDIA_OF_EVIDENCE = "evidence.zip", "application/zip"
NAMES = (PDF, *MADE, EVIDENCE)
