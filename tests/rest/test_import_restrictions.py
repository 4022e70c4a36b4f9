"""An import makes no key that could do or spend more than it could there, and lists what it leaves out."""

from __future__ import annotations

import csv
import io
import json

import pytest
from django.core.management import call_command

from administration.deployment import bifrost, litellm, one_time_file
from keys.csv_lines import money
from keys.models import VirtualKey
from usage.budgets import Budget, Override

CONFIG = {
    "model_list": [
        {"model_name": "claude-haiku-4-5", "litellm_params": {"model": "claude-haiku-4-5", "api_key": "sk-a"}}
    ]
}
PROVIDERS = {
    "anthropic": {"keys": [{"name": "main", "value": "sk-ant-1", "models": ["*"]}]},
    "openai": {"keys": [{"name": "gpt", "value": "sk-2", "models": ["*"]}]},
}
HAIKU = {"provider": "anthropic", "allowed_models": ["claude-haiku-4-5"]}


def from_litellm(*keys, teams=None, loosen=False):
    return litellm.read(CONFIG, {}, "Acme", list(keys), teams or [], loosen=loosen)


def from_bifrost(loosen=False, **governance):
    config = {"providers": PROVIDERS, "governance": governance, "version": 2}
    return bifrost.read(config, {}, "Acme", loosen=loosen)


def keys_of(imported):
    customers = imported.deployment.customers
    return [key for owner in (*customers, *(team for each in customers for team in each.teams)) for key in owner.keys]


@pytest.mark.parametrize(
    "restriction",
    [
        {"max_budget": -1},
        {"max_budget": "much"},
        {"rpm_limit": 0},
        {"max_parallel_requests": -3},
        {"guardrails": ["no-names"]},
        {"metadata": {"guardrails": ["no-names"]}},
        {"permissions": {"allow_pii_controls": True}},
        {"allowed_routes": ["/chat/completions"]},
        {"litellm_budget_table": {"max_budget": 3}},
        {"organization_id": "o1"},
        {"team_id": "nowhere"},
        {"expires": "some day"},
        {"a_member_of_a_later_version": 1},
    ],
)
def test_a_key_of_litellm_whose_restriction_is_lost_is_not_made_unless_loosened(restriction):
    given = {"key_alias": "ci", **restriction}
    strict, loose = from_litellm(given), from_litellm(given, loosen=True)
    assert keys_of(strict) == []
    assert any(said.startswith("virtual key ci: not made, because") for said in strict.left_out)
    assert [key.name for key in keys_of(loose)] == ["ci"]
    assert any(said.startswith("virtual key ci: made without") for said in loose.left_out)


def test_a_key_of_litellm_is_made_if_nothing_restricts_it():
    imported = from_litellm(
        {
            "key_alias": "ci",
            "token": "88dc28",
            "guardrails": [],
            "permissions": {},
            "litellm_budget_table": {"max_budget": None},
            "allowed_routes": ["llm_api_routes"],
            "soft_budget": 5,
            "metadata": {"cost center": "7"},
        }
    )
    assert [key.name for key in keys_of(imported)] == ["ci"]
    assert "virtual key ci: soft_budget; Bursar has no such setting" in imported.left_out
    assert "virtual key ci: metadata (cost center); labels are the like here" in imported.left_out


def test_a_team_passes_its_models_its_pause_and_its_lost_restrictions_on():
    team = {"team_id": "t", "team_alias": "Ops", "models": ["claude-haiku-*"], "blocked": True}
    keys = [
        {"key_alias": "all", "team_id": "t", "models": ["all-team-models"]},
        {"key_alias": "some", "team_id": "t", "models": ["claude-haiku-4-5", "claude-opus-4-5"]},
        {"key_alias": "none", "team_id": "t", "models": ["no-default-models"]},
    ]
    imported = from_litellm(*keys, teams=[team])
    assert imported.deployment.customers[0].teams[0].values == {"paused": True}
    assert {key.name: key.values["allowed_models"] for key in keys_of(imported)} == {
        "all": ["claude-haiku-*"],
        "some": ["claude-haiku-4-5"],
    }
    assert "virtual key none: not made: it may use no model there" in imported.left_out
    guarded = from_litellm(*keys, teams=[{**team, "guardrails": ["no-names"]}])
    assert keys_of(guarded) == []
    assert any(
        "virtual key all: not made" in said and "its team Ops has guardrails" in said for said in guarded.left_out
    )


def test_budgets_and_limits_by_model_are_taken_over():
    (key,) = keys_of(
        from_litellm(
            {
                "key_alias": "ci",
                "model_max_budget": {"claude-haiku-4-5": {"budget_limit": 2, "time_period": "1d"}},
                "metadata": {"model_rpm_limit": {"claude-haiku-4-5": 7}},
                "model_tpm_limit": {"claude-haiku-4-5": 900},
            }
        )
    )
    assert [(money(each.terms.amount), each.terms.unit, each.terms.period, each.models) for each in key.budgets] == [
        ("2", "usd", "day", ["claude-haiku-4-5"]),
        ("900", "tokens", "minute", ["claude-haiku-4-5"]),
    ]
    assert [(each.rate, each.models) for each in key.limits] == [(7, ["claude-haiku-4-5"])]


