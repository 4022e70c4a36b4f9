"""Whether the ledger is right after all that traffic: rows = calls, no holds left, budgets exact."""

from __future__ import annotations

import time

from bench.beside import bodies
from bench.beside.gateway import Deployment

PATIENCE = 60.0
# Each answer reports the same tokens, so each row has the same cost.
WRONG = """
SELECT count(*) FROM usage_ledgerentry WHERE status <> 'completed' OR estimated OR input_tokens <> %s
    OR output_tokens <> %s OR cost <> (SELECT min(cost) FROM usage_ledgerentry) OR cost <= 0"""
# A virtual key's budgets have spent what its rows charge: their cost, unless its owner pays another price.
INEXACT = """
SELECT count(*) FROM usage_budget b
LEFT JOIN (SELECT budget_id, sum(spent) AS spent, sum(held) AS held FROM usage_window GROUP BY 1) w
    ON w.budget_id = b.id
LEFT JOIN (SELECT virtual_key_id, sum(coalesce(charge, cost)) AS charge FROM usage_ledgerentry GROUP BY 1) e
    USING (virtual_key_id)
WHERE coalesce(w.spent, 0) <> coalesce(e.charge, 0) OR coalesce(w.held, 0) <> 0"""


def verdict(deployment: Deployment, calls: int) -> tuple[bool, str]:
    """Whether it is right after this many calls, and what was found, in a line. The last settlements may take a
    moment."""

    def count(query: str, *values: object) -> int:
        row = deployment.link.execute(query, values).fetchone()
        assert row is not None
        return int(row[0])

    deadline = time.monotonic() + PATIENCE
    while (holds := count("SELECT count(*) FROM usage_hold")) and time.monotonic() < deadline:
        time.sleep(0.5)
    rows = count("SELECT count(*) FROM usage_ledgerentry")
    wrong = count(WRONG, bodies.INPUT_TOKENS, bodies.OUTPUT_TOKENS)
    budgets, inexact = count("SELECT count(*) FROM usage_budget"), count(INEXACT)
    try:
        counters, right = deployment.command("manage.py", "verify_ledger").splitlines()[-1], True
    except RuntimeError as error:
        counters, right = str(error), False
    right = right and rows == calls and not holds and not wrong and not inexact
    return right, (
        f"{'The ledger is right' if right else 'THE LEDGER IS WRONG'}: {rows:,} rows for {calls:,} calls, {holds} "
        f"holds left, {wrong} rows with another cost, {inexact} of {budgets} budgets inexact. {counters}"
    )
