"""What is wrong with a deployment, and how to mend it: `manage.py doctor`. It changes nothing.

Each check looks at one thing, and none needs another to succeed: without database or broker, the rest is still checked.
Findings have no secret and no value of a setting that may contain one.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway_project.operations.doctor import database, machine, services
from gateway_project.operations.doctor.findings import Finding, Level, attempt

__all__ = ["Finding", "Level", "examine"]


def examine() -> Iterator[Finding]:
    """Every finding, in the order of the checks; at least one for each."""
    yield from database.examine()
    for name, check in (*machine.CHECKS, *services.CHECKS):
        yield from attempt(name, check)