@pytest.mark.parametrize(
    "key",
    [
        {"provider_configs": [{**HAIKU, "budget_id": "b1"}]},
        {"provider_configs": [{**HAIKU, "blacklisted_models": ["claude-*"]}]},
        {"provider_configs": [HAIKU, {"provider": "openai", "allowed_models": ["*"]}]},
        {"provider_configs": [HAIKU], "budget_id": "missing"},
        {"provider_configs": [HAIKU], "rate_limit_id": "missing"},
        {"provider_configs": [HAIKU], "rate_limit_id": "slow"},
        {"provider_configs": [HAIKU], "team_id": "missing"},
        {"provider_configs": [HAIKU], "team_id": "guarded"},
        {"provider_configs": [HAIKU], "budgets": [{"max_limit": -1, "reset_duration": "1d"}]},
    ],
)
def test_a_key_of_bifrost_whose_restriction_is_lost_is_not_made_unless_loosened(key):
    governance = {
        "rate_limits": [{"id": "slow", "request_max_limit": 3, "request_reset_duration": "1d"}],
        "teams": [{"id": "guarded", "name": "Ops", "guardrails": ["no-names"]}],
        "virtual_keys": [{"id": "v", "name": "ci", **key}],
    }
    strict, loose = from_bifrost(**governance), from_bifrost(loosen=True, **governance)
    assert keys_of(strict) == []
    assert any(said.startswith("virtual key ci: not made, because") for said in strict.left_out)
    assert [each.name for each in keys_of(loose)] == ["ci"]


def test_rows_of_one_name_get_distinct_names():
    key = {"name": "ci", "provider_configs": [HAIKU]}
    imported = from_bifrost(
        customers=[{"id": "a", "name": "Acme"}, {"id": "b", "name": "Acme"}],
        teams=[{"id": "c", "name": "Ops", "customer_id": "a"}, {"id": "d", "name": "Ops", "customer_id": "a"}],
        virtual_keys=[{**key, "team_id": "c"}, {**key, "team_id": "c"}, {**key, "team_id": "d"}],
    )
    assert [each.name for each in imported.deployment.customers] == ["Acme", "Acme 2"]
    assert [(each.name, [key.name for key in each.keys]) for each in imported.deployment.customers[0].teams] == [
        ("Ops", ["ci", "ci 2"]),
        ("Ops 2", ["ci"]),
    ]
    assert "virtual key ci: another virtual key has this name there; this one is “ci 2” here" in imported.left_out


def test_of_budgets_that_would_be_one_here_the_strictest_is_taken():
    (key,) = keys_of(
        from_bifrost(
            virtual_keys=[
                {
                    "name": "ci",
                    "provider_configs": [HAIKU],
                    "budgets": [
                        {"max_limit": 10, "reset_duration": "2d", "current_usage": 9},
                        {"max_limit": 5, "reset_duration": "1w"},
                    ],
                }
            ]
        )
    )
    assert [(money(each.terms.amount), money(each.first)) for each in key.budgets] == [("10", "1")]


def test_one_bad_key_stops_no_other_and_spend_is_taken_off_the_first_window(db, tmp_path):
    config, keys, new = tmp_path / "config.yaml", tmp_path / "keys.json", tmp_path / "new.csv"
    config.write_text(json.dumps(CONFIG))
    rows = [
        {"key_alias": "stale", "expires": "2020-01-01T00:00:00Z"},
        {"key_alias": "lost", "models": ["a-model-that-left"]},
        {"key_alias": "ci", "max_budget": 10, "budget_duration": "1d", "spend": 9.99},
        {"key_alias": "ci", "max_budget": 5, "spend": 2},
    ]
    keys.write_text(json.dumps(rows))
    out, said = io.StringIO(), io.StringIO()
    call_command("import_litellm", config, keys=keys, teams=None, secrets=new, stdout=out, stderr=said)
    assert "Not taken over: virtual key stale: the expiry 2020-01-01" in said.getvalue()
    assert "Not taken over: virtual key lost: none of its provider keys serves" in said.getvalue()
    assert set(VirtualKey.objects.values_list("name", flat=True)) == {"ci", "ci 2"}
    assert [name for name, _ in csv.reader(new.read_text().splitlines()[1:])] == ["Imported/ci", "Imported/ci 2"]
    assert str(Override.objects.get().amount.normalize()) == "0.01"
    assert Budget.objects.get(virtual_key__name="ci").terms() == "$10 a day"
    assert Budget.objects.get(virtual_key__name="ci 2").terms() == "$3 prepaid"
    assert "0.01 at first, since 9.99 is spent" in out.getvalue()


def test_no_spreadsheet_runs_a_name_in_the_file_of_new_secrets(tmp_path):
    path = tmp_path / "new.csv"
    with one_time_file.kept(path, {"=cmd|calc!A1/evil": "sk-bf-x"}):
        pass
    assert path.read_text().splitlines() == ["virtual key,secret", "'=cmd|calc!A1/evil,sk-bf-x"]
