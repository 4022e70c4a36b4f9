"""The message to a caller that a budget or limit refuses, in the language and time zone of the customer.

The sentences are Django's translation catalogues in messages_api/locale; numbers and dates are Django's formats. An
error's type and structure stay English, as clients know them.
"""

from __future__ import annotations

import zoneinfo
from datetime import datetime
from decimal import ROUND_DOWN, ROUND_UP, Decimal
from typing import Any

from django.utils.formats import date_format, number_format
from django.utils.translation import gettext as _
from django.utils.translation import ngettext, override

from keys.models import Language

# Plain English's own formats are the American ones: "December 1".
ENGLISH = "en-gb"
TRANSLATED = frozenset(Language.values) - {Language.ENGLISH}


def over_budget(details: dict[str, Any], max_tokens: int) -> str:
    """The message: why a budget refuses a call, and how to make it fit.

    Args:
        details: the arbiter's facts about it (usage_refusal in usage/arbiter/admissions.sql).
        max_tokens: with which the call would fit; 0 if only a useless one would fit.
    """
    unit, left = details["unit"], Decimal(details["left"])
    with spoken(details["language"]):
        said = refusal(bool(left > 0), bool(details["until"])).format(
            needed=amount(Decimal(details["needed"]), unit, ROUND_UP),
            left=amount(left, unit, ROUND_DOWN),
            amount=amount(Decimal(details["amount"]), unit, ROUND_DOWN),
            owner=owner(details),
            until=details["until"] and wall_clock(details["until"], details["time_zone"]),
        )
        if not max_tokens:
            return _("{refusal}.").format(refusal=said)
        tokens = number_format(max_tokens, force_grouping=True)
        return _("{refusal}; lower max_tokens to about {tokens}.").format(refusal=said, tokens=tokens)


def again(reason: str, facts: dict[str, Any] | None, language: str) -> str:
    """The message to a refused caller, in another language; empty if its facts are unknown."""
    if not facts:
        return ""
    here = facts | {"language": language}
    try:
        return over_budget(here, facts["max_tokens"]) if reason == "budget" else over_limit(here)
    except (KeyError, TypeError, ValueError, ArithmeticError):
        # Facts in the form of another version.
        return ""


def refusal(something_left: bool, resets: bool) -> str:
    """The sentence about a budget, with placeholders."""
    if something_left and resets:
        return _("This call needs up to {needed}, {left} left of {amount} for {owner} until {until}")
    if something_left:
        return _("This call needs up to {needed}, {left} left of {amount} for {owner}")
    if resets:
        return _("This call needs up to {needed}, nothing left of {amount} for {owner} until {until}")
    return _("This call needs up to {needed}, nothing left of {amount} for {owner}")


def over_limit(details: dict[str, Any]) -> str:
    """The message: why a limit refuses a call, and when to try again."""
    kind, rate = details["kind"], int(details["rate"])
    with spoken(details["language"]):
        limit = LIMITS[kind](rate).format(rate=number_format(rate, force_grouping=True))
        if kind == "parallel":
            return _("Limit of {limit} for {owner}: wait until one has ended.").format(
                limit=limit, owner=owner(details)
            )
        return _("Limit of {limit}, {burst} at once, for {owner}: try again in {seconds} s.").format(
            limit=limit,
            burst=number_format(int(details["burst"]), force_grouping=True),
            owner=owner(details),
            seconds=details["retry_after"],
        )


LIMITS = {
    "rpm": lambda rate: ngettext("{rate} request a minute", "{rate} requests a minute", rate),
    "input_tpm": lambda rate: ngettext("{rate} input token a minute", "{rate} input tokens a minute", rate),
    "output_tpm": lambda rate: ngettext("{rate} output token a minute", "{rate} output tokens a minute", rate),
    "parallel": lambda rate: ngettext("{rate} call at once", "{rate} calls at once", rate),
}


def owner(details: dict[str, Any]) -> str:
    """The owner of a budget or limit."""
    if details["owner_kind"] == "customer":
        return _("customer {name}").format(name=details["owner"])
    if details["owner_kind"] == "team":
        return _("team {name}").format(name=details["owner"])
    return _("virtual key {name}").format(name=details["owner"])


def amount(value: Decimal, unit: str, rounding: str) -> str:
    """An amount in its unit: in cents, or finer if cents would be too coarse."""
    if unit == "tokens":
        whole = int(value.to_integral_value(rounding))
        return ngettext("{tokens} token", "{tokens} tokens", whole).format(
            tokens=number_format(whole, force_grouping=True)
        )
    places = 2 if abs(value) >= 1 else 4
    rounded = value.quantize(Decimal(1).scaleb(-places), rounding)
    return _("${dollars}").format(dollars=number_format(rounded, places, force_grouping=True))


def wall_clock(moment: str, zone: str) -> str:
    """A time in a time zone: `1 December 00:00 Europe/Berlin`."""
    here = datetime.fromisoformat(moment).astimezone(zoneinfo.ZoneInfo(zone))
    return f"{date_format(here, 'MONTH_DAY_FORMAT')} {here:%H:%M} {zone}"


def spoken(language: str) -> override:
    """Use a customer's language for texts, numbers and dates within this block."""
    return override(language if language in TRANSLATED else ENGLISH)
