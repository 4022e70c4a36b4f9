"""Where figures of providers come from, the figures as they were read, and what comparing them with the ledger says.

Reads and their rows are append-only. Comparisons are made of them and of the ledger, and can be made again at any time.
"""

from __future__ import annotations

# Django finds an app's models in this module.
from reconciliation.adjustment_runs import AdjustmentRun
from reconciliation.comparisons import Comparison
from reconciliation.reads import CostRow, Read, UsageRow
from reconciliation.sources import AdminKey, Bill, BillFormat, ReportedKey

__all__ = [
    "AdjustmentRun",
    "AdminKey",
    "Bill",
    "BillFormat",
    "Comparison",
    "CostRow",
    "Read",
    "ReportedKey",
    "UsageRow",
]
