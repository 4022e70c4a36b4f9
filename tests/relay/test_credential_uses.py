"""When each secret was last used, and from where."""

from __future__ import annotations

from typing import Any, cast

import psycopg

from tests.support.gateway import post, wait_until
from usage.credential_uses import CredentialUses
from usage.models import CredentialUse


def test_a_call_leaves_the_time_and_the_address_of_its_secret(web, echo_alice):
    assert post(web, echo_alice.key).status_code == 200
    # Others may still arrive, of calls that another test made.
    uses = CredentialUse.objects.filter(credential=echo_alice.virtual_key.credentials.get().pk)
    wait_until(uses.exists)
    assert uses.get().address == "127.0.0.1"


class Broken:
    """A reader without a database."""

    def __init__(self, works=True):
        self.works = works
        self.written = []

    async def fetch(self, query, values=()):
        if not self.works:
            raise psycopg.OperationalError("gone")
        self.written.append(values[0])
        return []


async def test_a_use_is_written_once_a_minute_unless_the_address_changes():
    reader = Broken()
    uses = CredentialUses(cast("Any", reader))
    for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2"):
        uses.note(7, address)
        await uses.flush()
    assert len(reader.written) == 2
    assert "192.0.2.2" in reader.written[1]


async def test_uses_wait_for_the_database():
    reader = Broken(works=False)
    uses = CredentialUses(cast("Any", reader))
    uses.note(7, "192.0.2.1")
    await uses.flush()
    reader.works = True
    await uses.flush()
    assert len(reader.written) == 1
