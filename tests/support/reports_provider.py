"""Reports of providers over a real socket, as Anthropic and OpenAI give them, with what makes them hard to read:

- amounts are strings of cents with many digits, or JSON numbers that a float would change;
- rows come by size unless they are asked for by time, 20 to a page unless more are asked for;
- `limit` counts rows without those that `cost_type` and `token_type` add;
- a cursor is opaque, and belongs to its query: with another one, it is a 400;
- `data_refreshed_at` says up to when there are data, and figures change afterwards;
- 400 for an organisation under HIPAA, 403 with the missing scopes, 429 with `retry-after`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from typing import Any
from urllib.parse import parse_qsl

from reconciliation.reads import TOKEN_TYPES
from tests.support.fake_provider import Answer, Seen, Upstream, whole

ANALYTICS, OLDER, OPENAI = "/v1/organizations/analytics/", "/v1/organizations/", "/v1/organization/"
THEIR_NAMES = {
    "input_tokens": "uncached_input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_input_tokens",
    "cache_creation_5m_input_tokens": "cache_creation.ephemeral_5m_input_tokens",
    "cache_creation_1h_input_tokens": "cache_creation.ephemeral_1h_input_tokens",
}
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
DIMENSIONS = ("api_key_id", "model", "service_tier", "speed", "inference_geo")


@dataclass
class Item:
    """What was used in an hour. `paid`, `listed`: USD by type of tokens; `fees`: USD by cost type."""

    hour: datetime
    api_key_id: str | None
    model: str | None
    requests: int | None
    tokens: dict[str, int]
    paid: dict[str, Decimal]
    listed: dict[str, Decimal]
    fees: dict[str, Decimal] = field(default_factory=dict)
    service_tier: str | None = "standard"
    speed: str | None = "standard"
    inference_geo: str | None = "global"


@dataclass
class Refused(Exception):
    """An error as the provider answers it."""

    status: int
    message: str
    headers: tuple[tuple[str, str], ...] = ()


@dataclass
class FakeReports:
    """An organisation's reports. Tests change its attributes between reads.

    Attributes:
        refreshed_at: up to when there are data; `moves`: it is refreshed before this many further pages.
        faults: errors that the next requests get.
    """

    secret: str = "sk-ant-admin01-" + "s" * 40
    items: list[Item] = field(default_factory=list)
    keys: list[dict[str, Any]] = field(default_factory=list)
    refreshed_at: datetime = datetime(2026, 12, 31, tzinfo=UTC)
    moves: int = 0
    hipaa: bool = False
    scopes: tuple[str, ...] = ("read:analytics", "read:usage")
    faults: list[Refused] = field(default_factory=list)
    queries: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)

    def __call__(self, seen: Seen) -> Answer:
        path, _, query = seen.target.partition("?")
        given = parse_qsl(query, keep_blank_values=True)
        self.queries.append((path, given))
        try:
            if self.faults:
                raise self.faults.pop(0)
            found = self.answer(path, given, seen)
        except Refused as refused:
            kind = {400: "invalid_request_error", 403: "permission_error", 429: "rate_limit_error"}.get(refused.status)
            error = {"type": "error", "error": {"type": kind or "api_error", "message": refused.message}}
            return whole(refused.status, json.dumps(error).encode(), *refused.headers)
        return whole(200, found.encode() if isinstance(found, str) else json.dumps(found).encode())

    def answer(self, path: str, given: list[tuple[str, str]], seen: Seen) -> Any:
        """The body of an answer."""
        sent = seen.values("authorization") + [f"Bearer {key}" for key in seen.values("x-api-key")]
        if f"Bearer {self.secret}" not in sent:
            raise Refused(401, "invalid x-api-key")
        if path.startswith(OPENAI):
            return self.openai(path.removeprefix(OPENAI), given)
        if path.startswith(ANALYTICS):
            if "analytics-usage-cost-2026-08-24" not in ",".join(seen.values("anthropic-beta")):
                raise Refused(404, "not found")
            if self.hipaa:
                raise Refused(400, "This endpoint is not available to organizations that are HIPAA-ready")
            if "read:analytics" not in self.scopes:
                raise Refused(403, "The API key lacks the required scopes: read:analytics")
            return self.analytics(path.removeprefix(ANALYTICS), given)
        if path == OLDER + "api_keys":
            return {"data": self.keys, "has_more": False, "last_id": self.keys[-1]["id"] if self.keys else None}
        if "read:usage" not in self.scopes:
            raise Refused(403, "The API key lacks the required scopes: read:usage")
        return self.older(path.removeprefix(OLDER), given)

    # The Analytics API

    def analytics(self, report: str, given: list[tuple[str, str]]) -> dict[str, Any]:
        one = dict(given)
        groups = [value for name, value in given if name == "group_by[]"]
        counted = [name for name in groups if name not in ("cost_type", "token_type")]
        if len(counted) > 5:
            raise Refused(400, "group_by: at most 5 dimensions")
        limit = int(one.get("limit", "20"))
        if not 1 <= limit <= 1000:
            raise Refused(400, "limit: must be between 1 and 1000")
        start = datetime.fromisoformat(one["starting_at"])
        end = datetime.fromisoformat(one["ending_at"]) if "ending_at" in one else self.refreshed_at
        if "time_bucket_width" in one and ("ending_at" not in one or end - start > timedelta(days=31)):
            raise Refused(400, "the range is too long")
        known = [each for each in self.items if start <= each.hour < min(end, self.refreshed_at)]
        rows = self.usage_rows(known, counted) if report == "usage" else self.cost_rows(known, counted)
        if one.get("order_by") == "time":
            rows.sort(key=lambda row: row[0]["starting_at"], reverse=one.get("order", "desc") == "desc")
        else:
            rows.sort(key=lambda row: -size_of(row))
        place = self.place(one.get("page"), given)
        if place and self.moves:
            self.moves -= 1
            self.refreshed_at += timedelta(minutes=1)
        following = place + limit if place + limit < len(rows) else None
        return {
            "data": [part for row in rows[place : place + limit] for part in row],
            "has_more": following is not None,
            "next_page": cursor(following, given) if following is not None else None,
            "data_refreshed_at": f"{self.refreshed_at:%Y-%m-%dT%H:%M:%SZ}",
        }

    def place(self, page: str | None, given: list[tuple[str, str]]) -> int:
        """Where a page begins."""
        if page is None:
            return 0
        place, _, digest = base64.b64decode(page).decode().partition(" ")
        if digest != digest_of(given):
            raise Refused(400, "page: the cursor belongs to another query")
        return int(place)

    def grouped(self, items: list[Item], groups: list[str]) -> dict[tuple[Any, ...], list[Item]]:
        found: dict[tuple[Any, ...], list[Item]] = defaultdict(list)
        for each in items:
            found[(each.hour, *(getattr(each, name) for name in groups))].append(each)
        return found

    def head(self, key: tuple[Any, ...], groups: list[str]) -> dict[str, Any]:
        nothing = dict.fromkeys(("actor", "workspace_id", "product", "cost_type", "token_type", *DIMENSIONS))
        return {
            "starting_at": f"{key[0]:%Y-%m-%dT%H:%M:%SZ}",
            "ending_at": f"{key[0] + HOUR:%Y-%m-%dT%H:%M:%SZ}",
            "group": nothing | dict(zip(groups, key[1:], strict=True)),
        }

    def usage_rows(self, items: list[Item], groups: list[str]) -> list[list[dict[str, Any]]]:
        rows = []
        for key, each in self.grouped(items, groups).items():
            counts = [item.requests for item in each]
            tokens = {name: sum(item.tokens.get(name, 0) for item in each) for name in TOKEN_TYPES}
            usage = {
                **usage_of(tokens),
                "total_tokens": sum(tokens.values()),
                "requests": None if None in counts else sum(count or 0 for count in counts),
            }
            rows.append([self.head(key, groups) | {"usage": usage}])
        return rows

    def cost_rows(self, items: list[Item], groups: list[str]) -> list[list[dict[str, Any]]]:
        rows = []
        for key, each in self.grouped(items, groups).items():
            parts = []
            for name in TOKEN_TYPES:
                paid, listed = (
                    sum((getattr(item, kind).get(name, Decimal(0)) for item in each), Decimal(0))
                    for kind in ("paid", "listed")
                )
                if paid or listed:
                    parts.append(self.part(key, groups, "tokens", THEIR_NAMES[name], paid, listed))
            fees: dict[str, Decimal] = defaultdict(Decimal)
            for item in each:
                for name, amount in item.fees.items():
                    fees[name] += amount
            parts += [self.part(key, groups, name, None, amount, amount) for name, amount in fees.items()]
            if parts:
                rows.append(parts)
        return rows

    def part(
        self, key: Any, groups: list[str], cost_type: str, token_type: str | None, paid: Decimal, listed: Decimal
    ) -> Any:
        head = self.head(key, groups)
        head["group"] |= {"cost_type": cost_type, "token_type": token_type}
        cost = {"amount": cents(paid), "list_amount": cents(listed), "currency": "USD", "requests": None}
        return head | {"cost": cost}

    # The older reports

    def older(self, report: str, given: list[tuple[str, str]]) -> dict[str, Any]:
        one = dict(given)
        groups = [value for name, value in given if name == "group_by[]"]
        start, width = datetime.fromisoformat(one["starting_at"]), HOUR if one.get("bucket_width") == "1h" else DAY
        end = datetime.fromisoformat(one.get("ending_at", one["starting_at"])) if "ending_at" in one else start + width
        most = {"1h": 168, "1d": 31}[one["bucket_width"]]
        if int(one.get("limit", "7")) > most:
            raise Refused(400, f"limit: at most {most}")
        buckets = []
        while start < end:
            items = [each for each in self.items if start <= each.hour < start + width]
            make = self.older_usage if report == "usage_report/messages" else self.older_costs
            buckets.append(
                {
                    "starting_at": f"{start:%Y-%m-%dT%H:%M:%SZ}",
                    "ending_at": f"{start + width:%Y-%m-%dT%H:%M:%SZ}",
                    "results": make(items, groups),
                }
            )
            start += width
        return self.bucket_pages(buckets, int(one.get("limit", "7")), one.get("page"), given)

    def bucket_pages(
        self, buckets: list[Any], limit: int, page: str | None, given: list[tuple[str, str]]
    ) -> dict[str, Any]:
        place = self.place(page, given)
        following = place + limit if place + limit < len(buckets) else None
        return {
            "data": buckets[place : place + limit],
            "has_more": following is not None,
            "next_page": cursor(following, given) if following is not None else None,
        }

    def older_usage(self, items: list[Item], groups: list[str]) -> list[dict[str, Any]]:
        found: dict[tuple[Any, ...], dict[str, int]] = defaultdict(lambda: dict.fromkeys(TOKEN_TYPES, 0))
        for each in items:
            sums = found[tuple(getattr(each, name) for name in groups)]
            for name, tokens in each.tokens.items():
                sums[name] += tokens
        nothing = dict.fromkeys((*DIMENSIONS, "workspace_id"))
        return [nothing | dict(zip(groups, key, strict=True)) | usage_of(sums) for key, sums in found.items()]

    def older_costs(self, items: list[Item], groups: list[str]) -> list[dict[str, Any]]:
        assert groups == ["description"]
        found: dict[tuple[Any, ...], Decimal] = defaultdict(Decimal)
        for each in items:
            about = (each.model, each.service_tier, each.speed, each.inference_geo)
            for name, amount in each.paid.items():
                found[("tokens", THEIR_NAMES[name], *about)] += amount
            for name, amount in each.fees.items():
                found[(name, None, *about)] += amount
        return [
            {
                "amount": cents(amount),
                "currency": "USD",
                "description": f"{model} usage - {token_type or kind}",
                "cost_type": kind,
                "token_type": token_type,
                "model": model,
                "service_tier": tier,
                "speed": speed,
                "inference_geo": geo,
                "workspace_id": None,
            }
            for (kind, token_type, model, tier, speed, geo), amount in found.items()
            if amount
        ]

    # OpenAI

    def openai(self, path: str, given: list[tuple[str, str]]) -> Any:
        one = dict(given)
        if path == "projects":
            return {
                "object": "list",
                "data": [{"id": "proj_1", "name": "Main"}],
                "has_more": False,
                "last_id": "proj_1",
            }
        if path == "projects/proj_1/api_keys":
            return {"object": "list", "data": self.keys, "has_more": False, "last_id": None}
        start, width = datetime.fromtimestamp(int(one["start_time"]), UTC), HOUR if one["bucket_width"] == "1h" else DAY
        if path == "costs" and width != DAY:
            raise Refused(400, "bucket_width: only 1d")
        end = datetime.fromtimestamp(int(one["end_time"]), UTC) if "end_time" in one else start + width
        buckets = []
        while start < end:
            items = [each for each in self.items if start <= each.hour < start + width]
            make = self.openai_costs if path == "costs" else self.openai_usage
            buckets.append(
                {
                    "object": "bucket",
                    "start_time": int(start.timestamp()),
                    "end_time": int((start + width).timestamp()),
                    "results": make(items),
                }
            )
            start += width
        page = self.bucket_pages(buckets, int(one.get("limit", "7")), one.get("page"), given)
        # `json` would write an amount as a float.
        text = json.dumps(page)
        for each in range(len(self.amounts)):
            text = text.replace(f'"amount {each}"', f"{self.amounts[each]:f}")
        return text

    amounts: list[Decimal] = field(default_factory=list)

    def openai_usage(self, items: list[Item]) -> list[dict[str, Any]]:
        return [
            {
                "object": "organization.usage.completions.result",
                "input_tokens": sum(each.tokens.get(name, 0) for name in TOKEN_TYPES if name != "output_tokens"),
                "input_uncached_tokens": each.tokens.get("input_tokens", 0),
                "input_cached_tokens": each.tokens.get("cache_read_input_tokens", 0),
                "input_cache_write_tokens": each.tokens.get("cache_creation_5m_input_tokens", 0),
                "output_tokens": each.tokens.get("output_tokens", 0),
                "num_model_requests": each.requests,
                "project_id": None,
                "api_key_id": each.api_key_id,
                "model": each.model,
                "batch": False,
                "service_tier": "default",
            }
            for each in items
        ]

    def openai_costs(self, items: list[Item]) -> list[dict[str, Any]]:
        words = {
            "input_tokens": "input",
            "output_tokens": "output",
            "cache_read_input_tokens": "cached input",
            "cache_creation_5m_input_tokens": "cache write",
        }
        sums: dict[tuple[Any, str], Decimal] = defaultdict(Decimal)
        for each in items:
            for name, amount in each.paid.items():
                sums[each.api_key_id, f"{each.model}, {words[name]}"] += amount
            for name, amount in each.fees.items():
                sums[each.api_key_id, name] += amount
        rows = []
        for (api_key_id, line_item), amount in sums.items():
            self.amounts.append(amount)
            value = f"amount {len(self.amounts) - 1}"
            rows.append(
                {
                    "object": "organization.costs.result",
                    "amount": {"value": value, "currency": "usd"},
                    "line_item": line_item,
                    "api_key_id": api_key_id,
                    "project_id": None,
                }
            )
        return rows


def usage_of(tokens: dict[str, int]) -> dict[str, Any]:
    """The members of Anthropic's usage."""
    return {
        "uncached_input_tokens": tokens["input_tokens"],
        "output_tokens": tokens["output_tokens"],
        "cache_read_input_tokens": tokens["cache_read_input_tokens"],
        "cache_creation": {
            "ephemeral_5m_input_tokens": tokens["cache_creation_5m_input_tokens"],
            "ephemeral_1h_input_tokens": tokens["cache_creation_1h_input_tokens"],
        },
        "server_tool_use": {"web_search_requests": 0},
    }


def cents(amount: Decimal) -> str:
    """A string of cents with all digits, and more zeros than are needed."""
    with localcontext() as context:
        context.prec = 60
        return f"{amount * 100:f}" + ("0" if "." in f"{amount * 100:f}" else ".000")


def size_of(row: list[dict[str, Any]]) -> Decimal:
    """What rows are ordered by if nothing is asked for."""
    return sum(
        (Decimal(part["usage"]["total_tokens"] if "usage" in part else part["cost"]["amount"]) for part in row),
        Decimal(0),
    )


def digest_of(given: list[tuple[str, str]]) -> str:
    """A hash of a query without its cursor."""
    return hashlib.sha256(repr(sorted(pair for pair in given if pair[0] != "page")).encode()).hexdigest()


def cursor(place: int, given: list[tuple[str, str]]) -> str:
    """An opaque cursor."""
    return base64.b64encode(f"{place} {digest_of(given)}".encode()).decode()


@contextmanager
def serving(reports: FakeReports) -> Iterator[str]:
    """The reports at a URL."""
    with Upstream() as upstream:
        behaviour: Callable[[Seen], Answer] = reports
        upstream.answer = behaviour
        yield upstream.url
