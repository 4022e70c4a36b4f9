"""Reads LiteLLM's configuration: `config.yaml`, and its answers that list keys and teams.

The file's format: https://docs.litellm.ai/docs/proxy/config_settings. LiteLLM keeps virtual keys and teams in its
database; `GET /key/list?return_full_object=true` and `GET /team/list` answer with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from administration.deployment import declared, foreign
from administration.deployment.foreign import Imported, Source, object_of, objects_of
from keys import patterns
from keys.csv_lines import money
from keys.errors import Unusable

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
NO_MODELS = "no-default-models"
# Members of keys and teams that are read below, and those that mean nothing outside of LiteLLM. LiteLLM keeps some
# settings in `metadata`; those of a name that is read here are read from there, too.
READ = frozenset(
    (
        *("models", "max_budget", "budget_duration", "spend", "tpm_limit", "rpm_limit", "max_parallel_requests"),
        *("model_max_budget", "model_rpm_limit", "model_tpm_limit", "blocked", "metadata", "team_id"),
        *("key_alias", "key_name", "user_id", "expires", "team_alias"),
    )
)
BOOKKEEPING = frozenset(
    (
        *(
            "token",
            "token_id",
            "created_at",
            "updated_at",
            "created_by",
            "updated_by",
            "created_by_user",
            "last_active",
        ),
        *(
            "budget_reset_at",
            "model_spend",
            "last_refreshed_at",
            "rotation_count",
            "last_rotation_at",
            "key_rotation_at",
        ),
        *("model_id", "keys", "keys_count", "members_count", "object_permission_id", "organization_alias"),
    )
)
# Settings that LiteLLM may keep in `metadata`, besides those that begin with `model_`.
SETTINGS = frozenset(("guardrails", "policies", "enforced_params", "tags", "rpm_limit_type", "tpm_limit_type"))
# What restricts no call. All that isn't named anywhere here counts as a restriction.
HARMLESS = frozenset(
    (
        *("soft_budget", "soft_budget_cooldown", "aliases", "tags", "logging", "auto_rotate", "rotation_interval"),
        *("allowed_cache_controls", "members", "members_with_roles", "admins", "team_member_permissions"),
        *("litellm_model_table", "send_invite_email", "user_email", "prompts", "default_team_id"),
    )
)


def read(
    config: Any,
    environment: Mapping[str, str],
    customer: str,
    keys: Any = None,
    teams: Any = None,
    *,
    loosen: bool = False,
) -> Imported:
    """LiteLLM's configuration in our terms.

    Args:
        environment: where `os.environ/NAME` is looked up, after the file's own `environment_variables`.
        customer: who pays for all keys and teams.
        keys: the answer that lists keys, as JSON.
        teams: the answer that lists teams, as JSON.
        loosen: keys with restrictions that Bursar can't express are made without these.

    Raises:
        Unusable: the file has no list of models.
    """
    if not isinstance(config, dict) or not isinstance(config.get("model_list"), list):
        raise Unusable("this is no config.yaml of LiteLLM: it has no model_list")
    own = {name: str(value) for name, value in object_of(config.get("environment_variables")).items()}
    imported = Imported(loosen=loosen)
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
    by_id: dict[object, _Of] = {}
    for given in _oldest_first(teams, "teams"):
        alias = str(given.get("team_alias") or given.get("team_id"))
        name = imported.distinct("team", alias, payer.teams)
        source = Source(imported, f"team {name}")
        given = _flat(given, source)
        team = declared.Team(foreign.place(source.what), name, values={"paused": bool(given.get("blocked"))})
        _terms(source, team, given)
        if any(object_of(each).get("litellm_budget_table") for each in objects_of(given.pop("team_memberships", None))):
            source.lose("budgets of single members")
        source.rest(given, READ, BOOKKEEPING, HARMLESS)
        payer.teams.append(team)
        by_id[given.get("team_id")] = _Of(team, source.for_keys(), _models(source, given))
    if not by_id and teams is None:
        imported.leave_out(
            "teams: LiteLLM keeps them in its database; save GET /team/list, and name the file by --teams"
        )
    for given in _oldest_first(keys, "keys"):
        owner = by_id.get(given.get("team_id"))
        _key(imported, owner or _Of(payer), given, lost_team=bool(given.get("team_id")) and owner is None)


class _Of(NamedTuple):
    """Whose keys are read: the owner, the restrictions that they lose with it, and its models; None: all."""

    owner: declared.OfKeys
    lost: Sequence[str] = ()
    models: list[str] | None = None


def _oldest_first(answer: Any, member: str) -> list[dict[str, Any]]:
    """The rows of an answer, so that rows of one name get the same numbers when the import runs again."""
    rows = objects_of(answer.get(member) if isinstance(answer, dict) else answer)
    return sorted(rows, key=lambda row: str(row.get("created_at") or ""))


def _flat(given: dict[str, Any], source: Source) -> dict[str, Any]:
    """A row whose metadata has no settings any more: they are its members."""
    metadata = object_of(given.get("metadata"))
    settings = {name: value for name, value in metadata.items() if name.startswith("model_") or name in SETTINGS}
    if others := sorted(name for name in set(metadata) - set(settings) if foreign.says_something(metadata[name])):
        source.note(f"metadata ({', '.join(others)}); labels are the like here")
    return {**settings, **{name: value for name, value in given.items() if name not in settings or value}}


def _models(source: Source, given: dict[str, Any]) -> list[str] | None:
    """The models that a row allows; None: all."""
    models = given.get("models") or []
    if not isinstance(models, list) or not all(isinstance(each, str) for each in models):
        source.lose("a list of models that can't be read")
        return None
    named = [each for each in models if each not in ALL_MODELS and each != NO_MODELS]
    return None if not models or ALL_MODELS & set(models) else named


def _key(imported: Imported, of: _Of, given: dict[str, Any], *, lost_team: bool) -> None:
    alias = str(given.get("key_alias") or given.get("key_name") or f"key {len(of.owner.keys) + 1}")
    name = imported.distinct("virtual key", alias, of.owner.keys)
    source = Source(imported, f"virtual key {name}", of.lost)
    given = _flat(given, source)
    if lost_team:
        source.lose(f"its team {given['team_id']}, which is not in the list of teams")
    own = _models(source, given)
    models = of.models if own is None else own
    if own is not None and of.models is not None:
        models = [model for model in own if any(patterns.includes(wider, model) for wider in of.models)]
    key = declared.Key(foreign.place(source.what), name)
    key.values = {"allowed_models": models or [], "owner": str(given.get("user_id") or "")}
    if expires_at := source.expiry(given.get("expires")):
        key.values["expires_at"] = expires_at
    if given.get("blocked"):
        key.values["active"] = False
    _terms(source, key, given)
    # A key calls models here, and can do nothing else.
    if given.get("allowed_routes") == ["llm_api_routes"]:
        del given["allowed_routes"]
    source.rest(given, READ, BOOKKEEPING, HARMLESS)
    if models == []:
        source.note("not made: it may use no model there")
    elif source.may_be_made():
        of.owner.keys.append(key)


def _terms(source: Source, owner: declared.Owner, given: dict[str, Any]) -> None:
    spent, duration = given.get("spend"), given.get("budget_duration")
    owner.budgets = source.budget(given.get("max_budget"), duration, spent=spent)
    if (used := foreign.decimal(spent)) and not owner.budgets:
        source.note(f"${money(used)} that it has spent; reports begin with the first call here")
    owner.budgets += source.budget(given.get("tpm_limit"), "1m", tokens=True)
    owner.limits += source.requests(given.get("rpm_limit"), "1m")
    owner.limits += source.parallel(given.get("max_parallel_requests"))
    for model, terms in _by_model(source, given, "model_max_budget"):
        one = object_of(terms)
        amount = next((one[each] for each in ("max_budget", "budget_limit") if each in one), "no amount")
        period = one.get("budget_duration") or one.get("time_period")
        owner.budgets += source.budget(amount, period, models=[model])
    for model, most in _by_model(source, given, "model_tpm_limit"):
        owner.budgets += source.budget(most, "1m", tokens=True, models=[model])
    for model, most in _by_model(source, given, "model_rpm_limit"):
        owner.limits += source.requests(most, "1m", models=[model])
    owner.budgets = foreign.strictest(owner.budgets)


def _by_model(source: Source, given: dict[str, Any], member: str) -> list[tuple[str, Any]]:
    value = given.get(member)
    if foreign.says_something(value) and not isinstance(value, dict):
        source.lose(f"{member}, which can't be read")
    return list(object_of(value).items())
