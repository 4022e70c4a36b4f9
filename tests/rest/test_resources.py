"""The resources of the REST API: customers, teams, virtual keys, provider keys, names and prices of models, alerts."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from administration.models import Grant
from administration.rest.members import written
from administration.role_names import Role
from administration.roles import giving
from keys import keyring
from keys.models import Customer, ProviderKey, Team, VirtualKey
from tests.support.issued import make_key, make_provider_key, opened_by
from tests.support.rest import Program, error
from usage.budgets import Budget
from usage.limits import Limit
from usage.models import Alert, KeyRules, Price

SECRET = "sk-ant-a-secret-of-the-provider-7f3k"


def test_a_customer_and_its_team_are_created_changed_and_paused(program):
    customer = program.post("customers", {"name": "Acme", "time_zone": "Europe/Berlin"})
    team = program.post("teams", {"customer_id": customer["id"], "name": "Research", "max_tokens": 4096})
    assert team["customer"] == "Acme"
    assert program.patch(f"customers/{customer['id']}", {"language": "de"}).json()["language"] == "de"
    assert program.post(f"teams/{team['id']}/pause")["paused"] is True
    assert Team.objects.get().paused
    assert program.post(f"teams/{team['id']}/resume")["paused"] is False
    assert program.get(f"teams?customer_id={customer['id']}")["data"] == [program.get(f"teams/{team['id']}")]


def test_a_key_is_issued_with_budgets_and_limits_and_its_secret_is_shown_once(program):
    provider_key = make_provider_key()
    customer = Customer.objects.create(name="Acme")
    body = {
        "name": "ci",
        "customer_id": customer.pk,
        "allowed_models": ["echo-*"],
        "labels": {"project": "atlas"},
        "routes": [{"provider_key_id": provider_key.pk, "weight": 3}],
        "budgets": [{"amount": "50", "thresholds": [80, 50]}],
        "limits": [{"kind": "rpm", "rate": 60}],
    }
    issued = program.post("virtual-keys", body)
    key = VirtualKey.objects.get()
    assert opened_by(issued["secret"]).virtual_key == key
    assert issued["routes"] == [{"provider_key_id": provider_key.pk, "provider_key": "echo", "weight": 3}]
    assert (Budget.objects.get().amount, Budget.objects.get().thresholds) == (Decimal(50), [50, 80])
    assert Limit.objects.get().rate == 60
    shown = program.get(f"virtual-keys/{key.pk}")
    assert issued["secret"] not in str(shown)
    assert shown["secrets"][0]["ends"].endswith(issued["secret"][-4:])
    assert shown["state"] == "active"


def test_several_keys_are_issued_at_once_or_none(program):
    make_provider_key()
    customer = Customer.objects.create(name="Acme")
    keys = [{"name": f"ci-{number}", "customer_id": customer.pk} for number in range(3)]
    issued = program.post("virtual-keys/bulk", {"keys": keys})["data"]
    assert len({opened_by(each["secret"]).virtual_key_id for each in issued}) == 3
    again = program.ask("POST", "virtual-keys/bulk", {"keys": [{"name": "new", "customer_id": customer.pk}, keys[0]]})
    assert "already has a virtual key" in error(again, 400, "invalid")["message"]
    assert VirtualKey.objects.count() == 3


def test_a_key_is_changed_rotated_paused_and_revoked(program):
    key, plain = make_key()
    other = make_provider_key("other")
    path = f"virtual-keys/{key.pk}"
    changed = program.patch(path, {"owner": "alice", "routes": [{"provider_key_id": other.pk}]}).json()
    assert (changed["owner"], changed["routes"][0]["provider_key"]) == ("alice", "other")
    rotated = program.post(f"{path}/rotate", {"overlap_seconds": 3600})
    assert opened_by(rotated["secret"]).virtual_key == key
    assert len(rotated["secrets"]) == 2
    assert program.post(f"{path}/pause")["state"] == "paused"
    assert program.post(f"{path}/resume")["state"] == "active"
    assert program.post(f"{path}/revoke", {"cut_streams": True, "reason": "leaked"})["state"] == "revoked"
    assert "is revoked" in error(program.patch(path, {"owner": "bob"}), 400, "invalid")["message"]
    assert program.get("virtual-keys?revoked=false")["data"] == []
    assert plain not in str(program.get("virtual-keys")["data"])


def test_a_key_of_another_customers_team_is_refused(program):
    make_provider_key()
    acme, globex = (Customer.objects.create(name=name) for name in ("Acme", "Globex"))
    team = Team.objects.create(customer=globex, name="Sales")
    answer = program.ask("POST", "virtual-keys", {"name": "ci", "customer_id": acme.pk, "team_id": team.pk})
    assert "belongs to another customer" in error(answer, 400, "invalid")["message"]
    missing = program.ask("POST", "virtual-keys", {"name": "ci", "customer_id": 10**12})
    assert "customer_id" in error(missing, 400, "invalid")["fields"]


def test_a_provider_keys_secret_goes_in_and_never_comes_out(program):
    body = {"name": "main", "provider": "anthropic", "secret": SECRET, "models": ["claude-*"]}
    created = program.post("provider-keys", body)
    row = ProviderKey.objects.get()
    assert keyring.decrypt(row.secret_ciphertext) == SECRET
    assert SECRET not in str([created, program.get("provider-keys"), program.get(f"provider-keys/{row.pk}")])
    moved = program.patch(f"provider-keys/{row.pk}", {"base_url": "https://vendor.example"})
    assert "type the secret again" in error(moved, 400, "invalid")["message"]
    changed = program.patch(f"provider-keys/{row.pk}", {"secret": SECRET[::-1], "active": False})
    assert changed.json()["active"] is False
    assert keyring.decrypt(ProviderKey.objects.get().secret_ciphertext) == SECRET[::-1]


def test_an_alias_is_created_changed_and_removed(program):
    alias = program.post("aliases", {"name": "fast", "target": "claude-haiku-4-5"})
    changed = program.patch(f"aliases/{alias['id']}", {"target": "claude-haiku-4-6"})
    assert changed.json()["target"] == "claude-haiku-4-6"
    second = program.ask("POST", "aliases", {"name": "faster", "target": "fast"})
    assert "target" in error(second, 400, "invalid")["fields"]
    assert program.ask("DELETE", f"aliases/{alias['id']}").status_code == 204
    error(program.ask("GET", f"aliases/{alias['id']}"), 404, "not_found")


def test_a_mark_up_for_a_team_is_added_shown_and_ended(program):
    team = program.post("teams", {"customer_id": program.post("customers", {"name": "Acme"})["id"], "name": "Research"})
    body = {"sets": "charge", "model": "*", "team_id": team["id"], "percent": "12.5", "flat": "0.001"}
    price = program.post("prices", body)
    assert {name: price[name] for name in body} == body
    assert (price["input"], price["web_search"], price["valid_to"]) == (None, None, None)
    assert [each["id"] for each in program.get(f"prices?team_id={team['id']}")["data"]] == [price["id"]]
    assert program.post(f"prices/{price['id']}/end")["valid_to"] <= written(timezone.now())
    again = program.ask("POST", f"prices/{price['id']}/end", {})
    assert "has ended already" in error(again, 400, "invalid")["message"]


def test_a_price_that_says_too_much_or_overlaps_is_refused(program):
    error(program.ask("POST", "prices", {"model": "a-*", "percent": "5", "input": "1"}), 400, "invalid")
    error(program.ask("POST", "prices", {"model": "a-*"}), 400, "invalid")
    tomorrow, later = (written(timezone.now() + timedelta(days=days)) for days in (1, 2))
    first = program.post("prices", {"model": "a-*", "percent": "5", "valid_from": tomorrow})
    answer = program.ask("POST", "prices", {"model": "a-*", "percent": "6", "valid_to": later})
    assert f"overlaps price {first['id']}" in error(answer, 400, "invalid")["message"]


def test_exchange_rates_are_dated(program):
    rate = program.post("exchange-rates", {"currency": "EUR", "rate": "0.9235", "source": "ECB"})
    assert (rate["currency"], rate["rate"]) == ("EUR", "0.9235")
    error(program.ask("POST", "exchange-rates", {"currency": "USD", "rate": "1", "source": "x"}), 400, "invalid")
    error(program.ask("POST", "exchange-rates", {"currency": "eur", "rate": "1", "source": "x"}), 400, "invalid")


def test_a_price_applies_from_now_or_later_and_is_never_changed(program):
    amounts = dict.fromkeys(("input", "output", "cache_read", "cache_write_5m", "cache_write_1h"), "1.25")
    price = program.post("prices", {"model": "house-*", **amounts})
    assert price["input"] == "1.25"
    assert Price.objects.get(pk=price["id"]).input == Decimal("1.25")
    error(program.ask("PATCH", f"prices/{price['id']}", {"note": "x"}), 405, "method_not_allowed")
    assert "applies already" in error(program.ask("DELETE", f"prices/{price['id']}"), 400, "invalid")["message"]
    past = written(timezone.now() - timedelta(days=3))
    answer = program.ask("POST", "prices", {"model": "house-*", **amounts, "valid_from": past})
    assert "valid_from" in error(answer, 400, "invalid")["fields"]
    later = written(timezone.now() + timedelta(days=3))
    future = program.post("prices", {"model": "house-*", **amounts, "valid_from": later})
    assert future["valid_from"] == later
    assert program.ask("DELETE", f"prices/{future['id']}").status_code == 204


def test_an_alert_target_is_an_address_and_a_webhook_needs_a_secret(program):
    mail = program.post("alert-targets", {"channel": "email", "address": "ops@example.com"})
    assert program.patch(f"alert-targets/{mail['id']}", {"active": False}).json()["active"] is False
    hook = {"channel": "webhook", "address": "https://hooks.example.com/x"}
    assert "secret" in error(program.ask("POST", "alert-targets", hook), 400, "invalid")["fields"]
    secret = "whsec_" + "a" * 32
    created = program.post("alert-targets", {**hook, "secret": secret})
    moved = program.patch(f"alert-targets/{created['id']}", {"address": "https://hooks.example.com/y"})
    assert "enter the secret again" in error(moved, 400, "invalid")["message"]
    assert secret not in str(program.get("alert-targets"))


def test_each_alert_says_what_it_is_about(program):
    key, provider_key, now = make_key("alice")[0], make_provider_key("spare"), timezone.now()
    budget = Budget.objects.create(virtual_key=key, amount=1)
    given: dict[str, Any] = {"start": now, "at": now, "threshold": 0, "spent": 1, "amount": 1}
    kinds: dict[str, dict[str, Any]] = {
        "threshold": {"budget": budget, "threshold": 80},
        "exhausted": {"budget": budget},
        "overrun": {"virtual_key": key},
        "expiry": {"virtual_key": key, "expires_at": now, "threshold": 3},
        "refused_provider_key": {"provider_key": provider_key, "http_status": 401},
        "doubtful_usage": {"provider_key": provider_key},
        "miscounted": {},
    }
    for about, more in kinds.items():
        alert = Alert.objects.create(**given | more)
        assert (alert.about, program.get(f"alerts/{alert.pk}")["about"]) == (about, about)


def test_budgets_are_created_changed_and_removed(program):
    customer = Customer.objects.create(name="Acme")
    body = {"customer_id": customer.pk, "amount": "100", "thresholds": [80]}
    budget = program.post("budgets", body)
    assert budget["standing"] == {
        "amount": "100",
        "spent": "0",
        "held": "0",
        "left": "100",
        "resets_at": None,
        "exhausted_since": None,
    }
    assert str(budget["id"]) in error(program.ask("POST", "budgets", body), 409, "conflict")["message"]
    path = f"budgets/{budget['id']}"
    changed = program.patch(path, {"amount": "80.5", "enforcement": "soft"}).json()
    assert (changed["amount"], changed["enforcement"]) == ("80.5", "soft")
    error(program.patch(path, {"period": "day"}), 400, "invalid")
    assert program.ask("DELETE", path).status_code == 204
    assert not Budget.objects.get().active
    assert program.get("budgets?active=true")["data"] == []
    assert "is deleted" in error(program.patch(path, {"amount": "1"}), 400, "invalid")["message"]


def test_a_prepaid_budget_is_topped_up_and_any_budget_can_be_overridden(program):
    customer = Customer.objects.create(name="Acme")
    prepaid = program.post("budgets", {"customer_id": customer.pk, "period": "none"})
    top_up = program.post("top-ups", {"budget_id": prepaid["id"], "amount": "25.50", "reason": "invoice 7"})
    assert (top_up["amount"], top_up["author"]) == ("25.5", "boss")
    assert program.get(f"budgets/{prepaid['id']}")["amount"] == "25.5"
    monthly = program.post("budgets", {"customer_id": customer.pk, "amount": "10"})
    override = program.post(
        "overrides", {"budget_id": monthly["id"], "amount": "20", "windows": 1, "reason": "a launch"}
    )
    assert override["starts_at"] < override["until"]
    assert program.get(f"budgets/{monthly['id']}")["standing"]["amount"] == "20"
    wrong = program.ask("POST", "top-ups", {"budget_id": monthly["id"], "amount": "1", "reason": "x"})
    assert "only a prepaid budget" in error(wrong, 400, "invalid")["message"]


@pytest.mark.parametrize("owners", [{}, {"customer_id": 1, "team_id": 1}])
def test_a_budget_has_exactly_one_owner(program, owners):
    assert "exactly one" in error(program.ask("POST", "budgets", {"amount": "1", **owners}), 400, "invalid")["message"]


def test_limits_are_created_changed_and_removed(program):
    key, _ = make_key()
    limit = program.post("limits", {"virtual_key_id": key.pk, "kind": "rpm", "rate": 60})
    assert limit["standing"] == {"remaining": 10, "at_once": 10}
    assert program.patch(f"limits/{limit['id']}", {"rate": 120, "burst": 5}).json()["burst"] == 5
    wrong = program.patch(f"limits/{limit['id']}", {"count_cached": True})
    assert "count_cached" in error(wrong, 400, "invalid")["fields"]
    assert program.ask("DELETE", f"limits/{limit['id']}").status_code == 204


def test_a_person_sees_rows_by_their_role_and_no_ends_of_secrets_without_the_right(db):
    key, plain = make_key()
    acme, globex = key.customer, Customer.objects.create(name="Globex")
    alice = User.objects.create_user("alice", is_staff=True)
    Grant.objects.create(user=alice, role=Role.FINANCE, customer=acme)
    program = Program(alice)
    [shown] = program.get("virtual-keys")["data"]
    assert shown["secrets"] == []
    assert plain[-4:] not in str(shown)
    error(program.ask("GET", f"customers/{globex.pk}"), 404, "not_found")
    error(program.ask("POST", f"virtual-keys/{key.pk}/rotate", {}), 403, "forbidden")
    error(program.ask("POST", f"virtual-keys/{key.pk}/revoke", {}), 403, "forbidden")
    error(program.ask("POST", "budgets", {"virtual_key_id": key.pk, "amount": "1"}), 403, "forbidden")
    key.refresh_from_db()
    assert key.state == "active"
    assert not Budget.objects.exists()


def test_a_team_admin_issues_keys_of_their_own_team_only(db):
    key, _ = make_key()
    other = Team.objects.create(customer=key.customer, name="Sales")
    carol = User.objects.create_user("carol", is_staff=True)
    Grant.objects.create(user=carol, role=Role.TEAM_ADMIN, team=key.team)
    program = Program(carol)
    body = {"name": "new", "customer_id": key.customer.pk, "budgets": [{"amount": "5"}]}
    assert program.post("virtual-keys", {**body, "team_id": key.team.pk})["secrets"] != []
    for team in ({"team_id": other.pk}, {}):
        assert program.ask("POST", "virtual-keys", {**body, "name": "b", **team}).status_code in (400, 403)
    error(program.ask("POST", "budgets", {"team_id": key.team.pk, "amount": "1"}), 403, "forbidden")
    moved = program.patch(f"virtual-keys/{key.pk}", {"team_id": None})
    error(moved, 403, "forbidden")
    assert VirtualKey.objects.count() == 2


def test_a_revocation_keeps_its_first_reason(program):
    key, _ = make_key()
    revoked = program.post(f"virtual-keys/{key.pk}/revoke", {"reason": "leaked"})
    assert revoked["revoke_reason"] == "leaked"
    again = program.ask("POST", f"virtual-keys/{key.pk}/revoke", {"reason": "bored"})
    assert "“leaked”, which stays" in error(again, 409, "conflict")["message"]
    for action in ("pause", "resume"):
        refused = program.ask("POST", f"virtual-keys/{key.pk}/{action}", {})
        assert "is revoked permanently" in error(refused, 409, "conflict")["message"]
    for same in ({"cut_streams": True}, {"reason": "leaked"}, {}):
        assert program.post(f"virtual-keys/{key.pk}/revoke", same)["state"] == "revoked"
    assert program.get(f"virtual-keys/{key.pk}")["revoke_reason"] == "leaked"


def test_a_key_gets_what_the_rules_of_its_team_say_and_a_team_admin_stays_below_their_ceilings(program):
    key, _ = make_key()
    team = key.team
    KeyRules.objects.create(team=team, budget=10, most_budget=20)
    body = {"customer_id": team.customer_id, "team_id": team.pk}
    user = User.objects.create_user("team-admin", is_staff=True)
    giving.give(None, user, Role.TEAM_ADMIN, team=team)
    admin = Program(user)
    admin.post("virtual-keys", body | {"name": "unsaid"})
    budget = Budget.objects.get()
    assert budget.amount == 10
    above = body | {"name": "above", "budgets": [{"amount": "21"}]}
    assert "at most $20.00 a month" in error(admin.ask("POST", "virtual-keys", above), 400, "invalid")["message"]
    without = body | {"name": "without", "budgets": []}
    assert "at most $20.00 a month" in error(admin.ask("POST", "virtual-keys", without), 400, "invalid")["message"]
    etag = admin.ask("GET", f"budgets/{budget.pk}").headers["ETag"]
    raised = admin.ask("PATCH", f"budgets/{budget.pk}", {"amount": "21"}, if_match=etag)
    assert "at most $20.00 a month" in error(raised, 400, "invalid")["message"]
    assert "at most" in error(admin.ask("DELETE", f"budgets/{budget.pk}"), 400, "invalid")["message"]
    budget.refresh_from_db()
    assert (budget.amount, budget.active) == (Decimal(10), True)
    program.post("virtual-keys", above)
