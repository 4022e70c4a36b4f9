"""Erases a label from the files of archived months: new ones replace them, with new hashes and the same sums.

New files are written beside the old ones first. The transaction that stores their hashes decides; files are moved after
it. A run that is cut off in between is finished by the next one, or when the month is put back.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.db import connection, transaction

from keys.errors import Unusable
from usage import archive_files, archived, archiving, label_erasure, restoring
from usage.archive_files import Place, fetch
from usage.archived import ArchivedMonth, State
from usage.label_erasure import Counts, Label

BESIDE = "rewritten"


def erase(label: Label) -> tuple[Counts, list[str]]:
    """Erase a label from everything that is recorded of calls. It can be repeated if it was cut off.

    Returns:
        How much had it, and which archives couldn't be replaced, each with the reason.

    Raises:
        Unusable: virtual keys have the label.
    """
    with archived.alone():
        found, left = label_erasure.erase_recorded(label), []
        for row in archived.months():
            try:
                finish(row)
                found.archived += rewrite(row, label)
            except Unusable as error:
                left.append(str(error))
        label_erasure.noted(label, found)
    return found, left


def rewrite(row: ArchivedMonth, label: Label) -> int:
    """Write the files of an archived month without a label; return how many rows had it.

    Raises:
        Unusable: the files are missing or damaged.
    """
    place = Place(Path(row.folder), row.month)
    archive_files.check(place, row.manifest)
    given = label.parameters()
    kept = archiving.kept_table_of(row.month)
    is_there = row.state == State.DETACHED and fetch("SELECT to_regclass(%s) IS NOT NULL", [kept])[0][0]
    if is_there and fetch(label_erasure.is_in(kept), given)[0][0]:
        archiving.drop_table(row)
    if not any(has(place, given)):
        return 0
    of = archiving.ledger_month(row.month)
    table = restoring.load(place, of, row.manifest)
    try:
        rows = 0
        for after, last in archive_files.parts(table):
            with connection.cursor() as cursor:
                cursor.execute(label_erasure.update(table), given | {"after": after, "last": last})
                rows += cursor.rowcount
        label_erasure.erase_settled(given, table)
        beside = replace(place, folder=place.folder / BESIDE)
        made = archive_files.export(beside, table, of.first_id, of.end_id).manifest
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE IF EXISTS {table}")
    if sums(made) != sums(row.manifest):
        raise Unusable(f"{row} was not rewritten: its sums would change")
    with transaction.atomic():
        row.manifest = made
        row.save(update_fields=["manifest"])
    finish(row)
    return rows


def finish(row: ArchivedMonth) -> None:
    """Move new files to their place, if a run was cut off before it did."""
    place = Place(Path(row.folder), row.month)
    beside = replace(place, folder=place.folder / BESIDE)
    try:
        if json.loads(beside.manifest.read_bytes()) == row.manifest:
            # The manifest comes last: while it is there, the others may have been moved.
            for name in ("rows", "adjustments", "manifest"):
                if (path := getattr(beside, name)).exists():
                    path.replace(getattr(place, name))
    except (FileNotFoundError, ValueError):
        pass
    shutil.rmtree(beside.folder, ignore_errors=True)


def has(place: Place, given: dict[str, Any]) -> Iterator[bool]:
    """For each row and adjustment of a file, whether it has the label."""
    names, value, customer = given["names"], given["value"], given["customer"]

    def fits(text: str) -> bool:
        labels = json.loads(text) if text else {}
        return any(name in labels and value in (None, labels[name]) for name in names)

    for row in archive_files.records(place.rows):
        if customer is None or row["customer_id"] == str(customer):
            yield fits(row["labels"]) or fits(row["client_labels"])
    for row in archive_files.records(place.adjustments):
        yield fits(json.dumps(json.loads(row["detail"]).get("client_labels") or {}))


def sums(manifest: dict[str, Any]) -> Any:
    """What a manifest says that doesn't depend on labels."""
    files = {name: {**each, "sha256": ""} for name, each in manifest["files"].items()}
    return {**manifest, "files": files}
