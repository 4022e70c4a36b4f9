"""Compares what providers say that we used with the ledger, and explains each difference (docs/reconciliation.md)."""
