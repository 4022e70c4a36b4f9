"""Versions of rows: an update names the version that it changes, so that it overwrites no change unseen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from administration.rest.errors import RestError
from keys import row_versions


def of(shown: Mapping[str, Any], volatile: Iterable[str]) -> str:
    """The ETag of a row as answers show it, without the members that change by themselves."""
    kept = {name: value for name, value in shown.items() if name not in set(volatile)}
    return f'"{row_versions.of(kept)}"'


def check(if_match: str | None, current: str) -> None:
    """Compare the versions that the client knows with the current one.

    Raises:
        RestError: 428, the client names none; 412, the row has changed since.
    """
    if if_match is None:
        raise RestError(428, "Send If-Match with the ETag of the version that you change, as GET returns it.")
    if if_match.strip() != "*" and current not in [each.strip() for each in if_match.split(",")]:
        raise RestError(412, "This has changed since you read it: read it again, and repeat the change.")
