"""What the imports of other gateways' configurations share: providers, periods, limits, and what isn't taken over."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from administration.deployment import declared
from administration.deployment.reading import Part
from keys import provider_kinds
from usage.budget_terms import Terms
from usage.budgets import LimitKind, Period, Unit

# Other gateways' names of providers that speak OpenAI's API, with the base URL that each vendor documents.
COMPATIBLE = {
    "openai": "",
    "groq": "https://api.groq.com/openai/v1",
    "deepseek": "https://api.deepseek.com/v1",
    "mistral": "https://api.mistral.ai/v1",
    "xai": "https://api.x.ai/v1",
    "openrouter": "https://openrouter.ai/api/v1",
    "together_ai": "https://api.together.xyz/v1",
    "fireworks_ai": "https://api.fireworks.ai/inference/v1",
    "fireworks": "https://api.fireworks.ai/inference/v1",
    "cerebras": "https://api.cerebras.ai/v1",
    "perplexity": "https://api.perplexity.ai",
}
CLAUDES = {
    "anthropic": "anthropic",
    "bedrock": "bedrock",
    "vertex_ai": "vertex",
    "vertex": "vertex",
    "azure_ai": "azure",
}
# Seconds of the periods, the shortest first, and of the units of durations.
PERIODS = {
    Period.MINUTE: 60,
    Period.HOUR: 3600,
    Period.DAY: 86_400,
    Period.WEEK: 7 * 86_400,
    Period.MONTH: 31 * 86_400,
    Period.QUARTER: 92 * 86_400,
    Period.YEAR: 366 * 86_400,
}
UNITS = {
    "s": 1,
    "m": 60,
    "h": 3600,
    "d": 86_400,
    "w": 7 * 86_400,
    "mo": 30 * 86_400,
    "M": 30 * 86_400,
    "Y": 365 * 86_400,
}
NOWHERE = Part(None, 0, "")


@dataclass(slots=True)
class Imported:
    """A configuration in our terms.

    Attributes:
        left_out: what could not be taken over, in sentences.
    """

    deployment: declared.Deployment = field(default_factory=declared.Deployment)
    left_out: list[str] = field(default_factory=list)

    def leave_out(self, what: str) -> None:
        """Say once that something isn't taken over."""
        if what not in self.left_out:
            self.left_out.append(what)

    def customer(self, name: str) -> declared.Customer:
        """The customer of this name, which is added if it is new."""
        customers = self.deployment.customers
        found = next((each for each in customers if each.name == name), None)
        if found is None:
            found = declared.Customer(place(f"customer {name}"), name)
            customers.append(found)
        return found

    def provider_key(self, name: str, values: dict[str, Any], secret: str, models: Iterable[str]) -> str:
        """Add a provider key, or models to the one with the same account. Returns its name."""
        for each in self.deployment.provider_keys:
            known = {field_: value for field_, value in each.values.items() if field_ != "model_patterns"}
            if known == values and each.secret == secret:
                patterns = each.values["model_patterns"]
                patterns += [model for model in models if model not in patterns]
                return each.name
        taken = {each.name for each in self.deployment.provider_keys}
        name = next(each for each in (name, *(f"{name} {n}" for n in range(2, 10_000))) if each not in taken)
        row = declared.ProviderKey(
            place(f"provider key {name}"), name, {**values, "model_patterns": list(models)}, secret
        )
        self.deployment.provider_keys.append(row)
        return name


def place(what: str) -> Part:
    """Where something stands in an imported file, for errors."""
    return Part(None, 0, what)


def kind_and_address(provider: str, base_url: str) -> tuple[str, str] | None:
    """Our kind of provider and base URL for another gateway's provider; None: Bursar has no such kind."""
    if provider in CLAUDES and CLAUDES[provider] in provider_kinds.names():
        return CLAUDES[provider], base_url
    if provider in COMPATIBLE:
        return "openai", base_url or COMPATIBLE[provider]
    return ("openai", base_url) if base_url else None


def budget(
    imported: Imported, what: str, amount: object, duration: object, *, tokens: bool = False, rolling: bool = False
) -> list[declared.Budget]:
    """A budget of an amount in a duration. A period that we lack becomes the next longer one, which is stricter."""
    money = decimal(amount)
    if money is None or money < 0:
        return []
    seconds = seconds_of(duration)
    if seconds is None:
        period = Period.YEAR
        imported.leave_out(f"{what}: its budget never resets there; here it is for a year")
    else:
        period = next((each for each, length in PERIODS.items() if seconds <= length), Period.YEAR)
        if not PERIODS[period] * 0.89 <= seconds:
            imported.leave_out(f"{what}: its budget is for {duration} there; here it is for a {period}")
    unit = Unit.TOKENS if tokens else Unit.USD
    if tokens:
        money = money.to_integral_value()
    return [declared.Budget(place(what), Terms(money, unit, period), rolling=rolling)]


def requests(imported: Imported, what: str, most: object, duration: object) -> list[declared.Limit]:
    """A limit of requests in a duration, as requests a minute."""
    number, seconds = whole(most), seconds_of(duration) or 60
    if not number:
        return []
    rate = max(1, number * 60 // seconds)
    if seconds != 60:
        imported.leave_out(f"{what}: {number} requests in {duration} there; here {rate} a minute")
    return [declared.Limit(place(what), LimitKind.REQUESTS, rate)]


def limit(what: str, kind: LimitKind, most: object) -> list[declared.Limit]:
    """A limit of this kind, if one is given."""
    number = whole(most)
    return [declared.Limit(place(what), kind, number)] if number else []


def seconds_of(duration: object) -> int | None:
    """The seconds of a duration such as `30d`, `1mo` or `1M`; None: it isn't one."""
    match = re.fullmatch(r"([0-9]{1,6})(mo|[smhdwMY])", str(duration or ""))
    return int(match[1]) * UNITS[match[2]] if match else None


def decimal(value: object) -> Decimal | None:
    """A number of a file as Decimal; None: it isn't one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return None
    return round(number, 12) if number.is_finite() and abs(number) < 10**15 else None


def whole(value: object) -> int:
    """A number of a file as a whole number; 0: it isn't one."""
    number = decimal(value)
    return int(number) if number is not None and number >= 1 else 0


def object_of(value: object) -> dict[str, Any]:
    """A JSON object of a file; anything else is an empty one."""
    return value if isinstance(value, dict) else {}


def objects_of(value: object) -> list[dict[str, Any]]:
    """The objects in a list of a file."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def strings_of(value: object) -> list[str]:
    """The strings in a list of a file."""
    return [each for each in value if isinstance(each, str)] if isinstance(value, list) else []
