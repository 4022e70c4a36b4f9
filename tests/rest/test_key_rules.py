"""A team's rules for its keys, by the REST API and in the file of `manage.py apply`."""

from __future__ import annotations

import io
from decimal import Decimal

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from administration.role_names import Role
from administration.roles import giving
from keys.audit.models import AuditEvent
from keys.models import Customer, Team
from tests.support.issued import make_key
from tests.support.rest import Program, error
from usage.models import KeyRules

FILE = """
customers:
  - name: Acme
    teams:
      - name: Research
        key_rules: {most_budget: 100, budget: "0.5", period: week, rpm: 60, most_days: 90, models: [claude-*]}
"""


def test_rules_are_set_shown_replaced_and_removed_with_the_team(program):
    customer = Customer.objects.create(name="Acme")
    rules = {"most_budget": "50", "budget": "20.5", "rpm": 60, "allowed_models": ["echo-*"]}
    team = program.post("teams", {"customer_id": customer.pk, "name": "Research", "key_rules": rules})
    assert rules.items() <= team["key_rules"].items()
    assert (team["key_rules"]["period"], team["key_rules"]["most_days"]) == ("month", None)
    assert KeyRules.objects.get().budget == Decimal("20.5")
    path = f"teams/{team['id']}"
    etag = program.ask("GET", path)["etag"]
    assert program.get("teams")["data"] == [program.get(path)]
    kept = program.patch(path, {"max_tokens": 5}).json()
    assert kept["key_rules"] == team["key_rules"]
    replaced = program.patch(path, {"key_rules": {"most_days": 30}}).json()["key_rules"]
    assert {name: value for name, value in replaced.items() if value} == {"period": "month", "most_days": 30}
    error(program.patch(path, {"key_rules": None}, if_match=etag), 412, "stale")
    before = AuditEvent.objects.latest("id").pk
    program.patch(path, {"key_rules": {"most_days": 30}})
    assert AuditEvent.objects.latest("id").pk == before, "nothing was changed"
    assert program.patch(path, {"key_rules": None}).json()["key_rules"] is None
    assert not KeyRules.objects.exists()


@pytest.mark.parametrize(
    ("rules", "code", "field"),
    [
        ({"colour": 1}, "unknown_members", "key_rules.colour"),
        ({"team_id": 1}, "unknown_members", "key_rules.team_id"),
        ({"budget": 5}, "invalid", "key_rules.budget"),
        ({"budget": "50", "most_budget": "20"}, "invalid", "key_rules.budget"),
        ({"rpm": 9, "most_rpm": 5}, "invalid", "key_rules.rpm"),
        ({"rpm": 0}, "invalid", "key_rules.rpm"),
        ({"most_days": 4000}, "invalid", "key_rules.most_days"),
        ({"period": "none"}, "invalid", "key_rules.period"),
        ({"allowed_models": ["é"]}, "invalid", "key_rules.allowed_models"),
        ({"allowed_models": "echo-*"}, "invalid", "key_rules.allowed_models"),
    ],
)
def test_a_wrong_rule_is_a_400_that_names_it_and_changes_nothing(program, rules, code, field):
    team = Team.objects.create(customer=Customer.objects.create(name="Acme"), name="Research")
    answer = program.patch(f"teams/{team.pk}", {"name": "Other", "key_rules": rules})
    assert list(error(answer, 400, code)["fields"]) == [field]
    assert not KeyRules.objects.exists()
    team.refresh_from_db()
    assert team.name == "Research"


def test_a_person_whom_the_rules_bind_sees_them_and_can_not_change_them(program):
    key, _ = make_key("first")
    program.patch(f"teams/{key.team_id}", {"key_rules": {"most_rpm": 60}})
    user = User.objects.create_user("carol")
    giving.give(None, user, Role.TEAM_ADMIN, team=key.team)
    carol = Program(user)
    assert carol.get(f"teams/{key.team_id}")["key_rules"]["most_rpm"] == 60
    error(carol.patch(f"teams/{key.team_id}", {"key_rules": None}), 403, "forbidden")
    new = {"name": "ci", "customer_id": key.customer_id, "team_id": key.team_id}
    fast = {"limits": [{"kind": "rpm", "rate": 61}]}
    assert "at most 60" in error(carol.ask("POST", "virtual-keys", new | fast), 400, "invalid")["message"]
    assert carol.post("virtual-keys", new)["name"] == "ci"


@pytest.fixture
def apply(db, tmp_path):
    """Applies a text; returns the plan's lines."""

    def apply(text, **options):
        path, out = tmp_path / "keys.yaml", io.StringIO()
        path.write_text(text)
        call_command("apply", file=path, stdout=out, stderr=io.StringIO(), **options)
        return out.getvalue().splitlines()

    return apply


def test_a_file_sets_rules_changes_those_it_names_and_removes_them_with_null(apply):
    assert apply(FILE, dry_run=True)[-1] == "+ rules for the keys of Acme/Research"
    assert not KeyRules.objects.exists()
    apply(FILE)
    rules = KeyRules.objects.get()
    assert (rules.budget, rules.most_budget, rules.period) == (Decimal("0.5"), 100, "week")
    assert (rules.rpm, rules.most_days, rules.allowed_models) == (60, 90, ["claude-*"])
    assert apply(FILE) == []
    fewer = FILE.replace('most_budget: 100, budget: "0.5", period: week, rpm: 60, ', "budget: 70, rpm: null, ")
    assert apply(fewer) == ["~ rules for the keys of Acme/Research: budget 0.5 → 70; rpm 60 → none"]
    assert KeyRules.objects.get().most_budget == 100, "the file doesn't name it"
    without = FILE[: FILE.index("        key_rules")]
    assert apply(without) == []
    assert apply(without, prune=True) == []
    assert KeyRules.objects.exists(), "the file doesn't name them"
    gone = f"{without}        key_rules: null\n"
    assert apply(gone) == ["- rules for the keys of Acme/Research"]
    assert apply(gone) == []
    assert not KeyRules.objects.exists()


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("{colour: 1}", r"line 6, customers\[0\].teams\[0\].key_rules.colour: there is no “colour”"),
        ("{budget: 0.5}", r"line 6, .*key_rules.budget: put the amount in quotes"),
        ("{budget: lots}", r"line 6, .*key_rules.budget: “lots” isn't an amount"),
        ("{budget: 9, most_budget: 5}", r"line 6, .*key_rules: budget: This is above the ceiling"),
        ("{rpm: fast}", r"line 6, .*key_rules.rpm: expected a whole number"),
        ("{period: none}", r"line 6, .*key_rules: period: "),
        ("[]", r"line 6, .*key_rules: expected a mapping"),
    ],
)
def test_a_wrong_rule_in_a_file_is_named_with_its_line(apply, rules, said):
    text = FILE[: FILE.index("        key_rules")]
    with pytest.raises(CommandError, match=said):
        apply(f"{text}        key_rules: {rules}\n")
    assert not Team.objects.exists()
