"""Reads the bodies of requests: JSON, strictly."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from rest_framework.exceptions import ParseError
from rest_framework.negotiation import DefaultContentNegotiation
from rest_framework.parsers import BaseParser


class Json(BaseParser):
    """A JSON parser that refuses what JSON doesn't have (`NaN`), and members that occur twice."""

    media_type = "application/json"

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        """The value of the body.

        Raises:
            ParseError: it is no JSON, nested too deeply, or has a member twice.
        """
        return read(stream.read())


def read(body: bytes) -> Any:
    """Parse JSON in UTF-8.

    Raises:
        ParseError: see `Json.parse`.
    """
    try:
        return json.loads(body.decode(), object_pairs_hook=_members, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        known = str(error) if isinstance(error, _Refused) else "the body must be JSON in UTF-8"
        raise ParseError(f"The body can't be read: {known}.") from None


class _Refused(ValueError):
    """JSON that is refused, with a message for the client."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise _Refused(f"the member “{name[:80]}” occurs twice")
            seen.add(name)
    return members


def _refuse(constant: str) -> NoReturn:
    raise _Refused(f"{constant} is no JSON")


class AlwaysJson(DefaultContentNegotiation):
    """Answers in JSON whatever the client accepts."""

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> tuple[Any, str]:
        """The only renderer."""
        return renderers[0], renderers[0].media_type
