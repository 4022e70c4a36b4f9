"""`import_litellm` and `import_bifrost` take over other gateways' configurations, and say what they leave out."""

from __future__ import annotations

import csv
import io
import json

import pytest
from django.core.management import CommandError, call_command

from keys import keyring
from keys.models import ModelAlias, ProviderKey, Team, VirtualKey
from tests.support.issued import opened_by
from usage.budgets import Budget
from usage.limits import Limit

SECRET = "sk-ant-a-secret-of-the-provider-7f3k"
LITELLM = """
environment_variables:
  GROQ_API_KEY: gsk_a-secret-of-groq-1234567890
model_list:
  - model_name: fast
    litellm_params:
      model: anthropic/claude-haiku-4-5
      api_key: os.environ/ANTHROPIC_KEY
      rpm: 100
  - model_name: claude-sonnet-4-5
    litellm_params: {model: claude-sonnet-4-5, api_key: os.environ/ANTHROPIC_KEY}
  - model_name: oss
    litellm_params: {model: groq/openai/gpt-oss-120b, api_key: os.environ/GROQ_API_KEY}
  - model_name: claude-in-frankfurt
    litellm_params:
      model: bedrock/converse/eu.anthropic.claude-sonnet-4-5-20250929-v1:0
      aws_region_name: eu-central-1
      aws_access_key_id: AKIAIOSFODNN7EXAMPLE
      aws_secret_access_key: wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
  - model_name: house
    litellm_params: {model: sagemaker/house}
  - model_name: later
    litellm_params: {model: anthropic/claude-opus-4-5, api_key: os.environ/NOT_SET}
router_settings: {routing_strategy: least-busy}
general_settings: {master_key: sk-1234-the-master}
"""
KEYS = {
    "keys": [
        {
            "token": "88dc28",
            "key_name": "sk-...aBcD",
            "key_alias": "ci",
            "user_id": "alice",
            "team_id": "t1",
            "models": ["fast"],
            "max_budget": 10.5,
            "budget_duration": "30d",
            "rpm_limit": 60,
            "tpm_limit": 40000,
            "max_parallel_requests": 4,
            "expires": "2999-01-31T18:00:00Z",
        },
        {"token": "99dc28", "key_alias": "old", "models": ["all-proxy-models"], "max_budget": 5, "blocked": True},
    ]
}
TEAMS = [{"team_id": "t1", "team_alias": "Research", "max_budget": 100, "budget_duration": "7d"}]

BIFROST = {
    "$schema": "https://www.getbifrost.ai/schema",
    "providers": {
        "anthropic": {
            "keys": [
                {"id": "k1", "name": "main", "value": "env.ANTHROPIC_KEY", "models": ["*"], "weight": 0.7},
                {"id": "k2", "name": "spare", "value": "sk-ant-another-secret-1234", "models": ["claude-haiku-4-5"]},
            ]
        },
        "openai": {"keys": [{"name": "gpt", "value": "env.NOT_SET", "models": ["gpt-5"], "weight": 1}]},
        "vllm": {
            "keys": [{"name": "house", "value": "any-secret-will-do", "models": ["llama"], "weight": 1}],
            "network_config": {"base_url": "https://vllm.example/v1"},
        },
        "elevenlabs": {"keys": [{"name": "voice", "value": "x", "models": ["*"]}]},
    },
    "governance": {
        "customers": [{"id": "c1", "name": "Acme", "budget_id": "b1"}],
        "teams": [{"id": "t1", "name": "Research", "customer_id": "c1", "rate_limit_id": "r1"}],
        "budgets": [
            {"id": "b1", "max_limit": 500, "reset_duration": "1M"},
            {"id": "b2", "max_limit": 2.5, "reset_duration": "1d", "virtual_key_id": "v1"},
        ],
        "rate_limits": [
            {
                "id": "r1",
                "token_max_limit": 100000,
                "token_reset_duration": "1h",
                "request_max_limit": 600,
                "request_reset_duration": "1m",
            }
        ],
        "virtual_keys": [
            {
                "id": "v1",
                "name": "ci",
                "value": "sk-bf-of-bifrost",
                "team_id": "t1",
                "calendar_aligned": True,
                "provider_configs": [
                    {"provider": "anthropic", "weight": 0.5, "allowed_models": ["claude-haiku-4-5"], "key_ids": ["*"]}
                ],
            },
            {"id": "v2", "name": "voice", "provider_configs": [{"provider": "elevenlabs", "allowed_models": ["*"]}]},
            {
                "id": "v3",
                "name": "off",
                "is_active": False,
                "provider_configs": [{"provider": "vllm", "allowed_models": ["*"]}],
            },
        ],
        "routing_rules": [{"id": "x"}],
    },
    "mcp": {},
}


@pytest.fixture
def take_over(db, tmp_path, monkeypatch):
    """Runs an import; returns what it printed, what it said, and the new secrets by address."""
    monkeypatch.setenv("ANTHROPIC_KEY", SECRET)

    def run(command, text, **options):
        path, secrets = tmp_path / "config", tmp_path / "secrets.csv"
        path.write_text(text)
        out, said = io.StringIO(), io.StringIO()
        call_command(command, path, secrets=secrets, stdout=out, stderr=said, **options)
        lines = secrets.read_text().splitlines()[1:] if secrets.exists() else []
        return out.getvalue(), said.getvalue(), dict(csv.reader(lines))

    return run


