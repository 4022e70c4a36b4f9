"""Migrations that have landed, and the SQL that they load, stay as they are: a database that was made with them must be
like one that is made today. What changes comes in a new migration, with a file of its own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from django.core.management import call_command

ROOT = Path(__file__).resolve().parent.parent.parent
LANDED = Path(__file__).with_suffix(".json")


def fingerprints() -> dict[str, str]:
    """Of every file that makes the database, by path; ends of lines don't count."""
    files = [*ROOT.glob("*/migrations/0*.py"), *ROOT.glob("*/sql/*.sql")]
    return {
        path.relative_to(ROOT).as_posix(): hashlib.sha256(path.read_text().encode()).hexdigest()[:16]
        for path in sorted(files)
    }


def test_migrations_that_have_landed_and_their_sql_are_as_they_were():
    """After adding a migration, write what `fingerprints` returns to the file: lines are added to it, never changed."""
    assert fingerprints() == json.loads(LANDED.read_text())


def test_the_models_have_no_change_that_no_migration_makes(db):
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
