"""A document as FOCUS, the FinOps Foundation's format of bills, so that its tools read it.

Columns and rules of a version are data (`focus_1_2.json`); `check` compares rows with them. Costs are in the document's
currency. Billed costs add up to the document's total, with the rounding line as a row of its own.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation, localcontext
from functools import cache
from pathlib import Path
from typing import Any

from billing import documents
from billing.categories import UNIT_OF_TOKENS
from billing.lines import PRECISION
from billing.models import LineKind, Statement, StatementLine
from keys.csv_lines import csv_line, money
from keys.product import NAME

VERSION = "1.2"
FOLDER = Path(__file__).parent
MILLION = Decimal(10) ** 6
USED = (LineKind.TOKENS, LineKind.WEB_SEARCH, LineKind.FLAT)
# Who makes a model, by the beginning of its name.
PUBLISHERS = {"claude": "Anthropic", "gpt": "OpenAI", "o": "OpenAI", "gemini": "Google", "mistral": "Mistral AI"}

Row = dict[str, str]


@cache
def rules(version: str = VERSION) -> dict[str, Any]:
    """The columns and rules of a version."""
    read: dict[str, Any] = json.loads((FOLDER / f"focus_{version.replace('.', '_')}.json").read_text())
    return read


def columns(version: str = VERSION) -> list[str]:
    """The names of the columns, in order."""
    return [each["name"] for each in rules(version)["columns"]]


def make(statement: Statement) -> bytes:
    """The file. Amounts are numbers to `csv_line`: as a text, it would mask a negative one, as it masks a formula."""
    names, amounts = columns(), {each["name"] for each in rules()["columns"] if each["type"] == "decimal"}
    lines = (
        csv_line([Decimal(row[name]) if name in amounts and name in row else row.get(name, "") for name in names])
        for row in rows(statement)
    )
    return (csv_line(names) + "".join(lines)).encode()


def rows(statement: Statement) -> Iterator[Row]:
    """A row for each line; what is null is missing or empty."""
    said = documents.said(statement)
    rate = Decimal(said["exchange_rate"]["rate"]) if said["exchange_rate"] else Decimal(1)
    same = of_document(statement, said)
    with localcontext(prec=PRECISION):
        for line in statement.lines.order_by("position"):
            costs = {**same, **what(line), **costs_of(line, rate)}
            if line.earlier:
                # Of calls in a month that was invoiced before.
                costs |= {"ChargeClass": "Correction", **earlier(said)}
            yield {name: value for name, value in costs.items() if value != ""}


def of_document(statement: Statement, said: Mapping[str, Any]) -> Row:
    """What all rows of a document have in common."""
    period = {name: f"{said['period'][name][:19]}Z" for name in ("starts_at", "ends_at")}
    return {
        "BillingAccountId": str(said["customer"]["id"]),
        "BillingAccountName": said["customer"]["billing_name"],
        "BillingCurrency": statement.currency,
        "BillingPeriodStart": period["starts_at"],
        "BillingPeriodEnd": period["ends_at"],
        "ChargePeriodStart": period["starts_at"],
        "ChargePeriodEnd": period["ends_at"],
        "ChargeFrequency": "Usage-Based",
        "InvoiceId": statement.number,
        "InvoiceIssuerName": said["issuer"]["name"],
        "ServiceCategory": "AI and Machine Learning",
        "ServiceSubcategory": "Generative AI",
        "PricingCurrency": "USD",
        "x_Corrects": said["corrects"] or "",
    }


def earlier(said: Mapping[str, Any]) -> Row:
    """The time of what a document corrects."""
    starts = [each["starts_at"] for each in said["covers"]]
    ends = [each["ends_at"] for each in said["covers"] if each["ends_at"] <= said["period"]["starts_at"]]
    end = max(ends, default=said["period"]["ends_at"])
    return {"ChargePeriodStart": f"{min(starts)[:19]}Z", "ChargePeriodEnd": f"{end[:19]}Z"}


def what(line: StatementLine) -> Row:
    """What a row is about."""
    model = line.model or "none"
    sku = line.kind in USED
    price = f"{line.provider}/{model}/{line.category}/{money(line.unit_price)}" if line.unit_price is not None else ""
    return {
        "ChargeCategory": "Usage" if sku else "Adjustment",
        "ChargeDescription": description(line)[:240],
        "ProviderName": line.provider or NAME,
        "PublisherName": publisher(line.model) or line.provider or NAME,
        "ServiceName": service(line.model),
        "SkuId": model if sku else "",
        "SkuMeter": line.category if sku else "",
        "SkuPriceId": price if sku else "",
        "SkuPriceDetails": json.dumps({"x_Category": line.category}) if sku else "",
        "SubAccountId": str(line.team_id) if line.team_id else "",
        "SubAccountName": (line.team or str(line.team_id)) if line.team_id else "",
        "Tags": json.dumps({"cost_centre": line.cost_centre}, ensure_ascii=False) if line.cost_centre else "",
        "x_VirtualKey": line.virtual_key,
        "x_CostCentre": line.cost_centre,
        "x_Estimated": "true" if line.estimated else "false",
        "x_Corrects": line.refers_to,
    }


def costs_of(line: StatementLine, rate: Decimal) -> Row:
    """A row's quantities, prices and costs."""
    found = {
        "BilledCost": money(line.amount),
        "EffectiveCost": money(line.net * rate),
        "ContractedCost": money(line.net * rate),
        "ListCost": money(line.list_amount * rate),
        "PricingCurrencyEffectiveCost": money(line.net),
    }
    if line.kind not in USED or line.unit_price is None:
        return found
    tokens = line.unit == UNIT_OF_TOKENS
    quantity = line.quantity / MILLION if tokens else Decimal(line.quantity)
    unit, listed = line.unit_price, line.list_price if line.list_price is not None else line.unit_price
    return found | {
        "ContractedCost": money(unit * rate * quantity),
        "ListCost": money(listed * rate * quantity),
        "PricingQuantity": money(quantity),
        "PricingUnit": "1000000 Tokens" if tokens else "Requests",
        "ConsumedQuantity": str(line.quantity),
        "ConsumedUnit": "Tokens" if tokens else "Requests",
        "ContractedUnitPrice": money(unit * rate),
        "ListUnitPrice": money(listed * rate),
        "PricingCurrencyContractedUnitPrice": money(unit),
        "PricingCurrencyListUnitPrice": money(listed),
        "PricingCategory": "Standard",
    }


