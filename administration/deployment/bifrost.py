"""Reads Bifrost's `config.json`. Its format: https://www.getbifrost.ai/schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from administration.deployment import declared, foreign
from administration.deployment.foreign import Imported, Source, object_of, objects_of, strings_of
from keys.errors import Unusable

ENVIRONMENT = "env."
KNOWN = frozenset(("providers", "governance", "version", "$schema"))
GOVERNANCE = frozenset(("customers", "teams", "virtual_keys", "budgets", "rate_limits"))
ANY = "*"
# Members of customers, teams and virtual keys: those that are read below, those that mean nothing outside of Bifrost,
# and those that restrict no call. All others count as restrictions.
READ = frozenset(
    (
        *("id", "name", "budgets", "budget_id", "rate_limit_id", "rate_limit", "calendar_aligned", "customer_id"),
        *("team_id", "provider_configs", "is_active", "expires_at"),
    )
)
BOOKKEEPING = frozenset(("value", "created_at", "updated_at", "config_hash", "encryption_status", "value_hash"))
HARMLESS = frozenset(("description", "mcp_configs", "profile", "config", "claims"))
CONFIG = frozenset(("provider", "weight", "allowed_models", "key_ids", "keys"))
CONFIG_BOOKKEEPING = frozenset(("id", "virtual_key_id"))


def read(config: Any, environment: Mapping[str, str], customer: str, *, loosen: bool = False) -> Imported:
    """Bifrost's configuration in our terms.

    Args:
        environment: where `env.NAME` is looked up.
        customer: who pays for keys and teams that have no customer there.
        loosen: keys with restrictions that Bursar can't express are made without these.

    Raises:
        Unusable: the file has neither providers nor virtual keys.
    """
    if not isinstance(config, dict) or not {"providers", "governance"} & set(config):
        raise Unusable("this is no config.json of Bifrost: it has neither providers nor governance")
    return _Work(config, environment, customer, Imported(loosen=loosen)).run()


class _Work:
    def __init__(
        self, config: dict[str, Any], environment: Mapping[str, str], customer: str, imported: Imported
    ) -> None:
        self.config = config
        self.environment = environment
        self.customer = customer
        self.imported = imported
        # Restrictions that keys lose with their customer or team, by that one's place.
        self.lost: dict[str, list[str]] = {}
        # Since version 2, an empty list allows nothing.
        self.empty_is_all = config.get("version") == 1
        # Our provider keys by Bifrost's provider, each with the names and ids that Bifrost has for it.
        self.accounts: dict[str, list[tuple[set[str], str, int]]] = {}
        governance = object_of(config.get("governance"))
        self.governance = governance
        self.budgets = objects_of(governance.get("budgets"))
        self.rates = {each.get("id"): each for each in objects_of(governance.get("rate_limits"))}

    def run(self) -> Imported:
        for name in sorted(set(self.config) - KNOWN):
            self.imported.leave_out(f"{name}: Bursar has no such setting")
        for name in sorted(set(self.governance) - GOVERNANCE):
            self.imported.leave_out(f"governance.{name}")
        for provider, given in object_of(self.config.get("providers")).items():
            self.provider(provider, object_of(given))
        customers = {}
        for each in objects_of(self.governance.get("customers")):
            name = self.imported.distinct("customer", str(each.get("name")), self.imported.deployment.customers)
            customers[each.get("id")] = self.owner(self.imported.customer(name), each, "customer_id")
        teams = {}
        for each in objects_of(self.governance.get("teams")):
            above = customers.get(each.get("customer_id")) or self.imported.customer(self.customer)
            name = self.imported.distinct("team", str(each.get("name")), above.teams)
            team = declared.Team(foreign.place(f"team {name}"), name)
            teams[each.get("id")] = self.owner(team, each, "team_id", self.lost.get(above.part.path, []))
            above.teams.append(team)
        for each in objects_of(self.governance.get("virtual_keys")):
            owner = teams.get(each.get("team_id")) or customers.get(each.get("customer_id"))
            self.key(owner or self.imported.customer(self.customer), each)
        return self.imported

    def provider(self, provider: str, given: dict[str, Any]) -> None:
        network = object_of(given.get("network_config"))
        for key in objects_of(given.get("keys")):
            name = str(key.get("name") or provider)
            what = f"key {name} of provider {provider}"
            endpoint = self.value(object_of(key.get("azure_key_config")).get("endpoint"))
            where = foreign.kind_and_address(provider, endpoint or self.value(network.get("base_url")))
            if where is None:
                self.imported.leave_out(f"{what}: Bursar doesn't call this provider")
                continue
            values: dict[str, Any] = {"provider": where[0], "base_url": where[1]}
            secret = self.secret(where[0], key, values)
            models = [model for model in strings_of(key.get("models")) if model != ANY]
            if not secret:
                self.imported.leave_out(f"{what}: its secret is missing, or its environment variable isn't set")
            elif not strings_of(key.get("models")) and not self.empty_is_all:
                self.imported.leave_out(f"{what}: it serves no model")
            else:
                ours = self.imported.provider_key(name, values, secret, models)
                weight = max(1, round(float(foreign.decimal(key.get("weight")) or 1) * 100))
                self.accounts.setdefault(provider, []).append(({str(key.get("id")), name}, ours, weight))
            for alias, target in object_of(key.get("aliases")).items():
                self.imported.deployment.aliases.setdefault(alias, f"{where[0]}/{target}")

    def secret(self, kind: str, key: dict[str, Any], values: dict[str, Any]) -> str:
        if kind == "bedrock":
            given = object_of(key.get("bedrock_key_config"))
            values["region"] = self.value(given.get("region"))
            names = {"access_key": "access_key_id", "secret_key": "secret_access_key", "session_token": "session_token"}
            identity = {ours: self.value(given.get(theirs)) for theirs, ours in names.items()}
            identity = {name: value for name, value in identity.items() if value}
            return json.dumps(identity) if len(identity) > 1 else self.value(key.get("value"))
        if kind == "vertex":
            given = object_of(key.get("vertex_key_config"))
            values["region"], values["project"] = self.value(given.get("region")), self.value(given.get("project_id"))
            return self.value(given.get("auth_credentials"))
        return self.value(key.get("value"))

    def key(self, owner: declared.OfKeys, given: dict[str, Any]) -> None:
        name = self.imported.distinct("virtual key", str(given.get("name")), owner.keys)
        what = f"virtual key {name}"
        source = Source(self.imported, what, self.lost.get(owner.part.path, []))
        routes: dict[str, int] = {}
        lists: list[list[str]] = []
        for config in objects_of(given.get("provider_configs")):
            allowed = strings_of(config.get("allowed_models"))
            of_provider = self.routes(config)
            if of_provider and (allowed or self.empty_is_all):
                routes |= of_provider
                lists.append([] if ANY in allowed else allowed)
            for unknown in sorted(set(config) - CONFIG - CONFIG_BOOKKEEPING):
                if foreign.says_something(config[unknown]):
                    source.lose(f"{unknown} of its provider {config.get('provider')}, which Bursar can't express")
        if not routes:
            self.imported.leave_out(
                f"{what}: none of its providers was taken over, or none allows a model, so it isn't issued"
            )
            return
        if [] in lists and any(lists):
            source.lose("providers that allow some models only, beside one that allows all")
        models = [] if [] in lists else list(dict.fromkeys(model for each in lists for model in each))
        key = declared.Key(foreign.place(what), name, routes=routes)
        key.values = {"allowed_models": models, "active": given.get("is_active", True) is not False}
        if expires_at := source.expiry(given.get("expires_at")):
            key.values["expires_at"] = expires_at
        self.terms(source, key, given, "virtual_key_id")
        if source.may_be_made():
            owner.keys.append(key)

    def routes(self, config: dict[str, Any]) -> dict[str, int]:
        """Our provider keys of one of a key's providers, with their weights."""
        wanted = set(strings_of(config.get("key_ids")))
        wanted |= {str(each.get("name")) for each in objects_of(config.get("keys"))}
        accounts = self.accounts.get(str(config.get("provider")), [])
        share = foreign.decimal(config.get("weight"))
        return {
            ours: max(1, round(weight * float(1 if share is None else share)))
            for names, ours, weight in accounts
            if not wanted or ANY in wanted or wanted & names
        }

    def owner(self, owner: Any, given: dict[str, Any], reference: str, lost: Iterable[str] = ()) -> Any:
        """Give a customer or team its budgets and limits."""
        source = Source(self.imported, owner.part.path)
        self.terms(source, owner, given, reference)
        self.lost[owner.part.path] = [*lost, *source.for_keys()]
        return owner

    def terms(self, source: Source, owner: declared.Owner, given: dict[str, Any], reference: str) -> None:
        """Give a customer, team or key its budgets and limits, and find what can't be expressed."""
        rolling = not given.get("calendar_aligned", False)
        lines = objects_of(given.get("budgets"))
        lines += [each for each in self.budgets if each.get(reference) == given.get("id")]
        if given.get("budget_id"):
            shared = [each for each in self.budgets if each.get("id") == given["budget_id"]]
            lines += [each for each in shared if each not in lines]
            if not shared:
                source.lose(f"the budget {given['budget_id']}, which the file doesn't have")
        for line in lines:
            owner.budgets += source.budget(
                line.get("max_limit"), line.get("reset_duration"), spent=line.get("current_usage"), rolling=rolling
            )
        rate = object_of(given.get("rate_limit") or self.rates.get(given.get("rate_limit_id")))
        if given.get("rate_limit_id") and not rate:
            source.lose(f"the rate limit {given['rate_limit_id']}, which the file doesn't have")
        owner.budgets += source.budget(
            rate.get("token_max_limit"),
            rate.get("token_reset_duration"),
            spent=rate.get("token_current_usage"),
            tokens=True,
            rolling=rolling,
        )
        owner.budgets = foreign.strictest(owner.budgets)
        owner.limits += source.requests(rate.get("request_max_limit"), rate.get("request_reset_duration"))
        for kind in ("customer", "team"):
            known = {each.get("id") for each in objects_of(self.governance.get(f"{kind}s"))}
            if given.get(f"{kind}_id") and given[f"{kind}_id"] not in known:
                source.lose(f"the {kind} {given[f'{kind}_id']}, which the file doesn't have")
        source.rest(given, READ, BOOKKEEPING, HARMLESS)

    def value(self, given: object) -> str:
        """A text of the file, or of the environment variable that it names."""
        if isinstance(given, dict):
            given = given.get("env_var") or given.get("value")
            if isinstance(given, str) and not given.startswith(ENVIRONMENT):
                return self.environment.get(given, given)
        text = given if isinstance(given, str) else ""
        return self.environment.get(text.removeprefix(ENVIRONMENT), "") if text.startswith(ENVIRONMENT) else text
