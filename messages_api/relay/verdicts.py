"""Asks the arbiter, and turns its verdicts into errors for the caller. It decides about every call, free ones too."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

from keys.directory import KnownKey
from messages_api.callers import quota
from messages_api.server import errors
from messages_api.server.database_away import DatabaseAway
from messages_api.server.errors import GatewayError
from usage.arbitration import Admission, ArbiterAway, Overloaded, Verdict
from usage.writer import Writer

# How often a key is read again for one call if its settings keep changing.
TRIES = 4

# For each refusal of the arbiter: the error, its message for the caller, and its reason.
REFUSALS = {
    "unknown": (errors.unauthenticated, "This credential was never issued, or was deleted.", "unknown_key"),
    "revoked": (errors.unauthenticated, "This credential was revoked.", "revoked"),
    "expired": (
        errors.unauthenticated,
        "This credential has expired, or was replaced when its key was rotated: ask for the new one.",
        "expired",
    ),
    "key paused": (errors.forbidden, "This virtual key is paused: ask the person who issued it.", "paused"),
    "team paused": (errors.forbidden, "The team of this virtual key is paused.", "paused"),
    "customer paused": (errors.forbidden, "The customer of this virtual key is paused.", "paused"),
    "gateway paused": (errors.unavailable, "The gateway is paused by its administrators.", "paused"),
    "restored copy": (
        errors.unavailable,
        "This gateway is a restored copy, which takes no calls until its operators activate it.",
        "paused",
    ),
}

GONE = frozenset(("unknown", "revoked", "expired"))


async def ask(writer: Writer, admission: Admission) -> Verdict:
    """The arbiter's verdict.

    Raises:
        DatabaseAway: there is no verdict.
        GatewayError: too many calls wait for one, or a budget or limit refuses.
    """
    try:
        verdict = await writer.admit(admission)
    except Overloaded:
        raise errors.overloaded() from None
    except ArbiterAway:
        raise DatabaseAway from None
    if verdict == "budget":
        raise quota.over_budget(verdict.details, admission)
    if verdict == "limit":
        raise quota.over_limit(verdict.details)
    return verdict


def refusal(verdict: str) -> GatewayError:
    """The error for a verdict that refuses the caller."""
    refuse, message, reason = REFUSALS[verdict]
    return refuse(message, reason=reason)


def too_fast() -> GatewayError:
    """The error if the key has changed each time that it was read."""
    return errors.unavailable("The virtual key's settings kept changing: try again.", reason="stale", retry_after=1)


def nothing(call: UUID, key: KnownKey, endpoint: str) -> Admission:
    """The question about a key alone, which holds nothing."""
    return Admission(
        id=call,
        credential=key.credential,
        revision=key.revision,
        catalogue_revision=key.catalogue_revision,
        hold=False,
        endpoint=endpoint,
        requested_model="",
        stream=False,
        provider="",
        provider_key=None,
        ceiling=Decimal(0),
        input_tokens=0,
        input_cost=Decimal(0),
        max_tokens=0,
        output_price=Decimal(0),
        price_version="",
        client_labels={},
    )
