"""Which columns of a cloud's bill say what, and which words of its meters mean which model's tokens.

The presets are starting points: a format is saved with columns and patterns of its own.

- FOCUS (any cloud, and most FinOps tools export it): https://focus.finops.org/focus-specification/v1-2/
- AWS Data Exports, CUR 2.0: a line for each type of tokens; usage types end in `-input-tokens`, `-output-tokens`,
  `-cache-read-input-token-count`, `-cache-write-input-token-count`.
- Google Cloud's billing export: model and type of tokens are only in `sku.description`; credits are lines of their own.
- Azure's cost details: the meter names the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from keys import patterns
from reconciliation.reads import TOKEN_TYPES
from reconciliation.sources import BillFormat

# What a column says: the start of the usage, its meter, USD (or another currency) and, if there are such, the quantity
# of tokens and the currency.
NEEDED = ("start", "meter", "cost")
WANTED = (*NEEDED, "quantity", "currency", "only", "only_value")


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


class Meters:
    """Which model's tokens a meter counts, by a format's patterns."""

    def __init__(self, format_: BillFormat) -> None:
        self.patterns = [(each["pattern"], each["model"], each["token_type"]) for each in format_.meters]
        self.known: dict[str, tuple[str, str]] = {}

    def of(self, meter: str) -> tuple[str, str]:
        """The model and the type of tokens (empty: a fee of that model); both empty: no pattern fits."""
        if meter not in self.known:
            fitting = (each[1:] for each in self.patterns if patterns.stands_for(each[0], meter))
            self.known[meter] = next(fitting, ("", ""))
        return self.known[meter]


def columns_in_lines(columns: Mapping[str, str]) -> str:
    """The columns as people edit them."""
    return "\n".join(f"{name} = {column}" for name, column in columns.items())


def meters_in_lines(meters: Iterable[Mapping[str, str]]) -> str:
    """The patterns as people edit them: `*input-tokens* = claude-opus-5-5, input_tokens`."""
    return "\n".join(
        f"{each['pattern']} = {', '.join(filter(None, (each['model'], each['token_type'])))}" for each in meters
    )


def read_columns(text: str) -> dict[str, str]:
    """The columns that lines say.

    Raises:
        ValueError: a line is malformed, or a column is unknown or missing.
    """
    pairs = [line.partition("=") for line in text.splitlines() if line.strip()]
    if any(not equals for _, equals, _ in pairs):
        raise ValueError("write each line as WHAT = COLUMN")
    return checked_columns({what.strip(): column.strip() for what, _, column in pairs})


def read_meters(text: str) -> list[dict[str, str]]:
    """The patterns that lines say.

    Raises:
        ValueError: a line is malformed, or names another type of tokens.
    """
    found = []
    for line in text.splitlines():
        if not line.strip():
            continue
        pattern, equals, rest = line.partition("=")
        model, _, token_type = (part.strip() for part in rest.partition(","))
        if not equals or not pattern.strip() or not model or len(line) > 500:
            raise ValueError(f"“{line[:60]}”: write PATTERN = MODEL, TYPE OF TOKENS")
        if token_type and token_type not in TOKEN_TYPES:
            raise ValueError(f"“{token_type[:60]}” is not one of {', '.join(TOKEN_TYPES)} (or nothing, for a fee)")
        found.append({"pattern": pattern.strip(), "model": model, "token_type": token_type})
    return found
