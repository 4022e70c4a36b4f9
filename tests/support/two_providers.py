"""Two providers that a caller's provider keys lead to, the first one before the second."""

from __future__ import annotations

import contextlib
import json
from decimal import Decimal

import pytest

from keys import issuing, provider_keys
from keys.models import Customer, ProviderKey, Team, VirtualKeyRoute
from tests.support.fake_provider import Upstream, whole
from tests.support.gateway import (
    PROVIDER_SECRET,
    Caller,
    issue,
    message,
)

HAIKU = "claude-haiku-4-5"
LISTED = b'{"data": []}'
# claude-opus-5-5 costs $4 and $20 for a million tokens.
COST = (Decimal(4) * 11 + Decimal(20) * 7).scaleb(-6)


def failing(status, kind="overloaded_error", *headers):
    body = json.dumps({"type": "error", "error": {"type": kind, "message": f"as it is, {status}"}}).encode()
    return whole(status, body, ("request-id", f"req_up_{status}"), *headers)


@pytest.fixture
def second():
    with Upstream() as upstream:
        upstream.answer = whole(200, message("from the second"))
        yield upstream


@pytest.fixture
def first(upstream):
    return upstream


def provider_key(name, upstream, **members):
    made = provider_keys.add_provider_key(
        name=name, provider="anthropic", base_url=upstream.url, secret=PROVIDER_SECRET + name
    )
    ProviderKey.objects.filter(pk=made.pk).update(**members)
    made.refresh_from_db()
    return made


@pytest.fixture
def alice(served, first, second):
    """Her calls go to the first provider key, and to the second where that can't answer."""
    return issue(first, provider_keys=[(provider_key("first", first), 1_000_000), (provider_key("second", second), 1)])


def another(caller, name, customer="", team=""):
    """Another caller with the same routes: of the same team, another team or another customer."""
    of = Customer.objects.get_or_create(name=customer)[0] if customer else caller.team.customer
    within = Team.objects.get_or_create(customer=of, name=team)[0] if team else None if customer else caller.team
    routes = VirtualKeyRoute.objects.filter(virtual_key=caller.virtual_key).select_related("provider_key")
    virtual_key, plain = issuing.issue_virtual_key(
        name=name,
        customer=of,
        team=within,
        provider_keys=[(route.provider_key, route.weight) for route in routes],
    )
    return Caller(virtual_key, plain, caller.provider_key)


@contextlib.contextmanager
def nobody_there():
    """An address at which no server listens."""
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
