"""One name for a model, and one for how it was called, on both sides: reports and ledger spell them differently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keys import model_names
from usage.rates import STANDARD_TIERS

STANDARD = "standard"


def name_of(model: str) -> str:
    """The model's name without vendor and date: reports use short names."""
    return model_names.undated(model_names.own_name(model_names.identity(model)))[0]


def mode_of(row: Mapping[str, Any]) -> str:
    """Tier, fast mode and residency: what makes tokens of a model cost something else. `standard fast us`, `batch`."""
    tier = model_names.fold(row["service_tier"] or "")
    parts = [STANDARD if tier in STANDARD_TIERS else tier]
    parts += ["fast"] if row["speed"] == "fast" else []
    parts += ["us"] if row["inference_geo"] == "us" else []
    return " ".join(parts)[:100]
