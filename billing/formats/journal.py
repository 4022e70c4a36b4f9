"""A document as journal entries for an ERP: each cost centre's account is debited, and one account is credited.

Debits and credits of a document are equal. A credit note's amounts are on the other sides.
"""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal

from billing import documents
from billing.currencies import places
from billing.models import Statement
from keys.csv_lines import BYTE_ORDER_MARK, csv_line

COLUMNS = ("period", "document", "date", "cost_centre", "account", "debit", "credit", "currency", "text")


def make(statement: Statement) -> bytes:
    """The file. The cost centre is the label `cost_centre` of the calls, else the customer's."""
    said = documents.said(statement)
    customer = said["customer"]
    by_centre: dict[str, Decimal] = defaultdict(Decimal)
    for cost_centre, amount in statement.lines.order_by("position").values_list("cost_centre", "amount"):
        by_centre[cost_centre or customer["cost_centre"]] += amount
    same = (said["month"], statement.number, f"{statement.issued_at:%Y-%m-%d}")
    text = f"{customer['billing_name']} {said['month']}" + (f", {said['team']['name']}" if said["team"] else "")
    lines = [BYTE_ORDER_MARK + csv_line(COLUMNS)]
    for cost_centre, amount in sorted(by_centre.items()):
        if amount:
            sides = sides_of(amount, statement.currency)
            lines.append(csv_line((*same, cost_centre, customer["debit_account"], *sides, statement.currency, text)))
    if statement.total:
        sides = sides_of(-statement.total, statement.currency)
        centre = customer["cost_centre"]
        lines.append(csv_line((*same, centre, customer["credit_account"], *sides, statement.currency, text)))
    return "".join(lines).encode()


def sides_of(amount: Decimal, currency: str) -> tuple[str, str]:
    """Debit and credit, with the digits of the currency: a negative amount is on the other side."""
    text = f"{abs(amount):.{places(currency)}f}"
    return (text, "") if amount > 0 else ("", text)
