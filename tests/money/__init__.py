"""Admission, budgets, limits, prices, the ledger, the report and alerts."""
