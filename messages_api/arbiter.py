"""Asking the arbiter, and what its verdicts mean to a caller. Everybody passes it, for free endpoints too."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from keys.directory import KnownKey
from messages_api import errors, passing, quota
from messages_api.authentication import Presented
from messages_api.errors import GatewayError
from messages_api.handler import ApiRequest
from messages_api.runtime import DATABASE_AWAY, Runtime
from usage.arbitration import Admission, ArbiterAway, Overloaded, Verdict

# A key whose settings keep changing while it is asked for is read anew so many times.
TRIES = 4

# Why the arbiter refuses, in words for the caller: an error's making, its message and its reason.
REFUSALS = {
    "unknown": (errors.unauthenticated, "This credential was never handed out, or was deleted.", "unknown_key"),
    "revoked": (errors.unauthenticated, "This credential was revoked.", "revoked"),
    "expired": (errors.unauthenticated, "This credential has expired.", "expired"),
    "key paused": (errors.forbidden, "This virtual key is paused: ask who handed it out.", "paused"),
    "team paused": (errors.forbidden, "The team of this virtual key is paused.", "paused"),
    "customer paused": (errors.forbidden, "The customer of this virtual key is paused.", "paused"),
    "gateway paused": (errors.unavailable, "The gateway is paused by its administrators.", "paused"),
}

GONE = frozenset(("unknown", "revoked", "expired"))


async def ask(runtime: Runtime, admission: Admission) -> Verdict:
    """The arbiter's verdict.

    Raises:
        GatewayError: it can't be had now, or a budget or limit refuses.
    """
    try:
        verdict = await runtime.writer.admit(admission)
    except Overloaded:
        raise errors.overloaded() from None
    except ArbiterAway:
        raise errors.unavailable(DATABASE_AWAY, reason="database_away", retry_after=2) from None
    if verdict == "budget":
        raise quota.over_budget(verdict.details, admission)
    if verdict == "limit":
        raise quota.over_limit(verdict.details)
    return verdict


async def after(runtime: Runtime, presented: Presented, key: KnownKey, verdict: str) -> tuple[Presented, KnownKey]:
    """What to ask with next, after a verdict that did not admit.

    Raises:
        GatewayError: there is nothing left to ask with.
    """
    runtime.trusted.discard(key.credential)
    if verdict in GONE and len(presented.secrets) > 1:
        # Of several credentials, one that still works wins.
        presented = replace(presented, secrets=presented.secrets[1:])
    elif verdict != "stale":
        refuse, message, reason = REFUSALS[verdict]
        raise refuse(message, reason=reason)
    return presented, await runtime.identify_anew(presented, key)


def too_fast() -> GatewayError:
    """The key changed each time that it was read."""
    return errors.unavailable("The key's settings change faster than they can be read.", reason="stale", retry_after=1)


async def permit(runtime: Runtime, http: ApiRequest, presented: Presented, key: KnownKey, endpoint: str) -> KnownKey:
    """Ask the arbiter about the key alone, with nothing held; the key as it is known now.

    Raises:
        GatewayError: it may not call, or that can't be said now.
    """
    for _ in range(TRIES):
        nothing = Admission(
            id=http.id,
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
        try:
            verdict = await ask(runtime, nothing)
        except GatewayError as error:
            if error.reason == "database_away" and passing.may(runtime, endpoint, presented, key):
                return key
            raise
        if verdict == "admitted":
            return key
        presented, key = await after(runtime, presented, key, verdict)
    raise too_fast()
