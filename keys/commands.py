"""The manner that the gateway's commands share: bad input is one line on stderr, exit code 2, nothing changed."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandError, CommandParser

from keys.errors import Unusable
from keys.models import ProviderKey

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class GatewayCommand(BaseCommand):
    """Subclasses say what they do in `help` and `add_arguments`, and do it in `handle`."""

    # A script waits for the answer: no look at every app's models and pages first.
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
        """Tell the person something, on stderr: stdout is for the result that scripts read."""
        self.stderr.write(sentence, self.style.NOTICE)


def provider_key(name: str | None) -> ProviderKey | None:
    """The provider key of this name, where one is said.

    Raises:
        Unusable: there is none.
    """
    found = ProviderKey.objects.filter(name=name.strip()).first() if name is not None else None
    if name is not None and found is None:
        raise Unusable(f"there is no provider key “{name}”")
    return found


def whole_number(text: str | None) -> int | None:
    """A whole number; None where there is nothing.

    Raises:
        Unusable: it is none.
    """
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise Unusable(f"“{text}” is not a whole number")
    return int(text)


def seconds(text: str | None) -> float | None:
    """Seconds, and parts of one; None where there is nothing.

    Raises:
        Unusable: it is no number of them.
    """
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,3})?", text):
        raise Unusable(f"“{text}” is no number of seconds")
    return float(text)


def duration(text: str) -> timedelta:
    """`0`, `90s`, `15m`, `24h` or `7d`.

    Raises:
        Unusable: anything else.
    """
    match = re.fullmatch(r"([0-9]{1,9})([smhd])", text) if text != "0" else re.fullmatch("(0)()", text)
    if match is None:
        raise Unusable(f"“{text}” is not a duration: expected 0, 90s, 15m, 24h or 7d")
    return timedelta(**{UNITS.get(match[2], "seconds"): int(match[1])})


def moment(text: str) -> datetime:
    """An ISO 8601 time; one that names no time zone is in UTC.

    Raises:
        Unusable: it is none.
    """
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unusable(f"“{text}” is not an ISO 8601 time, like 2027-01-31 or 2027-01-31T18:00Z") from None


def route(text: str) -> tuple[ProviderKey, int]:
    """`NAME` or `NAME:WEIGHT`; a name may contain colons itself, and the longest one that exists is meant.

    Raises:
        Unusable: there is no such provider key, or the weight is no number.
    """
    whole = ProviderKey.objects.filter(name=text.strip()).first()
    if whole:
        return whole, 1
    name, colon, weight = text.strip().rpartition(":")
    named = ProviderKey.objects.filter(name=name).first() if colon else None
    if named is None:
        raise Unusable(f"there is no provider key “{text}”")
    if not re.fullmatch(r"[0-9]{1,9}", weight):
        raise Unusable(f"the weight “{weight}” of the provider key “{name}” is not a whole number")
    return named, int(weight)


def labels(pairs: Iterable[str]) -> dict[str, str]:
    """`NAME=VALUE` pairs as an object.

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
