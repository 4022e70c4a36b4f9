"""A document as PDF (PDF/UA-1, so that screen readers read it), by typst. It is made once, when the document is issued.

The data goes in as JSON and never as markup, so no name can be a part of the program.
"""

from __future__ import annotations

import json
from collections import defaultdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from billing.currencies import places
from billing.models import Kind, LineKind, Statement

SOURCE = Path(__file__).with_name("statement.typ")
# Lines that a PDF lists. Of a longer document, it has a line for each key and model; the CSV has all.
MOST = 1_500
CATEGORIES = {
    "input": "Input",
    "output": "Output",
    "cache_read": "Cache read",
    "cache_write_5m": "Cache write 5 min",
    "cache_write_1h": "Cache write 1 h",
    "web_search": "Web search",
    "request": "Per request",
}


def make(statement: Statement, document: bytes) -> dict[str, bytes]:
    """The file of a document that is being issued, by its name.

    Args:
        document: its canonical form.
    """
    import typst  # 80 MB, which only closings need

    said = json.loads(document)
    data = json.dumps(described(said, statement.hash))
    made: bytes = typst.compile(
        SOURCE, root=SOURCE.parent, sys_inputs={"data": data}, format="pdf", pdf_standards=["ua-1"]
    )
    return {f"{statement.number}.pdf": made}


def described(said: dict[str, Any], digest: str) -> dict[str, Any]:
    """The texts of the page."""
    currency, lines = said["currency"], said["lines"]
    listed = [shown(line, currency) for line in lines] if len(lines) <= MOST else summed(lines, currency)
    rate, held, customer = said["exchange_rate"], said["held"], said["customer"]
    credit = said["kind"] == Kind.CREDIT_NOTE
    facts = [
        ("Number", said["number"]),
        ("Corrects", said["corrects"] or ""),
        ("Reason", said["reason"]),
        ("Month", said["month"]),
        ("Period (UTC)", f"{said['period']['starts_at'][:16]} to before {said['period']['ends_at'][:16]}"),
        ("Time zone", said["period"]["zone"]),
        ("Issued (UTC)", said["issued_at"][:16]),
        ("Team", said["team"]["name"] if said["team"] else "calls without a team" if said["by_team"] else ""),
        ("Cost centre", customer["cost_centre"]),
        ("Calls", f"{said['calls']:,}"),
        ("Exchange rate", f"1 USD = {rate['rate']} {currency} ({rate['source']})" if rate else ""),
        ("Price list", said["price_book"]["list_prices"]),
    ]
    by_team: dict[str, Decimal] = defaultdict(Decimal)
    for line in lines:
        by_team["rounding" if line["kind"] == LineKind.ROUNDING else line["team"] or "no team"] += Decimal(
            line["amount"]
        )
    return {
        "title": "Credit note" if credit else "Statement",
        "number": said["number"],
        "note": said["note"],
        "issuer": [said["issuer"]["name"], *said["issuer"]["address"].splitlines()],
        "customer": [customer["billing_name"], *customer["address"].splitlines()],
        "facts": [[name, value] for name, value in facts if value],
        "teams": [[name, amount(value, currency)] for name, value in sorted(by_team.items())],
        "total": f"{amount(Decimal(said['total']), currency)} {currency}",
        "currency": currency,
        "lines": listed,
        "shortened": len(lines) if len(lines) > MOST else 0,
        "held": f"{held['calls']:,} calls of the month were still under way. They can add at most "
        f"{amount(Decimal(held['ceiling_usd']), 'USD')} USD to the next statement."
        if held and held["calls"]
        else "",
        "hash": digest,
        "previous": said["previous"],
        "date": said["issued_at"][:10],
    }


def shown(line: dict[str, Any], currency: str) -> list[str]:
    """The cells of a line: what, quantity, list price, unit price, discount, amount."""
    if line["kind"] == LineKind.ROUNDING:
        return ["Rounding of the lines", "", "", "", "", amount(Decimal(line["amount"]), currency)]
    what = {
        LineKind.REMAINDER: "not split by category",
        LineKind.ADJUSTMENT: line["reason"] + (f" ({line['refers_to']})" if line["refers_to"] else ""),
    }.get(line["kind"], CATEGORIES.get(line["category"], line["category"]))
    marks = [
        text for text in ("estimated" if line["estimated"] else "", "earlier month" if line["earlier"] else "") if text
    ]
    whose = " / ".join(text for text in (line["team"], line["virtual_key"], line["model"]) if text)
    return [
        f"{whose}: {what}" + (f" ({', '.join(marks)})" if marks else ""),
        f"{line['quantity']:,}" if line["quantity"] else "",
        price(line["list_price"]),
        price(line["unit_price"]),
        amount(Decimal(line["discount"]), "USD") if line["unit_price"] is not None else "",
        amount(Decimal(line["amount"]), currency),
    ]


def summed(lines: list[dict[str, Any]], currency: str) -> list[list[str]]:
    """A line for each key and model."""
    sums: dict[str, Decimal] = defaultdict(Decimal)
    for line in lines:
        whose = " / ".join(text for text in (line["team"], line["virtual_key"], line["model"]) if text)
        sums[whose or "Rounding of the lines"] += Decimal(line["amount"])
    return [[whose, "", "", "", "", amount(value, currency)] for whose, value in sorted(sums.items())]


def amount(value: Decimal, currency: str) -> str:
    """An amount with its currency's digits."""
    return f"{value:,.{places(currency)}f}"


def price(value: str | None) -> str:
    """A price in USD, with cents at least."""
    if value is None:
        return ""
    exact = Decimal(value)
    return f"{exact:,.{max(2, -int(exact.as_tuple().exponent))}f}"
