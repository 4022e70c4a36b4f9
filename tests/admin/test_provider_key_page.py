"""The page of one provider key, and what people do there."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from keys import issuing, keyring, names, own_keys
from keys.errors import Unusable
from keys.models import Cooldown, Credential, Customer, ModelList, ProviderKey, VirtualKey
from messages_api.relay import key_call, key_probe
from tests.support.fake_provider import whole
from tests.support.issued import SECRET, make_key, make_provider_key
from tests.support.ledger_rows import empty_ledger, make_entry
from usage import rollups
from usage.models import Budget, Hold, LedgerEntry, Price, Process

# Calls are made on connections of their own, and roll-ups add what other transactions have committed.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def ledger():
    empty_ledger()


@pytest.fixture
def admin(client):
    client.force_login(User.objects.create_superuser("admin"))
    return client


@pytest.fixture
def echo():
    return make_provider_key("echo", model_patterns=["echo-1"])


def page_of(client, row, **query):
    answer = client.get(f"/admin/provider-key/{row.pk}/", query)
    assert answer.status_code == 200
    return answer.content.decode()


def said_after(answer):
    """What the page says about what was done."""
    return " ".join(str(message) for message in answer.context["messages"])


def test_it_shows_how_calls_went_what_they_cost_and_which_keys_depend_on_it(admin):
    main = make_provider_key("main", provider="anthropic", secret=SECRET)
    spare = make_provider_key("spare")
    alice, _ = make_key("alice", provider_keys=[(main, 1)])
    bob, _ = make_key("bob", provider_keys=[(main, 2), (spare, 1)])
    now = timezone.now()
    for status in ("completed", "completed", "completed", "failed", "client_disconnected"):
        make_entry(alice, at=now, provider_key=main, status=status, cost="1.25")
    make_entry(bob, at=now, provider_key=spare, cost="7.77")
    rollups.roll_up()
    page = page_of(admin, main)
    assert "75.0 % answered" in page
    assert "$6.25" in page
    assert "$7.77" not in page
    assert "First byte" in page
    assert "it has no other provider key" in page
    assert "weight 2 beside others" in page
    assert SECRET not in page


def test_its_models_have_the_list_price_and_the_own_one(admin):
    main = make_provider_key("main", provider="anthropic", secret=SECRET, model_patterns=["claude-*"])
    ModelList.objects.create(
        provider_key=main, listed=[{"id": "claude-haiku-4-5"}, {"id": "claude-opus-4-8"}, {"id": "other"}]
    )
    Price.objects.create(
        model="claude-haiku-4-5", input="0.75", output="3.25", cache_read=0, cache_write_5m=1, cache_write_1h=1
    )
    page = page_of(admin, main)
    assert "$0.75" in page
    assert "$3.25" in page
    assert "claude-opus-4-8" in page
    assert "<td>other</td>" not in page


def test_the_keys_that_depend_on_it_come_in_pages(admin, echo, monkeypatch):
    monkeypatch.setattr("administration.providers.standing.KEYS", 2)
    keys = [make_key(f"key-{number}", provider_keys=[(echo, 1)])[0] for number in range(5)]
    revoked, _ = make_key("gone", provider_keys=[(echo, 1)])
    issuing.revoke(revoked)
    seen, before = [], None
    for _ in range(3):
        answer = admin.get(f"/admin/provider-key/{echo.pk}/", {} if before is None else {"before": before})
        seen += [route.virtual_key_id for route in answer.context["dependants"].routes]
        before = answer.context["dependants"].next
    assert seen == [key.pk for key in reversed(keys)]
    assert before is None
    assert "newest" in page_of(admin, echo, before="x" * 30)


def test_a_test_with_a_call_is_admitted_and_in_the_ledger_of_the_gateways_own_customer(admin, echo):
    answer = admin.post(f"/admin/provider-key/{echo.pk}/call/", {"model": "echo-1"}, follow=True)
    assert "“echo” answered in" in said_after(answer)
    entry = LedgerEntry.objects.get()
    assert (entry.status, entry.http_status, entry.model, entry.provider_key) == ("completed", 200, "echo-1", echo)
    assert entry.customer == Customer.objects.get(name=own_keys.CUSTOMER)
    assert entry.output_tokens <= 1
    assert entry.held >= entry.cost
    assert not Hold.objects.exists()
    assert not Process.objects.exists()
    again = admin.post(f"/admin/provider-key/{echo.pk}/call/", {"model": "echo-1"}, follow=True)
    assert "“echo” answered in" in said_after(again)
    assert VirtualKey.objects.filter(passthrough=True).count() == Credential.objects.filter(kind="test").count() == 1


def test_a_budget_of_the_own_customer_refuses_it(admin, echo):
    own_keys.ensure_test_key()
    Budget.objects.create(customer=Customer.objects.get(name=own_keys.CUSTOMER), amount="0.000000000001")
    answer = admin.post(f"/admin/provider-key/{echo.pk}/call/", {"model": "echo-1"}, follow=True)
    assert "did not answer" in said_after(answer)
    assert "left of $0.0000 for customer This gateway" in said_after(answer)
    assert not LedgerEntry.objects.exists()


@pytest.mark.parametrize(
    ("changes", "model", "said"),
    [({"active": False}, "echo-1", "switched off"), ({}, "claude-x", "claude-x"), ({}, "", "This field is required")],
)
def test_a_call_that_can_not_be_made_says_why(admin, echo, changes, model, said):
    ProviderKey.objects.filter(pk=echo.pk).update(**changes)
    answer = admin.post(f"/admin/provider-key/{echo.pk}/call/", {"model": model}, follow=True)
    assert said in answer.content.decode()
    assert not LedgerEntry.objects.exists()


def test_the_page_says_that_a_secret_was_refused_without_showing_it(admin, upstream):
    main = make_provider_key("main", provider="anthropic", secret=SECRET, base_url=upstream.url)
    said = {"type": "error", "error": {"type": "authentication_error", "message": f"no {SECRET}"}}
    upstream.answer = whole(401, json.dumps(said).encode())
    tried = key_call.call(main, "claude-haiku-4-5")
    assert not tried.works
    assert tried.message
    assert SECRET not in repr(tried)
    entry = LedgerEntry.objects.get()
    assert (entry.status, entry.http_status, entry.cost) == ("refused_by_provider", 401, Decimal(0))


def test_the_hidden_key_can_not_be_used_changed_or_named(admin):
    credential = own_keys.ensure_test_key()
    key = credential.virtual_key
    assert admin.get(f"/admin/key/{key.pk}/").status_code == 404
    assert names.TESTS not in admin.get("/admin/keys/virtualkey/").content.decode()
    with pytest.raises(Unusable, match="own"):
        issuing.revoke(key)
    with pytest.raises(Unusable):
        issuing.rotate(key, timedelta(0))
    with pytest.raises(Unusable, match="reserves"):
        make_key(names.TESTS)


def test_one_process_makes_one_test_call_at_a_time(admin, echo):
    answers = []
    ask = partial(admin.post, f"/admin/provider-key/{echo.pk}/call/", {"model": "echo-1"}, follow=True)

    def ask_meanwhile(work):
        answers.append(ask())
        return run(work)

    with pytest.MonkeyPatch.context() as patched:
        run = key_probe.run
        patched.setattr(key_probe, "run", ask_meanwhile)
        assert "answered in" in said_after(ask())
    assert "another test call is under way" in said_after(answers[0])
    assert LedgerEntry.objects.count() == 1
    assert "answered in" in said_after(ask())


def test_the_customer_of_test_calls_may_get_another_name(admin):
    credential = own_keys.ensure_test_key()
    Customer.objects.filter(name=own_keys.CUSTOMER).update(name="Our own tests")
    assert own_keys.ensure_test_key() == credential
    assert list(Customer.objects.values_list("name", flat=True)) == ["Our own tests"]


def test_reset_ends_its_cool_downs_and_no_others(admin, echo):
    other = make_provider_key("other")
    now = timezone.now()
    for row, model in ((echo, ""), (echo, "echo-1"), (other, "")):
        Cooldown.objects.create(
            provider_key=row, model=model, reason="failing", strikes=3, since=now, until=now + timedelta(hours=1)
        )
    assert "3 failures without a success" in page_of(admin, echo)
    answer = admin.post(f"/admin/provider-key/{echo.pk}/reset/", follow=True)
    assert "Calls go to “echo” again" in said_after(answer)
    assert list(Cooldown.objects.values_list("provider_key", flat=True)) == [other.pk]


def test_replacing_the_secret_changes_nothing_else(admin, monkeypatch):
    monkeypatch.setattr("keys.provider_checks.check", lambda *rows: [None for _ in rows])
    main = make_provider_key("main", provider="anthropic", secret=SECRET, model_patterns=["claude-*"])
    before: dict[str, object] = {**ProviderKey.objects.filter(pk=main.pk).values().get()}
    answer = admin.post(f"/admin/provider-key/{main.pk}/secret/", {"secret": "sk-ant-another-secret-9w2d"}, follow=True)
    assert "was replaced" in said_after(answer)
    after: dict[str, Any] = {**ProviderKey.objects.filter(pk=main.pk).values().get()}
    changed = {name for name in after if after[name] != before[name]}
    assert changed <= {"secret_ciphertext", "secret_hint"}
    assert keyring.decrypt(after["secret_ciphertext"]) == "sk-ant-another-secret-9w2d"
    assert "sk-ant-another" not in answer.content.decode()


def test_a_wrong_secret_is_refused_and_not_shown_again(admin):
    main = make_provider_key("main", provider="anthropic", secret=SECRET)
    answer = admin.post(f"/admin/provider-key/{main.pk}/secret/", {"secret": "two words\nand lines"})
    assert answer.status_code == 400
    assert "two words" not in answer.content.decode()
    main.refresh_from_db()
    assert keyring.decrypt(main.secret_ciphertext) == SECRET
