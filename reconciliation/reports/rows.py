"""The rows of a report, in the same form for every provider."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import Any, NamedTuple

from reconciliation.http import Trouble

# More digits than any figure has: the usual context would round to 28.
EXACT = Context(prec=60, traps=[InvalidOperation])
# Digits before and after the point that the tables take.
MOST_AMOUNT, PLACES = Decimal(10) ** 19, 28
MOST_COUNT = 2**62


class About(NamedTuple):
    """What a row is about; empty: the report doesn't say, or it has none."""

    api_key_id: str = ""
    model: str = ""
    service_tier: str = ""
    speed: str = ""
    inference_geo: str = ""


@dataclass(frozen=True, slots=True)
class Used:
    """Requests (None: not reported) and tokens of an hour. `tokens`: by the ledger's names of token types."""

    start: datetime
    about: About
    requests: int | None
    tokens: dict[str, int]


@dataclass(frozen=True, slots=True)
class Cost:
    """USD of an hour or a day for one type of tokens (empty: a fee); `listed`: before discounts; `quantity`: of a bill,
    in its own unit."""

    start: datetime
    about: About
    cost_type: str
    token_type: str
    amount: Decimal
    listed: Decimal | None
    meter: str = ""
    quantity: Decimal | None = None


@dataclass(slots=True)
class Found:
    """The rows of a range.

    Attributes:
        refreshed_at: how new the provider's data are: later hours aren't complete. None: the report doesn't say.
    """

    used: list[Used] = field(default_factory=list)
    costs: list[Cost] = field(default_factory=list)
    refreshed_at: datetime | None = None


class ApiKey(NamedTuple):
    """A key as the provider lists it; `hint`: the ends of its secret."""

    id: str
    name: str
    hint: str
    status: str


class Surprise(Trouble):
    """An answer isn't as documented."""


def text(value: Any) -> str:
    """A name; empty for null.

    Raises:
        Surprise: it is neither.
    """
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > 200 or "\0" in value:
        raise Surprise("the provider's report has a name that isn't one")
    return value


def count(value: Any) -> int:
    """A number of tokens; 0 for null.

    Raises:
        Surprise: it isn't a count.
    """
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_COUNT:
        raise Surprise("the provider's report has a count that isn't one")
    return value


def requests(value: Any) -> int | None:
    """A number of requests; None where the provider gives none."""
    return None if value is None else count(value)


def decimal(value: Any) -> Decimal:
    """An exact number, from a string or a JSON number.

    Raises:
        Surprise: it isn't a number, or has more digits than can be stored.
    """
    try:
        if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
            raise InvalidOperation
        found = EXACT.create_decimal(value)
        if not found.is_finite() or abs(found) >= MOST_AMOUNT:
            raise InvalidOperation
        exact = Context(prec=60, traps=[InvalidOperation, Inexact])
        return exact.quantize(found, Decimal(1).scaleb(-PLACES))
    except (InvalidOperation, Inexact):
        raise Surprise("the provider's report has an amount that can't be read exactly") from None


def cents(value: Any) -> Decimal:
    """USD, from a number of cents with all its digits.

    Raises:
        Surprise: it isn't a number, or has more digits than can be stored.
    """
    if not isinstance(value, str):
        raise Surprise("the provider's report has an amount that isn't a string of cents")
    try:
        return decimal(EXACT.scaleb(EXACT.create_decimal(value), -2))
    except InvalidOperation:
        raise Surprise("the provider's report has an amount that can't be read exactly") from None


def dollars(currency: Any) -> None:
    """Refuse another currency than USD, in which all reports are.

    Raises:
        Surprise: it is another one.
    """
    if str(currency).upper() != "USD":
        raise Surprise("the provider's report is in another currency than USD")


def moment(value: Any) -> datetime:
    """A time of an answer.

    Raises:
        Surprise: it isn't one.
    """
    try:
        found = datetime.fromisoformat(value)
        if found.tzinfo is None:
            raise ValueError
    except (ValueError, TypeError):
        raise Surprise("the provider's report has a time that can't be read") from None
    return found


def listed(value: Any) -> list[dict[str, Any]]:
    """A list of objects.

    Raises:
        Surprise: it is something else.
    """
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise Surprise("the provider's answer is not a page of a report")
    return value


def mapping(value: Any) -> dict[str, Any]:
    """An object; empty for null.

    Raises:
        Surprise: it is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Surprise("the provider's answer is not a page of a report")
    return value


def merged(rows: Iterable[Used]) -> list[Used]:
    """Rows, with those that are about the same made one."""
    found: dict[tuple[datetime, About], Used] = {}
    for row in rows:
        before = found.get((row.start, row.about))
        if before is not None:
            counts = before.requests, row.requests
            row = Used(
                row.start,
                row.about,
                None if None in counts else sum(each or 0 for each in counts),
                {name: before.tokens.get(name, 0) + row.tokens.get(name, 0) for name in before.tokens | row.tokens},
            )
        found[row.start, row.about] = row
    return list(found.values())


Progress = Callable[[], None]
