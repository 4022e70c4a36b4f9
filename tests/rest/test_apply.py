"""`manage.py apply` makes a deployment what a file says, once, and says what it does."""

from __future__ import annotations

import csv
import io
import stat

import pytest
from django.core.management import CommandError, call_command

from administration.deployment import reading
from keys import keyring
from keys.audit.models import AuditEvent
from keys.errors import Unusable
from keys.models import Customer, ModelAlias, ProviderKey, Team, VirtualKey
from tests.support.issued import make_key, opened_by
from usage.budgets import Budget
from usage.limits import Limit

FILE = """
provider_keys:
  - {name: main, provider: anthropic, models: [claude-*], secret_env: MAIN_SECRET}
  - {name: echo, provider: echo}
aliases:
  fast: claude-haiku-4-5
customers:
  - name: Acme
    time_zone: Europe/Berlin
    budgets: [5000/month]
    teams:
      - name: Research
        limits: {rpm: 600, input_tpm: {rate: 40000, burst: 10000}}
        keys:
          - name: ci
            owner: alice
            models: [claude-*]
            labels: {project: atlas}
            provider_keys: {main: 3, echo: 1}
            expires_at: 2999-01-31T18:00:00Z
            budgets:
              - 50/month
              - {budget: 20/week/soft, thresholds: [50, 80]}
    keys:
      - {name: ops}
"""
SECRET = "sk-ant-a-secret-of-the-provider-7f3k"


@pytest.fixture
def apply(db, tmp_path, monkeypatch):
    """Applies a text; returns the plan's lines."""
    monkeypatch.setenv("MAIN_SECRET", SECRET)
    path = tmp_path / "keys.yaml"

    def apply(text=FILE, **options):
        path.write_text(text)
        out = io.StringIO()
        call_command("apply", file=path, stdout=out, stderr=io.StringIO(), **options)
        return out.getvalue().splitlines()

    return apply


def test_a_file_makes_the_deployment(apply, tmp_path):
    secrets = tmp_path / "secrets.csv"
    plan = apply(secrets=secrets)
    assert plan == [
        "+ provider key main",
        "+ provider key echo",
        "+ alias fast: new → claude-haiku-4-5",
        "+ customer Acme",
        "+ budget $5,000 a month of Acme",
        "+ team Acme/Research",
        "+ limit rpm 600 of Acme/Research",
        "+ limit input_tpm 40000 of Acme/Research",
        "+ virtual key Acme/Research/ci",
        "+ budget $50 a month of Acme/Research/ci",
        "+ budget $20 a week, soft, alerts at 50, 80 % of Acme/Research/ci",
        "+ virtual key Acme/ops",
    ]
    assert keyring.decrypt(ProviderKey.objects.get(name="main").secret_ciphertext) == SECRET
    key = VirtualKey.objects.get(name="ci")
    assert {route.provider_key.name: route.weight for route in key.routes.all()} == {"main": 3, "echo": 1}
    assert (key.owner, key.labels, key.allowed_models) == ("alice", {"project": "atlas"}, ["claude-*"])
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    [_, *rows] = csv.reader(secrets.read_text().splitlines())
    assert {name: opened_by(secret).virtual_key.name for name, secret in rows} == {
        "Acme/Research/ci": "ci",
        "Acme/ops": "ops",
    }


def test_a_second_run_changes_nothing(apply, tmp_path):
    apply(secrets=tmp_path / "secrets.csv")
    before = AuditEvent.objects.latest("id").pk
    assert apply() == []
    assert AuditEvent.objects.latest("id").pk == before


def test_a_dry_run_prints_the_plan_and_changes_nothing(apply, tmp_path):
    plan = apply(dry_run=True)
    assert len(plan) == 12
    assert not Customer.objects.exists()
    assert apply(secrets=tmp_path / "secrets.csv") == plan


def test_a_changed_file_changes_what_differs_and_leaves_the_rest(apply, tmp_path, monkeypatch):
    apply(secrets=tmp_path / "secrets.csv")
    VirtualKey.objects.filter(name="ci").update(max_tokens=4096)
    monkeypatch.setenv("MAIN_SECRET", SECRET[::-1])
    plan = apply(
        FILE.replace("owner: alice", "owner: bob").replace("50/month", "80/month").replace("main: 3", "main: 1")
    )
    assert plan == [
        "~ provider key main: its secret",
        "~ virtual key Acme/Research/ci: owner alice → bob; provider_keys {echo: 1, main: 3} → {main: 1, echo: 1}",
        "~ budget $80 a month of Acme/Research/ci: amount 50 → 80",
    ]
    key = VirtualKey.objects.get(name="ci")
    assert (key.owner, key.max_tokens) == ("bob", 4096)
    assert keyring.decrypt(ProviderKey.objects.get(name="main").secret_ciphertext) == SECRET[::-1]
    assert SECRET not in "".join(plan)


