"""What a program asks for: the parameters of a report, by the names that Anthropic gives them.

The types are those of the package `anthropic`, `types/beta/organization/analytics`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from django.http import QueryDict

from administration.analytics.errors import WrongParameter
from administration.rest.members import read_moment
from keys.errors import Unusable
from usage.rates import STANDARD_TIERS

Report = Literal["usage", "cost"]

LONGEST = timedelta(days=31)
DEFAULT_LIMIT, MOST_ROWS = 20, 1000
MOST_GROUPS = 5
WIDTHS = {"1h": timedelta(hours=1), "1d": timedelta(days=1)}
QUARTER = timedelta(minutes=15)

# Dimensions that calls have here, with those of `usage.questions`. The actor of a call is its virtual key.
OURS = {
    "actor": "key",
    "api_key_id": "key",
    "model": "model",
    "service_tier": "service_tier",
    "speed": "speed",
    "workspace_id": "team",
}
# No call here has one of these: rows have null, and a filter by it matches nothing.
NEVER = (
    *("agent_id", "claude_tag_category", "claude_tag_user_id", "deployment_id", "environment_id", "organization_id"),
    *("rbac_group_id", "session_id", "slack_channel_id", "user_profile_id"),
)
# Calls have these, and the sums don't tell them apart: rows have null, and a filter by it is refused.
NOT_SUMMED = ("context_window", "inference_geo", "product")
GROUPS = ("actor_type", *OURS, *NEVER, *NOT_SUMMED)
# They split a row of costs into several, which count as one row.
PARTS = ("cost_type", "token_type")
ORDERS: dict[Report, tuple[str, ...]] = {
    "usage": ("total_tokens", "output_tokens", "requests", "time", "uncached_input_tokens"),
    "cost": ("amount", "list_amount", "time"),
}
TIERS = ("batch", "flex", "flex_discount", "priority", "priority_on_demand", "standard")
SPEEDS: dict[str, tuple[str, ...]] = {"fast": ("fast",), "standard": ("", "standard")}
ACTOR_TYPES = ("api_actor", "federated_actor", "service_account_actor", "user_actor")

# Filters by ids: the parameter, the dimension, and what the ids begin with.
IDS = (("actor_ids[]", "key", "apikey"), ("api_key_ids[]", "key", "apikey"), ("workspace_ids[]", "team", "wrkspc"))
# Actors that call no API with a key of ours.
NO_KEYS = ("user_", "svac_")

SCALARS = ("starting_at", "ending_at", "time_bucket_width", "order_by", "order", "limit", "page")


def plural(name: str) -> str:
    """The parameter that filters by a dimension."""
    return f"{name[:-1]}ies[]" if name.endswith("category") else f"{name}s[]"


FILTERS = ("actor_ids[]", *(plural(name) for name in GROUPS if name != "actor"))
KNOWN = {*SCALARS, *FILTERS, "group_by[]", "exclude_deleted_users", "beta"}


@dataclass(frozen=True, slots=True)
class Query:
    """A query, checked.

    Attributes:
        since, until: the range; `until` is None where the query leaves it open.
        width: of the buckets; None: one for the whole range.
        groups, parts: what rows are grouped by, and split by.
        where: the filters, by the dimensions of `usage.questions`.
        matches_nothing: a filter asks for what no call here has.
        digest: of all parameters but `page`: a cursor belongs to them.
    """

    report: Report
    since: datetime
    until: datetime | None
    width: Literal["1h", "1d"] | None
    groups: tuple[str, ...]
    parts: frozenset[str]
    where: Mapping[str, frozenset[Any]]
    matches_nothing: bool
    order_by: str
    descending: bool
    limit: int
    page: str
    digest: str

    @property
    def dimensions(self) -> tuple[str, ...]:
        """What the sums are grouped by, by the names of `usage.questions`."""
        return tuple(dict.fromkeys(OURS[name] for name in self.groups if name in OURS))


def read(report: Report, given: QueryDict) -> Query:
    """The query of a request.

    Raises:
        WrongParameter: with the first parameter that can't be used.
    """
    for name, values in given.lists():
        check_name(name)
        if any("\0" in value for value in values):
            raise WrongParameter(name, "has a NUL")
        if name in SCALARS and len(values) > 1:
            raise WrongParameter(name, "is given twice")
    since, until, width = read_range(given)
    names = list(dict.fromkeys(given.getlist("group_by[]")))
    parts = frozenset(PARTS).intersection(names) if report == "cost" else frozenset()
    groups = tuple(choice("group_by[]", name, GROUPS) for name in names if name not in parts)
    if len(groups) > MOST_GROUPS:
        raise WrongParameter("group_by[]", f"takes {MOST_GROUPS} dimensions at most, besides cost_type and token_type")
    if read_choice(given, "exclude_deleted_users", ("true", "false"), "false") == "true" and "actor" not in groups:
        raise WrongParameter("exclude_deleted_users", "needs group_by[]=actor")
    where, matches_nothing = read_filters(given)
    return Query(
        report,
        since,
        until,
        width,
        groups,
        parts,
        where,
        matches_nothing,
        read_choice(given, "order_by", ORDERS[report], ORDERS[report][0]),
        read_choice(given, "order", ("asc", "desc"), "desc") == "desc",
        read_limit(given),
        given.get("page", ""),
        digest_of(report, given),
    )


def check_name(name: str) -> None:
    """Refuse a parameter that there isn't: a filter that isn't known would be a filter that doesn't count.

    Raises:
        WrongParameter: there is no such parameter.
    """
    if name in KNOWN:
        return
    hint = f": write {name}[]" if f"{name}[]" in KNOWN else ""
    raise WrongParameter(name[:80], f"there is no such parameter{hint}")


def read_range(given: QueryDict) -> tuple[datetime, datetime | None, Literal["1h", "1d"] | None]:
    """The range and the width of its buckets. Without buckets, its ends are rounded down to the hour, else to the
    quarter of an hour.

    Raises:
        WrongParameter: one can't be used.
    """
    width: Any = given.get("time_bucket_width") or None
    if width == "1m":
        raise WrongParameter("time_bucket_width", "sums have no minutes here: choose 1h or 1d")
    if width is not None:
        choice("time_bucket_width", width, tuple(WIDTHS))
    since, until = read_time(given, "starting_at"), read_time(given, "ending_at")
    if since is None:
        raise WrongParameter("starting_at", "is required: give a time such as 2026-11-01T00:00:00Z")
    if until is None and width is not None:
        raise WrongParameter("ending_at", "is required with time_bucket_width")
    if until is not None:
        if until <= since:
            raise WrongParameter("ending_at", "must be after starting_at")
        if until - since > LONGEST:
            raise WrongParameter("ending_at", f"the range may span {LONGEST.days} days at most")
    step = QUARTER if width else WIDTHS["1h"]
    return floor(since, step), floor(until, step) if until is not None else None, width


def read_time(given: QueryDict, name: str) -> datetime | None:
    """A time; None: it isn't given.

    Raises:
        WrongParameter: it isn't one.
    """
    text = given.get(name, "")
    if not text:
        return None
    found = read_moment(text)
    if found is None or found.year < 2000 or found.year > 2200:
        raise WrongParameter(name, "is no time in RFC 3339 with a zone, such as 2026-11-01T00:00:00Z")
    return found


def floor(moment: datetime, step: timedelta) -> datetime:
    """The beginning of the quarter, hour or day (UTC) of a moment."""
    return moment - (moment - moment.replace(hour=0, minute=0, second=0, microsecond=0)) % step


def read_limit(given: QueryDict) -> int:
    """How many rows a page has.

    Raises:
        WrongParameter: it is out of range.
    """
    text = given.get("limit") or str(DEFAULT_LIMIT)
    if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= MOST_ROWS:
        raise WrongParameter("limit", f"must be a whole number from 1 to {MOST_ROWS}")
    return int(text)


def read_choice(given: QueryDict, name: str, choices: Iterable[str], usual: str) -> str:
    """One of these words.

    Raises:
        WrongParameter: it is another one.
    """
    return choice(name, given.get(name) or usual, tuple(choices))


def choice(name: str, value: str, choices: tuple[str, ...]) -> str:
    """The value, if it is one of the choices.

    Raises:
        WrongParameter: it is another one.
    """
    if value not in choices:
        raise WrongParameter(name, f"“{value[:80]}” is not a value: choose {', '.join(choices)}")
    return value


def read_filters(given: QueryDict) -> tuple[dict[str, frozenset[Any]], bool]:
    """The filters by the dimensions of `usage.questions`, and whether one of them asks for what no call here has.

    Raises:
        WrongParameter: a filter can't be used.
    """
    for name in map(plural, NOT_SUMMED):
        if name in given:
            raise WrongParameter(name, "the sums here don't tell these apart: leave it out")
    where: dict[str, frozenset[Any]] = {}
    nothing = any(plural(name) in given for name in NEVER)
    for dimension, values in read_values(given):
        where[dimension] = where[dimension] & values if dimension in where else values
    if types := {choice("actor_types[]", each, ACTOR_TYPES) for each in given.getlist("actor_types[]")}:
        nothing = nothing or "api_actor" not in types
    return where, nothing


def read_values(given: QueryDict) -> Iterable[tuple[str, frozenset[Any]]]:
    """What each filter by a dimension of ours lets through."""
    for name, dimension, kind in IDS:
        if texts := given.getlist(name):
            ids = (read_id(name, each, kind) for each in texts if not (dimension == "key" and each.startswith(NO_KEYS)))
            yield dimension, frozenset(ids)
    if texts := given.getlist("models[]"):
        yield "model", frozenset(texts)
    if texts := given.getlist("service_tiers[]"):
        tiers = {choice("service_tiers[]", each, TIERS) for each in texts}
        yield "service_tier", frozenset(tiers | (STANDARD_TIERS if "standard" in tiers else set()))
    if texts := given.getlist("speeds[]"):
        yield "speed", frozenset(each for text in texts for each in SPEEDS[choice("speeds[]", text, tuple(SPEEDS))])


def read_id(name: str, text: str, kind: str) -> int | None:
    """The id of a row of ours in an id as answers have it. An empty one stands for calls without: None.

    Raises:
        WrongParameter: it isn't one.
    """
    if not text:
        return None
    found = re.fullmatch(f"{kind}_([0-9]{{1,18}})", text)
    if found is None:
        raise WrongParameter(name, f"“{text[:80]}” is no id of this gateway's: they look like {kind}_17")
    return int(found[1])


def digest_of(report: Report, given: QueryDict) -> str:
    """A hash of all parameters but the cursor."""
    pairs = sorted((name, tuple(values)) for name, values in given.lists() if name not in ("page", "beta"))
    return hashlib.sha256(repr((report, pairs)).encode()).hexdigest()[:32]


def end_of(query: Query, now: datetime) -> datetime:
    """Where the range of a query ends.

    Raises:
        Unusable: it would end before it starts.
    """
    if query.until is not None:
        return query.until
    end = floor(min(now, query.since + LONGEST), WIDTHS["1h"])
    if end < query.since:
        raise Unusable("starting_at: lies in the future")
    return end
