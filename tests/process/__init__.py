"""Processes, their database, the spool, and upgrades."""
