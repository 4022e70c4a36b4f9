"""What the gateway's commands share: bad input gives one line on stderr and exit code 2, and changes nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser

from keys.errors import Unusable
from keys.models import ProviderKey

EXISTING = "see Provider keys in the admin for their names"
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class GatewayCommand(BaseCommand):
    """The base class of the gateway's commands."""

    # A script waits for the answer, so the command skips the checks of every app's models and pages.
    requires_system_checks: list[str] = []  # noqa: RUF012

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        parser = super().create_parser(prog_name, subcommand, **kwargs)

        def refuse(message: str) -> NoReturn:
            raise CommandError(f"{message}; see {subcommand} --help", returncode=2)

        parser.error = refuse  # type: ignore[method-assign]
        return parser

    def run_from_argv(self, argv: list[str]) -> None:
        try:
            super().run_from_argv(argv)
        except CommandError as error:
            self.stderr.write(f"{type(error).__name__}: {error}")
            sys.exit(error.returncode)

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except Unusable as error:
            raise CommandError(" ".join(str(error).split()), returncode=2) from None

    def say(self, sentence: str) -> None:
        """Print a sentence for people on stderr. Scripts read the result from stdout."""
        self.stderr.write(sentence, self.style.NOTICE)


def provider_key(name: str | None) -> ProviderKey | None:
    """The provider key of this name; None without a name.

    Raises:
        Unusable: there is no provider key of this name.
    """
    found = ProviderKey.objects.filter(name=name.strip()).first() if name is not None else None
    if name is not None and found is None:
        raise Unusable(f"there is no provider key “{name}”: {EXISTING}")
    return found


def whole_number(text: str | None) -> int | None:
    """Parse a whole number of at most nine digits; None without a text.

    Raises:
        Unusable: the text is anything else.
    """
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Unusable(f"“{text}” is not a whole number")
    return int(text)


def seconds(text: str | None) -> float | None:
    """Parse a number of seconds with up to three decimals; None without a text.

    Raises:
        Unusable: the text is anything else.
    """
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", text):
        raise Unusable(f"“{text}” is not a number of seconds, like 30 or 0.5")
    return float(text)


def duration(text: str) -> timedelta:
    """Parse a duration: `0`, `90s`, `15m`, `24h` or `7d`.

    Raises:
        Unusable: anything else.
    """
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text) if text != "0" else re.fullmatch("(0)()", text)
    if match is None:
        raise Unusable(f"“{text}” is not a duration: expected 0, 90s, 15m, 24h or 7d")
    return timedelta(**{UNITS.get(match[2], "seconds"): int(match[1])})


def moment(text: str) -> datetime:
    """Parse an ISO 8601 time. Without a time zone, it is in UTC.

    Raises:
        Unusable: the text is not such a time.
    """
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unusable(f"“{text}” is not an ISO 8601 time, like 2027-01-31 or 2027-01-31T18:00Z") from None


def route(text: str) -> tuple[ProviderKey, int]:
    """Parse `NAME` or `NAME:WEIGHT`. A name may contain colons; the longest name that exists wins.

    Raises:
        Unusable: there is no such provider key, or the weight is not a number.
    """
    whole = ProviderKey.objects.filter(name=text.strip()).first()
    if whole:
        return whole, 1
    name, colon, weight = text.strip().rpartition(":")
    named = ProviderKey.objects.filter(name=name).first() if colon else None
    if named is None:
        raise Unusable(f"there is no provider key “{text}”: {EXISTING}")
    if not re.fullmatch(r"[0-9]{1,9}", weight):
        raise Unusable(f"the weight “{weight}” of the provider key “{name}” is not a whole number")
    return named, int(weight)


def labels(pairs: Iterable[str]) -> dict[str, str]:
    """Parse `NAME=VALUE` pairs into an object.

    Raises:
        Unusable: one has no name or no value.
    """
    found = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not (name and equals):
            raise Unusable(f"“{pair}” is not a label: expected NAME=VALUE")
        found[name] = value
    return found
