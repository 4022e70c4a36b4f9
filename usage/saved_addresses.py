"""Addresses of provider keys and webhooks that are private but not listed in ALLOWED_PRIVATE_HOSTS.

The gateway lists them when it starts, and so does `manage.py check`.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

from django.core.checks import CheckMessage, Warning
from django.db import Error

from keys import destinations
from keys.destinations import Forbidden
from keys.models import ProviderKey
from usage.alerts import AlertTarget, Channel

# All names are resolved in parallel within this time; one that takes longer is left out.
SECONDS = 5.0


def uncovered() -> list[str]:
    """A line for each such address."""
    named: list[tuple[str, destinations.Saved]] = [
        *((f"provider key “{row}”", row) for row in ProviderKey.objects.filter(active=True).exclude(base_url="")),
        *(("webhook", row) for row in AlertTarget.objects.filter(active=True, channel=Channel.WEBHOOK)),
    ]
    pool = ThreadPoolExecutor(32)
    try:
        asked = [(name, row, pool.submit(problem_of, row.url)) for name, row in named]
        wait([answer for *_, answer in asked], SECONDS)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    return [
        f"{name} ({destinations.host_of(row.url)}): {problem}. {what_happens(row, problem)}"
        for name, row, answer in asked
        if answer.done() and not answer.cancelled() and (problem := answer.result())
    ]


def problem_of(url: str) -> str:
    """Why the gateway may not connect to this URL; empty if it may."""
    try:
        destinations.current().check_url(url)
    except Forbidden as error:
        return str(error)
    except ValueError:
        return "its address can't be read"
    return ""


def what_happens(row: destinations.Saved, problem: str) -> str:
    """What happens to calls to this address."""
    if row.predates_address_checks and problem == destinations.PRIVATE_WORDS:
        return "It is still used until its address is changed, because it was saved before addresses were checked."
    return "Nothing is sent there."


def check(**_: Any) -> list[CheckMessage]:
    """The system check of `manage.py check`. It is skipped for other commands, which would have to wait for DNS."""
    if sys.argv[1:2] != ["check"]:
        return []
    try:
        return [Warning(line, id="usage.W001") for line in uncovered()]
    except Error:  # no database, or one that isn't migrated yet
        return []
