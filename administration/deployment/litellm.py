"""Reads LiteLLM's configuration: `config.yaml`, and its answers that list keys and teams.

The file's format: https://docs.litellm.ai/docs/proxy/config_settings. LiteLLM keeps virtual keys and teams in its
database; `GET /key/list?return_full_object=true` and `GET /team/list` answer with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from administration.deployment import declared, foreign
from administration.deployment.foreign import Imported, object_of, objects_of, strings_of
from keys import commands
from keys.errors import Unusable
from usage.budgets import LimitKind

ENVIRONMENT = "os.environ/"
# Members of litellm_params that are taken over, or that need no counterpart here.
TAKEN = frozenset(
    (
        *("model", "api_key", "api_base", "base_url", "vertex_project", "vertex_location", "vertex_credentials"),
        *("aws_region_name", "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "drop_params"),
    )
)
KNOWN = frozenset(("model_list", "litellm_settings", "router_settings", "general_settings", "environment_variables"))
ALL_MODELS = frozenset(("all-proxy-models", "all-team-models", "*"))


def read(config: Any, environment: Mapping[str, str], customer: str, keys: Any = None, teams: Any = None) -> Imported:
    """LiteLLM's configuration in our terms.

    Args:
        environment: where `os.environ/NAME` is looked up, after the file's own `environment_variables`.
        customer: who pays for all keys and teams.
        keys: the answer that lists keys, as JSON.
        teams: the answer that lists teams, as JSON.

    Raises:
        Unusable: the file has no list of models.
    """
    if not isinstance(config, dict) or not isinstance(config.get("model_list"), list):
        raise Unusable("this is no config.yaml of LiteLLM: it has no model_list")
    own = {name: str(value) for name, value in object_of(config.get("environment_variables")).items()}
    imported = Imported()
    _Models(imported, {**environment, **own}).read(objects_of(config["model_list"]))
    _settings(imported, config)
    _owners(imported, customer, keys, teams)
    return imported


class _Models:
    """Turns the list of models into provider keys and aliases."""

    def __init__(self, imported: Imported, environment: Mapping[str, str]) -> None:
        self.imported = imported
        self.environment = environment

    def read(self, models: list[dict[str, Any]]) -> None:
        for number, entry in enumerate(models):
            name, given = str(entry.get("model_name", "")), object_of(entry.get("litellm_params"))
            self.model(name or f"model_list[{number}]", given)

    def model(self, name: str, given: dict[str, Any]) -> None:
        provider, slash, model = str(given.get("model", "")).partition("/")
        if not slash:
            provider, model = ("anthropic" if provider.startswith("claude") else "openai"), provider
        model = model.removeprefix("converse/").removeprefix("invoke/").removeprefix("claude/")
        where = foreign.kind_and_address(provider, self.value(given.get("api_base") or given.get("base_url")))
        if where is None:
            self.imported.leave_out(f"model {name}: Bursar doesn't call the provider {provider}")
            return
        values: dict[str, Any] = {"provider": where[0], "base_url": where[1]}
        secret = self.secret(where[0], given, values)
        if not secret:
            self.imported.leave_out(f"model {name}: its secret is missing, or its environment variable isn't set")
            return
        self.imported.provider_key(provider, values, secret, [model])
        if more := sorted(set(given) - TAKEN):
            self.imported.leave_out(f"model {name}: {', '.join(more)} of litellm_params")
        self.alias(name, where[0], model)

    def alias(self, name: str, kind: str, model: str) -> None:
        if "*" in name or name == model:
            return
        target = f"{kind}/{model}"
        before = self.imported.deployment.aliases.setdefault(name, target)
        if before != target:
            self.imported.leave_out(f"model {name}: it stands for several models; here it is an alias of {before} only")

    def secret(self, kind: str, given: dict[str, Any], values: dict[str, Any]) -> str:
        if kind == "bedrock":
            values["region"] = self.value(given.get("aws_region_name"))
            names = ("access_key_id", "secret_access_key", "session_token")
            identity = {each: self.value(given.get(f"aws_{each}")) for each in names}
            identity = {each: value for each, value in identity.items() if value}
            return json.dumps(identity) if len(identity) > 1 else self.value(given.get("api_key"))
        if kind == "vertex":
            values["region"] = self.value(given.get("vertex_location"))
            values["project"] = self.value(given.get("vertex_project"))
            credentials = given.get("vertex_credentials")
            return json.dumps(credentials) if isinstance(credentials, dict) else self.value(credentials)
        return self.value(given.get("api_key"))

    def value(self, given: object) -> str:
        """A text of the file, or of the environment variable that it names."""
        text = given if isinstance(given, str) else ""
        return self.environment.get(text.removeprefix(ENVIRONMENT), "") if text.startswith(ENVIRONMENT) else text


def _settings(imported: Imported, config: dict[str, Any]) -> None:
    for name in sorted(set(config) - KNOWN):
        imported.leave_out(f"{name}: Bursar has no such setting")
    for section in ("litellm_settings", "router_settings", "general_settings"):
        given = sorted(object_of(config.get(section)))
        if given:
            imported.leave_out(f"{section}: {', '.join(given)}; docs/routing.md and .env.example have what Bursar has")


def _owners(imported: Imported, customer: str, keys: Any, teams: Any) -> None:
    if keys is None:
        imported.leave_out(
            "virtual keys: LiteLLM keeps them in its database; save GET /key/list?return_full_object=true and "
            "GET /team/list, and name the files by --keys and --teams"
        )
        return
    payer = imported.customer(customer)
    by_id = {}
    for given in objects_of(teams.get("teams") if isinstance(teams, dict) else teams):
        name = str(given.get("team_alias") or given.get("team_id"))
        team = declared.Team(foreign.place(f"team {name}"), name)
        _terms(imported, team, given, f"team {name}")
        payer.teams.append(team)
        by_id[given.get("team_id")] = team
    for given in objects_of(keys.get("keys") if isinstance(keys, dict) else keys):
        _key(imported, by_id.get(given.get("team_id"), payer), given)


def _key(imported: Imported, owner: declared.OfKeys, given: dict[str, Any]) -> None:
    name = str(given.get("key_alias") or given.get("key_name") or f"key {len(owner.keys) + 1}")
    if given.get("team_id") and isinstance(owner, declared.Customer):
        imported.leave_out(f"virtual key {name}: its team {given['team_id']} is not in the list of teams")
    models = [model for model in strings_of(given.get("models")) if model not in ALL_MODELS]
    key = declared.Key(foreign.place(f"virtual key {name}"), name)
    key.values = {"allowed_models": models, "owner": str(given.get("user_id") or "")}
    if given.get("expires"):
        key.values["expires_at"] = commands.moment(str(given["expires"]))
    if given.get("blocked"):
        key.values["active"] = False
    _terms(imported, key, given, f"virtual key {name}")
    owner.keys.append(key)


def _terms(imported: Imported, owner: declared.Owner, given: dict[str, Any], what: str) -> None:
    owner.budgets += foreign.budget(imported, what, given.get("max_budget"), given.get("budget_duration"))
    owner.budgets += foreign.budget(imported, what, given.get("tpm_limit"), "1m", tokens=True)
    owner.limits += foreign.requests(imported, what, given.get("rpm_limit"), "1m")
    owner.limits += foreign.limit(what, LimitKind.PARALLEL, given.get("max_parallel_requests"))
