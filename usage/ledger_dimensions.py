"""The dimensions of roll-ups, computed of ledger rows that are read one by one (usage/ledger_cells.py is the same)."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet, TextField, Value
from django.db.models.expressions import RawSQL
from django.db.models.fields.json import KeyTextTransform
from django.db.models.functions import Coalesce, Left

from usage.ledger_cells import COST_CENTRES, LABEL_LENGTH, PROJECT, TIER_LENGTH
from usage.models import LedgerEntry
from usage.questions import DIMENSIONS, FOLDED_MODEL
from usage.whose import whose

# The field or alias of each dimension.
FIELDS = {
    **DIMENSIONS,
    "model": "folded_model",
    **{name: f"of_{name}" for name in ("cost_centre", "project", "service_tier", "speed")},
}


def with_dimensions(rows: QuerySet[LedgerEntry]) -> QuerySet[Any]:
    """Rows with aliases for `FIELDS`, and `whose`: whose fault it is that a call went wrong."""
    nothing, text = Value("", TextField()), TextField()
    centre = Coalesce(*(KeyTextTransform(name, "labels") for name in COST_CENTRES), nothing, output_field=text)
    project = Coalesce(KeyTextTransform(PROJECT, "labels"), nothing, output_field=text)
    return rows.alias(
        folded_model=FOLDED_MODEL,
        of_cost_centre=Left(centre, LABEL_LENGTH),
        of_project=Left(project, LABEL_LENGTH),
        of_service_tier=Left("service_tier", TIER_LENGTH),
        of_speed=Left("speed", TIER_LENGTH),
        whose=RawSQL(whose("usage_ledgerentry"), [], TextField()),  # noqa: S611 - constants
    )
