"""What the imports of other gateways' configurations share: providers, periods, limits, and what isn't taken over."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation
from typing import Any

from administration.deployment import declared
from administration.deployment.reading import Part
from keys import commands, provider_kinds
from keys.errors import Unusable
from usage.budget_terms import Terms
from usage.budgets import Period, Unit
from usage.limits import LimitKind

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
        loosen: keys whose restrictions can't be expressed are made too, without these.
        left_out: what could not be taken over, in sentences.
    """

    deployment: declared.Deployment = field(default_factory=declared.Deployment)
    left_out: list[str] = field(default_factory=list)
    loosen: bool = False

    def leave_out(self, what: str) -> None:
        """Say once that something isn't taken over."""
        if what not in self.left_out:
            self.left_out.append(what)

    def distinct(self, kind: str, name: str, taken: Iterable[declared.Owner]) -> str:
        """The name, or one with a number if another row of the file has it."""
        names = {each.name for each in taken}
        if name not in names:
            return name
        other = next(each for each in (f"{name} {n}" for n in range(2, 10_000_000)) if each not in names)
        self.leave_out(f"{kind} {name}: another {kind} has this name there; this one is “{other}” here")
        return other

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


class Source:
    """One customer, team or virtual key of a file: what of it can't be taken over, and which of that restricts calls.

    Attributes:
        what: its kind and name, such as `virtual key ci`.
        lost: restrictions that Bursar can't express. Without them, keys could do or spend more than they could there.
    """

    def __init__(self, imported: Imported, what: str, lost: Iterable[str] = ()) -> None:
        self.imported = imported
        self.what = what
        self.lost = list(lost)

    def note(self, said: str) -> None:
        """List something that isn't taken over and restricts nothing."""
        self.imported.leave_out(f"{self.what}: {said}")

    def lose(self, said: str) -> None:
        """A restriction can't be expressed."""
        if said not in self.lost:
            self.lost.append(said)

    def rest(
        self, given: dict[str, Any], taken: Iterable[str], bookkeeping: Iterable[str], harmless: Iterable[str]
    ) -> None:
        """List the members that aren't taken over. One that isn't known to be harmless counts as a restriction.

        Args:
            taken: members that the caller reads.
            bookkeeping: members that mean nothing outside of the other gateway.
            harmless: members that restrict no call; they are listed.
        """
        said = {name for name, value in given.items() if says_something(value)} - {*taken, *bookkeeping}
        if plain := sorted(said & set(harmless)):
            self.note(f"{', '.join(plain)}; Bursar has no such setting")
        for name in sorted(said - set(harmless)):
            self.lose(f"{name}, which Bursar can't express")

    def may_be_made(self) -> bool:
        """Whether the key is made; says what is lost."""
        if not self.lost:
            return True
        lost = "; ".join(self.lost)
        if self.imported.loosen:
            self.note(f"made without a restriction that it has there: {lost}")
        else:
            self.note(f"not made, because it could do or spend more here than there: {lost} (--loosen makes it)")
        return self.imported.loosen

    def for_keys(self) -> list[str]:
        """What its keys lose with it."""
        if self.lost:
            self.note(f"its keys aren't restricted by: {'; '.join(self.lost)}")
        return [f"its {self.what} has {each}" for each in self.lost]

    def budget(
        self,
        amount: object,
        duration: object,
        *,
        spent: object = None,
        tokens: bool = False,
        rolling: bool = False,
        models: Iterable[str] = (),
    ) -> list[declared.Budget]:
        """A budget of an amount in a duration, if there is one.

        A period that we lack becomes the next longer one, which is stricter; without one, the budget is prepaid. What
        is spent already is taken off the first window.
        """
        if amount is None:
            return []
        most = decimal(amount)
        if most is None or most < 0:
            self.lose(f"a budget of {amount}, which is no amount")
            return []
        seconds = seconds_of(duration)
        period = next(
            (each for each, length in PERIODS.items() if seconds is not None and seconds <= length), Period.NONE
        )
        if period == Period.NONE:
            why = f"its budget's period there is {duration}" if duration else "its budget never resets there"
            self.note(f"{why}; here it is prepaid, and never resets")
        elif seconds is not None and not PERIODS[period] * 0.89 <= seconds:
            self.note(f"its budget is for {duration} there; here it is for a {period}")
        unit = Unit.TOKENS if tokens else Unit.USD
        if tokens:
            most = most.to_integral_value(ROUND_FLOOR)
        used = max(decimal(spent) or Decimal(0), Decimal(0))
        left = max(most - (used.to_integral_value(ROUND_CEILING) if tokens else used), Decimal(0))
        terms = Terms(most, unit, period)
        first = left if used or period == Period.NONE else None
        return [declared.Budget(place(self.what), terms, list(models), rolling and period != Period.NONE, first=first)]

    def requests(self, most: object, duration: object, models: Iterable[str] = ()) -> list[declared.Limit]:
        """A limit of requests in a duration, as requests a minute."""
        if most is None:
            return []
        seconds = seconds_of(duration)
        rate = 0 if seconds is None else whole(most) * 60 // seconds
        if not rate:
            self.lose(f"a limit of {most} requests in {duration}, which is less than one a minute or no such limit")
            return []
        if seconds != 60:
            self.note(f"{most} requests in {duration} there; here {rate} a minute")
        return [declared.Limit(place(self.what), LimitKind.REQUESTS, rate, models=list(models))]

    def parallel(self, most: object) -> list[declared.Limit]:
        """A limit of calls at once, if one is given."""
        if most is None:
            return []
        if not whole(most):
            self.lose(f"a limit of {most} calls at once, which is no such limit")
            return []
        return [declared.Limit(place(self.what), LimitKind.PARALLEL, whole(most))]

    def expiry(self, given: object) -> datetime | None:
        """When a key expires, if a time is given. One that can't be read counts as a restriction."""
        if not given:
            return None
        try:
            return commands.moment(str(given))
        except Unusable as error:
            self.lose(f"an expiry that can't be read ({error})")
            return None


def strictest(budgets: Iterable[declared.Budget]) -> list[declared.Budget]:
    """The budgets; of several with the same unit, period and scope, of which an owner can have one, the one that leaves
    least."""
    found: dict[object, declared.Budget] = {}
    for each in budgets:
        same = (each.terms.unit, each.terms.period, each.rolling, tuple(each.models))
        left = each.terms.amount if each.first is None else each.first
        other = found.setdefault(same, each)
        if left < (other.terms.amount if other.first is None else other.first):
            found[same] = each
    return list(found.values())


def says_something(value: object) -> bool:
    """Whether a member of a file says anything: it isn't empty, false, or an object of such members."""
    if isinstance(value, dict):
        return any(says_something(each) for each in value.values())
    return value not in (None, "", False) and value != []


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
