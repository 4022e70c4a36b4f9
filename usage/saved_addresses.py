"""The addresses of provider keys and webhooks that lead where ALLOWED_PRIVATE_HOSTS gives no leave to go.

The start lists them, and so does `manage.py check`.
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

# All names are resolved at once, for so long; one that takes longer is left out.
SECONDS = 5.0


def uncovered() -> list[str]:
    """A line for each."""
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
    """Why the gateway may not go there; empty where it may."""
    try:
        destinations.current().check_url(url)
    except Forbidden as error:
        return str(error)
    except ValueError:
        return "its address can't be read"
    return ""


def what_happens(row: destinations.Saved, problem: str) -> str:
    """To calls there."""
    if row.predates_address_checks and problem == destinations.PRIVATE_WORDS:
        return "It goes on being served until its address is changed, for it was there before this was asked."
    return "Nothing is sent there."


def check(**_: Any) -> list[CheckMessage]:
    """For `manage.py check`; other commands have no time to ask a resolver."""
    if sys.argv[1:2] != ["check"]:
        return []
    try:
        return [Warning(line, id="usage.W001") for line in uncovered()]
    except Error:  # no database, or one that is yet to be migrated
        return []
