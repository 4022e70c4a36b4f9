"""Which columns of a cloud's bill say what, and which words of its meters mean which model's tokens.

The presets are starting points: a format is saved with columns and patterns of its own.

- FOCUS (any cloud, and most FinOps tools export it): https://focus.finops.org/focus-specification/v1-2/
- AWS Data Exports, CUR 2.0: a line for each type of tokens; usage types end in `-input-tokens`, `-output-tokens`,
  `-cache-read-input-token-count`, `-cache-write-input-token-count`.
- Google Cloud's billing export: model and type of tokens are only in `sku.description`; credits are lines of their own.
- Azure's cost details: the meter names the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

# What a column says: the start of the usage, its meter, USD (or another currency) and, if there are such, the quantity
# of tokens and the currency.
NEEDED = ("start", "meter", "cost")
WANTED = (*NEEDED, "quantity", "currency", "only", "only_value")

TOKEN_METERS = (
    ("*cache*read*", "cache_read_input_tokens"),
    ("*cached*", "cache_read_input_tokens"),
    ("*cache*write*1h*", "cache_creation_1h_input_tokens"),
    ("*cache*write*", "cache_creation_5m_input_tokens"),
    ("*input*", "input_tokens"),
    ("*output*", "output_tokens"),
)


@dataclass(frozen=True, slots=True)
class Preset:
    """A kind of file: its name, its columns, and the tokens of one unit of its quantity."""

    name: str
    columns: dict[str, str]
    tokens_in_unit: int = 1


PRESETS = {
    "focus": Preset(
        "FOCUS",
        {
            "start": "ChargePeriodStart",
            "meter": "ChargeDescription",
            "cost": "EffectiveCost",
            "quantity": "ConsumedQuantity",
            "currency": "BillingCurrency",
        },
    ),
    "aws": Preset(
        "AWS CUR 2.0",
        {
            "start": "line_item_usage_start_date",
            "meter": "line_item_usage_type",
            "cost": "line_item_unblended_cost",
            "quantity": "line_item_usage_amount",
            "currency": "line_item_currency_code",
        },
        1000,
    ),
    "gcp": Preset(
        "Google Cloud billing export",
        {
            "start": "usage_start_time",
            "meter": "sku.description",
            "cost": "cost",
            "quantity": "usage.amount",
            "currency": "currency",
        },
    ),
    "azure": Preset(
        "Azure cost details",
        {"start": "date", "meter": "meterName", "cost": "costInUsd", "quantity": "quantity"},
        1000,
    ),
}


def checked_columns(given: Any) -> dict[str, str]:
    """The columns of a format.

    Raises:
        ValueError: one is unknown or missing, or isn't a name.
    """
    if not isinstance(given, dict) or not all(isinstance(each, str) for each in (*given, *given.values())):
        raise ValueError("give an object of column names")
    found = {name: each.strip() for name, each in given.items() if each.strip()}
    if unknown := sorted(set(found) - set(WANTED)):
        raise ValueError(f"“{unknown[0]}” is not one of {', '.join(WANTED)}")
    if missing := [name for name in NEEDED if name not in found]:
        raise ValueError(f"the column of the {missing[0]} is missing")
    return found
