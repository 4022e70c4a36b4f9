"""Counts requests with unknown virtual keys by the network that they come from, in each process.

A key is looked up before anything is counted, so a valid one is served whatever else its network sends. Mistyped keys
aren't counted: they are refused without a look-up.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from keys.client_address import client_address, network_of
from messages_api.callers.process_limits import CallerLimits
from messages_api.server.errors import GatewayError

# Requests with unknown keys in a minute. Each request counts once, however many keys it has.
A_MINUTE = 600
REASON = "guesses"


class Guesses:
    """The requests with unknown keys of the last minute. Networks are forgotten once they may send as many again."""

    def __init__(self) -> None:
        self.limits = CallerLimits()

    def count(self, scope: Mapping[str, Any], error: GatewayError) -> GatewayError:
        """The error for a request whose key wasn't found: the same, or 429 if its network has sent too many.

        Args:
            error: why no key was found. Only an unknown key counts.
        """
        if error.reason != "unknown_key":
            return error
        network = network_of(client_address(scope))
        try:
            self.limits.enter(network, A_MINUTE, A_MINUTE, "requests with unknown keys from this network")()
        except GatewayError as limit:
            return GatewayError(
                429,
                "rate_limit_error",
                f"This network sends too many unknown keys ({A_MINUTE} requests a minute may have one). Valid keys are"
                " served.",
                reason=REASON,
                retry_after=limit.retry_after,
            )
        return error
