"""Reads Bifrost's `config.json`. Its format: https://www.getbifrost.ai/schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from administration.deployment import declared, foreign
from administration.deployment.foreign import Imported, object_of, objects_of, strings_of
from keys import commands
from keys.errors import Unusable

ENVIRONMENT = "env."
KNOWN = frozenset(("providers", "governance", "version", "$schema"))
GOVERNANCE = frozenset(("customers", "teams", "virtual_keys", "budgets", "rate_limits"))
ANY = "*"


def read(config: Any, environment: Mapping[str, str], customer: str) -> Imported:
    """Bifrost's configuration in our terms.

    Args:
        environment: where `env.NAME` is looked up.
        customer: who pays for keys and teams that have no customer there.

    Raises:
        Unusable: the file has neither providers nor virtual keys.
    """
    if not isinstance(config, dict) or not {"providers", "governance"} & set(config):
        raise Unusable("this is no config.json of Bifrost: it has neither providers nor governance")
    return _Work(config, environment, customer).run()


class _Work:
    def __init__(self, config: dict[str, Any], environment: Mapping[str, str], customer: str) -> None:
        self.config = config
        self.environment = environment
        self.customer = customer
        self.imported = Imported()
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
        customers = {
            each.get("id"): self.owner(self.imported.customer(str(each.get("name"))), each, "customer_id")
            for each in objects_of(self.governance.get("customers"))
        }
        teams = {}
        for each in objects_of(self.governance.get("teams")):
            name = str(each.get("name"))
            team = self.owner(declared.Team(foreign.place(f"team {name}"), name), each, "team_id")
            (customers.get(each.get("customer_id")) or self.imported.customer(self.customer)).teams.append(team)
            teams[each.get("id")] = team
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
        name = str(given.get("name"))
        what = f"virtual key {name}"
        routes: dict[str, int] = {}
        models: list[str] = []
        every_model = False
        for config in objects_of(given.get("provider_configs")):
            allowed = strings_of(config.get("allowed_models"))
            every_model |= ANY in allowed or (not allowed and self.empty_is_all)
            models += [model for model in allowed if model != ANY and model not in models]
            routes |= self.routes(config)
            for unknown in sorted({"budget_id", "rate_limit_id", "budgets"} & set(config)):
                self.imported.leave_out(f"{what}: {unknown} of its provider {config.get('provider')}")
        if not routes:
            self.imported.leave_out(f"{what}: none of its providers was taken over, so it isn't issued")
            return
        key = declared.Key(foreign.place(what), name, routes=routes)
        key.values = {
            "allowed_models": [] if every_model else models,
            "active": given.get("is_active", True) is not False,
        }
        if not every_model and not models:
            self.imported.leave_out(f"{what}: it may use no model, so it isn't issued")
            return
        if given.get("expires_at"):
            key.values["expires_at"] = commands.moment(str(given["expires_at"]))
        if object_of(given).get("mcp_configs"):
            self.imported.leave_out(f"{what}: mcp_configs")
        owner.keys.append(self.owner(key, given, "virtual_key_id"))

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

    def owner(self, owner: Any, given: dict[str, Any], reference: str) -> Any:
        """Give an owner its budgets and limits."""
        what, rolling = owner.part.path, not given.get("calendar_aligned", False)
        lines = objects_of(given.get("budgets"))
        lines += [each for each in self.budgets if each.get(reference) == given.get("id")]
        lines += [each for each in self.budgets if given.get("budget_id") and each.get("id") == given["budget_id"]]
        for line in lines:
            owner.budgets += foreign.budget(
                self.imported, what, line.get("max_limit"), line.get("reset_duration"), rolling=rolling
            )
        rate = object_of(self.rates.get(given.get("rate_limit_id")))
        owner.budgets += foreign.budget(
            self.imported,
            what,
            rate.get("token_max_limit"),
            rate.get("token_reset_duration"),
            tokens=True,
            rolling=rolling,
        )
        owner.limits += foreign.requests(
            self.imported, what, rate.get("request_max_limit"), rate.get("request_reset_duration")
        )
        return owner

    def value(self, given: object) -> str:
        """A text of the file, or of the environment variable that it names."""
        if isinstance(given, dict):
            given = given.get("env_var") or given.get("value")
            if isinstance(given, str) and not given.startswith(ENVIRONMENT):
                return self.environment.get(given, given)
        text = given if isinstance(given, str) else ""
        return self.environment.get(text.removeprefix(ENVIRONMENT), "") if text.startswith(ENVIRONMENT) else text