def test_what_the_file_does_not_name_stays_unless_it_is_pruned(apply, tmp_path):
    other, _ = make_key("other")
    apply(secrets=tmp_path / "secrets.csv")
    smaller = FILE.replace("              - 50/month\n", "").replace("    keys:\n      - {name: ops}\n", "")
    assert apply(smaller) == []
    plan = apply(smaller, prune=True)
    assert plan[:2] == [
        "- virtual key Acme/Research/other: revoked",
        "- virtual key Acme/ops: revoked",
    ]
    assert any("$50 a month" in line for line in plan[2:])
    other.refresh_from_db()
    assert other.state == "revoked"
    assert VirtualKey.objects.get(name="ci").state == "active"
    assert Budget.objects.filter(active=True).count() == 2
    assert Limit.objects.filter(active=True).count() == 2
    assert apply(smaller, prune=True) == []


def test_keys_are_not_issued_without_a_file_for_their_secrets(apply, tmp_path):
    with pytest.raises(CommandError, match="--secrets FILE"):
        apply()
    taken = tmp_path / "taken"
    taken.write_text("mine")
    with pytest.raises(CommandError, match="name a new file"):
        apply(secrets=taken)
    assert taken.read_text() == "mine"
    assert not Customer.objects.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("customers:\n  - name: Acme\n    colour: red", r"line 3, customers\[0\].colour: there is no “colour”"),
        ("customers:\n  - name: 7", r"line 2, customers\[0\].name: expected a text"),
        ("customers:\n  - time_zone: UTC", r"line 2, customers\[0\]: the name is missing"),
        ("customers:\n  - name: Acme\n    name: Globex", "line 3, .*“name” occurs twice"),
        ("customers:\n  - name: Acme\n  - name: Acme", r"line 3, customers\[1\]: “Acme” occurs twice"),
        ("customers:\n  - name: Acme\n    time_zone: Mars/Base", r"line 2, customers\[0\]: time_zone"),
        (
            "customers:\n  - name: Acme\n    budgets: [lots]",
            r"line 3, customers\[0\].budgets\[0\]: “lots” isn't a budget",
        ),
        ("customers:\n  - name: Acme\n    limits: {rpm: fast}", r"line 3, customers\[0\].limits.rpm: expected"),
        ("customers:\n  - name: Acme\n    keys: [{name: a, provider_keys: [x]}]", "line 3, .*no provider key “x”"),
        (
            "provider_keys:\n  - {name: a, provider: anthropic, secret_env: NOT_SET}",
            "line 2, .*NOT_SET is empty or not set",
        ),
        ("a: &a [1]\nb: *a", r"line 2: aliases \(\*a\) are refused"),
        ("a: [", "line 1: this is no YAML"),
        ("!!python/object/apply:os.system [ls]", "line 1"),
        ("- 1", "line 1: expected a mapping"),
        ("[" * 5000, "nested too deeply|no YAML"),
    ],
)
def test_an_error_names_its_line_and_path_and_nothing_is_changed(apply, text, said):
    with pytest.raises(CommandError, match=said):
        apply(text)
    assert not Customer.objects.exists()


def test_an_error_late_in_the_file_takes_everything_back(apply):
    with pytest.raises(CommandError, match=r"customers\[1\]"):
        apply("customers:\n  - name: Acme\n  - name: Globex\n    fiscal_year_month: 13")
    assert not Customer.objects.exists()
    assert not Team.objects.exists()
    assert not ModelAlias.objects.exists()


def test_a_file_that_expands_to_gigabytes_is_refused():
    bomb = "a: &a [x, x]\n" + "".join(f"k{n}: &k{n} [*a, *a]\n" for n in range(50))
    with pytest.raises(Unusable, match="aliases"):
        reading.read(bomb.encode())
    with pytest.raises(Unusable, match="larger than"):
        reading.read(b"x" * (reading.MOST_BYTES + 1))