def description(line: StatementLine) -> str:
    """A row in words."""
    about = {
        LineKind.ROUNDING: "rounding of the lines",
        LineKind.REMAINDER: "not split by category",
        LineKind.ADJUSTMENT: f"adjustment: {line.reason}",
    }.get(LineKind(line.kind), line.category.replace("_", " "))
    return ", ".join(each for each in (line.model, about) if each)


def publisher(model: str) -> str:
    """Who makes a model; empty if unknown."""
    return next((name for start, name in PUBLISHERS.items() if re.search(rf"(^|[./]){start}(?![a-z])", model)), "")


def service(model: str) -> str:
    """The service that a model belongs to."""
    return {"Anthropic": "Claude API", "OpenAI": "OpenAI API", "Google": "Gemini API"}.get(
        publisher(model), "Model API"
    )


def check(found: Sequence[Mapping[str, str]], version: str = VERSION) -> list[str]:
    """What rows have otherwise than a version's rules say, each a sentence."""
    faults = []
    with localcontext(prec=PRECISION):
        for number, row in enumerate(found, 1):
            unknown = set(row) - set(columns(version))
            faults += [f"row {number}: {name} is no column" for name in sorted(unknown)]
            for column in rules(version)["columns"]:
                if fault := fault_of(column, row.get(column["name"], "")):
                    faults.append(f"row {number}: {column['name']} {fault}")
            faults += [f"row {number}: {rule}" for rule in rules(version)["rules"] if not holds(rule, row)]
    return faults


def fault_of(column: Mapping[str, Any], value: str) -> str:
    """What is wrong with a value; empty: nothing is."""
    if value == "":
        return "" if column["null"] else "is null"
    if "values" in column and value not in column["values"]:
        return f"is {value}"
    kind, patterns = (
        column["type"],
        {
            "decimal": r"-?\d+(\.\d+)?",
            "time": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ",
            "currency": "[A-Z]{3}",
            "boolean": "true|false",
        },
    )
    if kind in patterns and not re.fullmatch(patterns[kind], value):
        return f"is no {kind}: {value}"
    if kind == "json" and not isinstance(json.loads(value), dict):
        return "is no JSON object"
    return ""


def holds(rule: Mapping[str, Any], row: Mapping[str, str]) -> bool:
    """Whether a row keeps a rule."""
    if any(row.get(name, "") == value for name, value in rule.get("unless", {}).items()):
        return True
    if "product" in rule:
        factors = [row.get(name, "") for name in rule["of"]]
        if "" in factors:
            return True
        try:
            return Decimal(factors[0]) * Decimal(factors[1]) == Decimal(row[rule["product"]])
        except InvalidOperation:
            return False
    if "together" in rule:
        return len({row.get(name, "") == "" for name in rule["together"]}) == 1
    if "before" in rule:
        first, second = (row.get(name, "") for name in rule["before"])
        return first < second
    if any(row.get(name, "") != value for name, value in rule["when"].items()):
        return True
    return all(row.get(name, "") != "" for name in rule.get("not_null", ())) and all(
        row.get(name, "") == "" for name in rule.get("null", ())
    )