def test_litellms_models_become_provider_keys_and_aliases(take_over):
    out, said, secrets = take_over("import_litellm", LITELLM)
    keys = {key.name: key for key in ProviderKey.objects.all()}
    assert set(keys) == {"anthropic", "groq", "bedrock"}
    assert keys["anthropic"].model_patterns == ["claude-haiku-4-5", "claude-sonnet-4-5"]
    assert keyring.decrypt(keys["anthropic"].secret_ciphertext) == SECRET
    assert (keys["groq"].provider, keys["groq"].base_url) == ("openai", "https://api.groq.com/openai/v1")
    assert keys["bedrock"].region == "eu-central-1"
    assert json.loads(keyring.decrypt(keys["bedrock"].secret_ciphertext))["access_key_id"] == "AKIAIOSFODNN7EXAMPLE"
    assert dict(ModelAlias.objects.values_list("name", "target")) == {
        "fast": "anthropic/claude-haiku-4-5",
        "oss": "openai/openai/gpt-oss-120b",
        "claude-in-frankfurt": "bedrock/eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
    }
    for what in ("model house: Bursar doesn't call", "model later: its secret", "model fast: rpm"):
        assert what in said
    assert "virtual keys: LiteLLM keeps them in its database" in said
    assert "sk-1234-the-master" not in out + said
    assert SECRET not in out + said
    assert secrets == {}


def test_litellms_keys_get_new_secrets_and_keep_their_terms(take_over, tmp_path):
    keys, teams = tmp_path / "keys.json", tmp_path / "teams.json"
    keys.write_text(json.dumps(KEYS))
    teams.write_text(json.dumps(TEAMS))
    _, said, secrets = take_over("import_litellm", LITELLM, customer="Acme", keys=keys, teams=teams)
    ci, old = VirtualKey.objects.get(name="ci"), VirtualKey.objects.get(name="old")
    assert opened_by(secrets["Acme/Research/ci"]).virtual_key == ci
    assert opened_by(secrets["Acme/old"]).virtual_key == old
    assert (ci.owner, ci.allowed_models, ci.state) == ("alice", ["fast"], "active")
    assert (old.allowed_models, old.state) == ([], "paused")
    terms = {str(budget.terms()) for budget in Budget.objects.filter(virtual_key=ci)}
    assert terms == {"$10.50 a month", "40,000 tokens a minute"}
    assert {(limit.kind, limit.rate) for limit in Limit.objects.filter(virtual_key=ci)} == {
        ("rpm", 60),
        ("parallel", 4),
    }
    assert Budget.objects.get(team__name="Research").terms() == "$100 a week"
    assert "virtual key old: its budget never resets there; here it is prepaid" in said
    assert Budget.objects.get(virtual_key=old).terms() == "$5 prepaid"


def test_bifrosts_keys_get_new_secrets_and_keep_their_terms(take_over):
    out, said, secrets = take_over("import_bifrost", json.dumps(BIFROST))
    assert {key.name for key in ProviderKey.objects.all()} == {"main", "spare", "house"}
    assert Team.objects.get().customer.name == "Acme"
    ci = VirtualKey.objects.get(name="ci")
    assert opened_by(secrets["Acme/Research/ci"]).virtual_key == ci
    assert {route.provider_key.name: route.weight for route in ci.routes.all()} == {"main": 35, "spare": 50}
    assert ci.allowed_models == ["claude-haiku-4-5"]
    budget = Budget.objects.get(virtual_key=ci)
    assert (budget.terms(), budget.rolling) == ("$2.50 a day", False)
    assert Budget.objects.get(customer__name="Acme").rolling
    assert Budget.objects.get(team__name="Research").terms() == "100,000 tokens an hour"
    assert Limit.objects.get(team__name="Research").rate == 600
    assert VirtualKey.objects.get(name="off").state == "paused"
    for what in (
        "key voice of provider elevenlabs",
        "key gpt of provider openai: its secret is missing",
        "virtual key voice: none of its providers was taken over",
        "governance.routing_rules",
        "mcp: Bursar has no such setting",
    ):
        assert f"Not taken over: {what}" in said
    assert "sk-bf-of-bifrost" not in out + said
    assert not any(secret in out + said for secret in (SECRET, *secrets.values()))


def test_a_dry_run_of_an_import_changes_nothing(take_over):
    out, _, secrets = take_over("import_bifrost", json.dumps(BIFROST), dry_run=True)
    assert "+ virtual key Acme/Research/ci" in out
    assert secrets == {}
    assert not ProviderKey.objects.exists()


@pytest.mark.parametrize("command", ["import_litellm", "import_bifrost"])
@pytest.mark.parametrize("text", ["[]", "{}", '"x"', "{", "null"])
def test_a_file_of_another_kind_is_refused(take_over, command, text):
    with pytest.raises(CommandError):
        take_over(command, text)


@pytest.mark.parametrize("odd", [None, 7, "x", [], [7], {"a": 7}, [[]], [{}]])
@pytest.mark.parametrize("member", ["customers", "teams", "virtual_keys", "budgets", "rate_limits"])
def test_odd_members_of_bifrosts_file_are_no_fault_of_ours(take_over, member, odd):
    config = {"providers": {"anthropic": odd}, "governance": {member: odd}}
    try:
        take_over("import_bifrost", json.dumps(config))
    except CommandError:
        assert not VirtualKey.objects.exists()
