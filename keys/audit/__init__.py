"""The audit log: who changed what in the configuration, and when (docs/audit.md)."""
