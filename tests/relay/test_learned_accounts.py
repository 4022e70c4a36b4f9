"""How the gateway learns which account is whose."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from asgiref.sync import sync_to_async

from keys.accounts import Accounts
from keys.connection import Reader
from keys.directory import KnownProviderKey
from keys.models import Gateway, ProviderKey
from tests.support.accounts import Account, prefer
from tests.support.accounts import _made_anew as _made_anew
from tests.support.accounts import _upstreams as _upstreams
from tests.support.accounts import alice as alice
from tests.support.accounts import here as here
from tests.support.accounts import second_upstream as second_upstream
from tests.support.accounts import there as there
from tests.support.fake_provider import whole
from tests.support.gateway import (
    Caller,
    Web,
    ask,
    message,
    post,
    row,
    wait_until,
)


def test_the_account_in_a_providers_headers_is_learned_and_hidden_from_callers(
    web: Web, alice: Caller, here: Account, there: Account
) -> None:
    prefer(alice, here)
    answer = post(web, alice.key, ask())
    assert not any(name.startswith("anthropic-organization") for name in answer.headers)
    wait_until(ProviderKey.objects.exclude(organization_id="").exists)
    learned = ProviderKey.objects.get(name="here")
    assert (learned.organization_id, learned.workspace_id) == here.ids
    assert ProviderKey.objects.get(name="there").organization_id == ""


@pytest.mark.parametrize("change", [{"base_url": "https://elsewhere.example"}, {"secret_ciphertext": b"another"}])
def test_it_is_forgotten_where_it_may_be_another_account(there: Account, change: dict[str, Any]) -> None:
    row = ProviderKey.objects.filter(pk=there.provider_key.pk)
    row.update(organization_id="org", workspace_id="ws", account_learned_at=datetime.now(UTC))
    row.update(name="renamed", active=False)
    assert row.get().organization_id == "org"
    row.update(**change)
    changed = row.get()
    assert (changed.organization_id, changed.workspace_id, changed.account_learned_at) == ("", "", None)


def revision() -> int:
    return Gateway.objects.get().catalogue_revision


async def test_a_front_end_that_changes_its_mind_moves_the_catalogue_once_a_minute(there: Account) -> None:
    known = KnownProviderKey(there.provider_key.pk, "there", "anthropic", "", "", ())
    before = await sync_to_async(revision)()
    reader = Reader("test")
    try:
        processes = [Accounts(reader) for _ in range(3)]
        for number in range(12):
            process = processes[number % 3]
            process.note(known, (f"org-{number % 2}", ""))
            await process.flush()
            process.tried.clear()  # as another process would
        assert await sync_to_async(revision)() == before + 1
        await reader.fetch("UPDATE keys_providerkey SET account_learned_at = now() - interval '61 seconds'")
        between = await sync_to_async(revision)()
        processes[0].note(known, ("org-1", ""))
        await processes[0].flush()
        assert await sync_to_async(revision)() == between + 1
    finally:
        await reader.close()


@pytest.mark.parametrize("account", [("", ""), ("", "ws"), ("org", "ws")])
async def test_what_is_known_or_not_said_is_not_written(there: Account, account: tuple[str, str]) -> None:
    known = KnownProviderKey(there.provider_key.pk, "there", "anthropic", "", "", (), "org", "ws")
    accounts = Accounts(Reader("test"))
    accounts.note(known, account)
    assert not accounts.heard


def test_a_nonsensical_account_is_cleaned_before_it_is_written(
    web: Web, alice: Caller, here: Account, there: Account
) -> None:
    prefer(alice, here)
    here.upstream.answer = whole(200, message(), ("anthropic-organization-id", "ü" * 500))
    assert post(web, alice.key, ask()).status_code == 200
    wait_until(ProviderKey.objects.exclude(organization_id="").exists)
    assert ProviderKey.objects.get(name="here").organization_id == "ü" * 200
    assert row().status == "completed"
