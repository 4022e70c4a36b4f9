"""A writer in the test's own process, and what it has committed, seen on a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
from decimal import Decimal

import psycopg
import pytest
from asgiref.sync import sync_to_async

from keys.models import Credential
from tests.support.databases import admin_connection, throw_out
from tests.support.gateway import issue
from usage import ledger, spool
from usage.arbitration import Admission, ArbiterAway, Settlement
from usage.request_ids import new_id
from usage.writer import Writer

reap = sync_to_async(ledger.reap)
replay = sync_to_async(spool.replay)


@pytest.fixture
def credential(apart, tmp_path, settings):
    """Alice's credential; the spool is empty."""
    settings.SPOOL_DIR = tmp_path / "spool"
    return Credential.objects.select_related("virtual_key").get(virtual_key=issue(None).virtual_key)


def admission(credential, **changes):
    key = credential.virtual_key
    known = {
        "id": new_id(),
        "credential": credential.pk,
        "revision": key.revision,
        "catalogue_revision": one("SELECT catalogue_revision FROM keys_gateway"),
        "hold": True,
        "endpoint": "messages",
        "requested_model": "claude-opus-5-5",
        "stream": False,
        "provider": "echo",
        "provider_key": None,
        "ceiling": Decimal("0.25"),
        "input_tokens": 100,
        "input_cost": Decimal("0.01"),
        "max_tokens": 1000,
        "output_price": Decimal(20),
        "price_version": "test",
        "client_labels": {},
    }
    return Admission(**(known | changes))


def one(query, *values):
    """The only value of a query."""
    with admin_connection() as link:
        found = link.execute(query, values).fetchone()
    assert found is not None
    return found[0]


def settlement(call, **changes):
    known = {
        "id": call.id,
        "model": call.requested_model,
        "provider": "echo",
        "provider_request_id": "req_1",
        "status": "completed",
        "http_status": 200,
        "stop_reason": "end_turn",
        "input_tokens": 90,
        "output_tokens": 10,
        "cost": Decimal("0.002"),
        "price_version": "test",
        "time_to_first_byte_ms": 5,
        "duration_ms": 20,
    }
    return Settlement(**(known | changes))


@contextlib.asynccontextmanager
async def writing(**options):
    writer = Writer(**({"queue": 4000, "patience": 3, "lease": 15, "retained": 3600} | options))
    await writer.start()
    try:
        yield writer
    finally:
        await writer.stop(2)


@contextlib.asynccontextmanager
async def beaten():
    """A writer whose heartbeat has just been, and won't be again for minutes: what a test makes of it stays."""
    async with writing(lease=600) as writer:
        await asyncio.sleep(0.4)
        yield writer


async def quiet(writer):
    """Everything that was queued is written."""
    async with asyncio.timeout(10):
        while writer.settlements or writer.releases or writer.admissions or not writer.idle.is_set():
            await asyncio.sleep(0.005)


def ledger_ids():
    with admin_connection() as link:
        return [row[0] for row in link.execute("SELECT id FROM usage_ledgerentry ORDER BY id")]


def count(model):
    return one(f"SELECT count(*) FROM {model._meta.db_table}")


def groups(writer):
    return one("SELECT groups FROM usage_writer WHERE process = %s", writer.process)


def terminate(name="gateway writer"):
    with admin_connection() as link:
        throw_out(link, "application_name = %s AND datname = current_database()", name)


@contextlib.asynccontextmanager
async def database_away(monkeypatch):
    """No new connection can be made, and the open one is gone."""

    async def refuse(application):
        raise psycopg.OperationalError("away")

    with monkeypatch.context() as patch:
        patch.setattr("usage.writer.connect", refuse)
        terminate()
        yield


async def attempted(writer, credential):
    with contextlib.suppress(ArbiterAway):
        return await writer.admit(admission(credential))


async def later(writer, credential):
    await asyncio.sleep(0.1)
    await writer.admit(admission(credential))
