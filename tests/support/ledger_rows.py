"""A small cast and rows for tests about the ledger: Alice and Bob share a team, Charlie belongs to another customer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import msgspec
from django.db import connection

from keys.models import Customer, ProviderKey, Team, VirtualKey
from tests.support import flushing
from usage import request_ids, rollups
from usage.arbitration import Settlement
from usage.models import RollupState

START = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)


@dataclass
class Cast:
    """Who calls in these tests."""

    alice: VirtualKey
    bob: VirtualKey
    charlie: VirtualKey
    provider_key: ProviderKey


def make_cast() -> Cast:
    """Two keys in one team, one of another customer without a team, and a provider key."""
    ours, theirs = Customer.objects.create(name="Ours"), Customer.objects.create(name="Theirs")
    team = Team.objects.create(customer=ours, name="Research")
    return Cast(
        alice=VirtualKey.objects.create(name="alice", customer=ours, team=team),
        bob=VirtualKey.objects.create(name="bob", customer=ours, team=team),
        charlie=VirtualKey.objects.create(name="charlie", customer=theirs),
        provider_key=ProviderKey.objects.create(name="main", provider="anthropic"),
    )


def empty_ledger():
    """Take away what another test left: the ledger is no managed table, so a flush leaves it alone."""
    flushing.empty(
        *("usage_ledgerentry", "usage_adjustment", "usage_summedperiod", "usage_checkpoint"),
        *("usage_checkpointwindow", "usage_archivedmonth", "usage_archivedcharge"),
        *(each.table for each in rollups.TABLES),
    )
    RollupState.objects.update_or_create(id=1, defaults={"xid": "0", "rolled_up_at": None, "whole_since": None})


def make_entry(key, at=START, provider_key=None, using=connection, **changes):
    """Insert a ledger row for a call of this key; returns its id."""
    milliseconds = int((at - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(milliseconds=1))
    call = UUID(int=request_ids.new_id().int & ~(0xFFFFFFFFFFFF << 80) | milliseconds << 80)
    settled = Settlement(
        id=call,
        model="claude-opus-5-5",
        provider="anthropic",
        provider_key_id=provider_key.id if provider_key else None,
        provider_request_id="req_upstream",
        status="completed",
        http_status=200,
        stop_reason="end_turn",
        input_tokens=100,
        output_tokens=10,
        service_tier="standard",
        cost=Decimal("0.0006"),
        price_version="test",
        time_to_first_byte_ms=300,
        duration_ms=2000,
    )
    row = {
        **msgspec.structs.asdict(settled),
        "admitted_at": at,
        "ended_at": at + timedelta(seconds=2),
        "credential": 0,
        "virtual_key_id": key.id,
        "team_id": key.team_id,
        "customer_id": key.customer_id,
        "labels": {},
        "client_labels": {},
        "endpoint": "messages",
        "requested_model": "claude-opus-5-5",
        "stream": False,
        "held": "0.01",
    } | changes
    values = [
        json.dumps(value) if isinstance(value, dict | list) and not name.endswith("_split") else value
        for name, value in row.items()
    ]
    with using.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO usage_ledgerentry ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})", values
        )
    return call
