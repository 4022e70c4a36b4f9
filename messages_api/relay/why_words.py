"""The gates of *May it call?* in words for administrators: what each says, and what would open a closed one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_UP, Decimal
from typing import Any

from keys.cooldowns import KnownCooldown
from keys.directory import KnownKey
from keys.models import CooldownReason, VirtualKey
from messages_api.callers import quota, wording
from messages_api.relay.routing import Target
from messages_api.server.errors import GatewayError
from usage.arbitration import Admission
from usage.budgets import length
from usage.limits import LimitKind


@dataclass(frozen=True, slots=True)
class CallGate:
    """A condition for a call.

    Attributes:
        kind: `key`, `expiry`, `pause`, `model`, `max_tokens`, `limit`, `budget` or `provider_key`.
        says: its state in a sentence; `change`: what would open it, if it is closed.
        until: when it changes by itself, if it does.
    """

    kind: str
    title: str
    is_open: bool
    says: str
    change: str = ""
    until: datetime | None = None


def no_secret() -> CallGate:
    """The gate of a key that no credential opens."""
    return CallGate("key", "Key", False, "This key has no secret that could call.", "Issue another key.")


# The verdicts on a key, each with what it says and what would change it.
REVOKED = ("The key or its secret is revoked.", "A revocation can’t be undone: issue another key.")
EXPIRED = (
    "The key has expired, or this secret of it was replaced by a newer one.",
    "Give the key a later expiry date, or use its newest secret, or rotate it.",
)
PAUSES = {
    "key paused": ("The key is paused.", "Resume the key."),
    "team paused": ("Its team is paused.", "Resume the team."),
    "customer paused": ("Its customer is paused.", "Resume the customer."),
    "gateway paused": ("The whole gateway is paused.", "Resume the gateway, under Settings."),
    "restored copy": (
        "This is a restored copy, which takes no calls.",
        "Once the old gateway is gone, run manage.py restore --activate.",
    ),
}


def key_gates(virtual_key: VirtualKey, bars: Sequence[str]) -> Iterator[CallGate]:
    """The gates of the key alone.

    Args:
        bars: what keeps it from calling (usage_bars in usage/arbiter/admissions.sql).
    """
    revoked, expired = "revoked" in bars, "expired" in bars
    yield CallGate("key", "Key", not revoked, *(REVOKED if revoked else ("It is known and not revoked.",)))
    if expired:
        yield CallGate("expiry", "Expiry", False, *EXPIRED)
    else:
        until = virtual_key.expires_at
        yield CallGate("expiry", "Expiry", True, f"It expires at {clock(until)}." if until else "It doesn’t expire.")
    paused = [PAUSES[bar] for bar in bars if bar in PAUSES]
    says, change = (" ".join(texts) for texts in zip(*paused, strict=True)) if paused else ("Nothing is paused.", "")
    yield CallGate("pause", "Pause", not paused, says, change)


CHANGES = {
    "model_not_allowed": "Add the model to the key’s allowed models, or take it off its denied ones.",
    "unknown_model": "Map the key to a provider key that serves this model, or correct the model’s name.",
    "unpriced_model": "Add a price for this model, under Billing.",
}


def model(name: str, refused: GatewayError | None) -> CallGate:
    """The gate of the model: may the key use it, does a provider key serve it, and has it a price?"""
    if refused is None:
        return CallGate("model", "Model", True, f"The key may use {name}, and its provider keys serve it.")
    if refused.reason == "unknown_model":
        return CallGate(
            "model", "Model", False, f"No provider key of this key serves {name}.", CHANGES["unknown_model"]
        )
    return CallGate("model", "Model", False, refused.message, CHANGES.get(refused.reason, ""))


def too_many_tokens(key: KnownKey, refused: GatewayError) -> CallGate:
    """The gate of `max_tokens`, which is closed."""
    change = f"Ask for at most {key.max_tokens:,}, or raise the ceiling of the key or its team."
    return CallGate("max_tokens", "max_tokens", False, refused.message, change)


def limits_and_budgets(admissions: Sequence[Admission], needs: Sequence[Sequence[dict[str, Any]]]) -> list[CallGate]:
    """A gate for each limit, then for each budget.

    Args:
        needs: for each admission, what applies to it, as usage_why describes it. What applies to several is the same
            one: the largest need of them counts.
    """
    found: dict[tuple[str, int], tuple[dict[str, Any], Admission]] = {}
    for asked, applying in zip(admissions, needs, strict=True):
        for need in applying:
            kind = "limit" if "limit" in need else "budget"
            place = (kind, need[kind])
            if place not in found or Decimal(need["needed"]) > Decimal(found[place][0]["needed"]):
                found[place] = need, asked
    limits = [limit(need) for (kind, _), (need, _) in found.items() if kind == "limit"]
    return [*limits, *(budget(need, asked) for (kind, _), (need, asked) in found.items() if kind == "budget")]


def limit(need: dict[str, Any]) -> CallGate:
    """The gate of a limit."""
    kind, rate = LimitKind(need["kind"]), int(need["rate"])
    title = f"Limit of {rate:,} {kind.label} for {need['owner_kind']} {need['owner']}"
    if need["fits"]:
        return CallGate("limit", title, True, f"{int(need['left']):,} left now, {Decimal(need['needed']):,f} needed.")
    if kind == LimitKind.PARALLEL:
        return CallGate(
            "limit", title, False, "As many calls are in progress.", "Wait until one has ended, or raise the limit."
        )
    says = f"{int(need['left']):,} left now, {Decimal(need['needed']):,f} needed."
    seconds = need["retry_after"]
    return CallGate("limit", title, False, says, f"Wait {seconds:,} s, or raise the limit.")


def budget(need: dict[str, Any], asked: Admission) -> CallGate:
    """The gate of a budget."""
    unit = need["unit"]

    def shown(name: str, rounding: str = ROUND_DOWN) -> str:
        with wording.spoken("en"):
            return wording.amount(Decimal(need[name]), unit, rounding)

    prepaid = need["period"] == "none"
    title = f"Budget of {shown('amount')} {length(need['period'])} for {need['owner_kind']} {need['owner']}"
    until = datetime.fromisoformat(need["until"]) if need["until"] else None
    resets = f" It resets at {clock(until)}." if until else ""
    says = (
        f"{shown('spent', ROUND_HALF_EVEN)} spent, {shown('held', ROUND_HALF_EVEN)} held, {shown('left')} left; "
        f"the call may need {shown('needed', ROUND_UP)}.{resets}"
    )
    if need["fits"]:
        return CallGate("budget", title, True, says if need["binding"] else f"{says} It is soft, and refuses nothing.")
    ways = ["top it up" if prepaid else "raise it"]
    if until and Decimal(need["needed"]) <= Decimal(need["amount"]):
        ways.append("wait until it resets")
    if fitting := quota.affordable(need, asked):
        ways.append(f"lower max_tokens to {fitting:,}")
    change = " or ".join(filter(None, [", ".join(ways[:-1]), ways[-1]]))
    return CallGate("budget", title, False, says, f"{change[0].upper()}{change[1:]}.", until)


REASONS = {
    CooldownReason.RATE_LIMITED: "the provider limits its rate",
    CooldownReason.FAILING: "the provider keeps failing",
    CooldownReason.REFUSED: "the provider refuses its secret or account",
}


def provider_keys(places: Sequence[tuple[Target, KnownCooldown | None]]) -> Iterator[CallGate]:
    """A gate for each provider key that the call may go to. One that cools down closes only its own way."""
    another = any(cooldown is None for _, cooldown in places)
    for target, cooldown in places:
        title = f"Provider key {target.provider_key.name}"
        if cooldown is None:
            yield CallGate("provider_key", title, True, f"It serves {target.model} and takes calls.")
            continue
        seconds = max(1, round(cooldown.until - time.monotonic()))
        says = f"It cools down for {seconds:,} s: {REASONS[CooldownReason(cooldown.reason)]}."
        if another:
            yield CallGate("provider_key", title, True, f"{says} Calls go to another one.")
            continue
        refused = cooldown.reason == CooldownReason.REFUSED
        change = "Correct its secret or account" if refused else "Wait"
        yield CallGate("provider_key", title, False, says, f"{change}, or map the key to another provider key.")


def clock(moment: datetime) -> str:
    """A moment for people, in UTC."""
    return f"{moment.astimezone(UTC):%-d %b %Y %H:%M} UTC"
