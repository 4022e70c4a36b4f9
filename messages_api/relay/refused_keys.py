"""Decides whether a provider refuses the gateway's own key, or only what one caller sent.

Some providers answer 401, 402 or 403 to a beta or a member of a body that the gateway's account may not use. If that
took the provider key out, one caller could take it from all others. A caller could do the same by making the provider
repeat the message about a spent account. Therefore a refusal must be confirmed: by a refused request of another team or
customer, or by a refused request of the gateway's own, which contains nothing from a caller.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from keys.cooldowns import Cooldowns
from keys.models import CheckState
from keys.provider_checks import Outcome
from messages_api.process.errands import Errands
from messages_api.providers import Provider
from messages_api.relay import key_probe
from messages_api.relay.routing import Target

logger = logging.getLogger(__name__)

# Seconds after a probe before the same provider key is probed again.
PROBE_PAUSE = 1.0
# Statuses about the secret and its rights. The other statuses are about a spent account.
SECRET_STATUSES = frozenset((401, 403))


class RefusedKeys:
    """Confirms refusals of provider keys, for one process."""

    def __init__(self, providers: Mapping[str, Provider], cooldowns: Cooldowns, errands: Errands) -> None:
        self.providers = providers
        self.cooldowns = cooldowns
        self.errands = errands
        self.probing: set[int] = set()

    async def confirm(self, target: Target, status: int, virtual_key: int, *, trial: bool) -> bool:
        """Take a refused provider key out of use if the refusal is confirmed, and return True. Otherwise probe the
        provider key.
        """
        logger.error("provider key %s was refused: HTTP %d", target.provider_key.name, status)
        # A 403 for one model says nothing about the others.
        model = target.model if status == 403 else ""
        if await self.cooldowns.confirms(target.provider_key, model, virtual_key):
            await self.cooldowns.refused(target.provider_key, model, status, trial=trial)
            return True
        self.probe(target, model, status)
        return False

    def probe(self, target: Target, model: str, status: int) -> None:
        """Probe the provider key by a request of the gateway's own, in the background."""
        name = target.provider_key.id
        assert name is not None
        if name not in self.probing:
            self.probing.add(name)
            self.errands.run(self._probe(name, target, model, status))

    async def _probe(self, name: int, target: Target, model: str, status: int) -> None:
        try:
            provider = self.providers[target.provider_key.provider]
            outcome = await key_probe.try_key(provider, target.provider_key)
            if not agrees(outcome, status) and status not in SECRET_STATUSES:
                # The list of models may be free for a spent account, too.
                outcome = await key_probe.try_key(provider, target.provider_key, counting=True)
            if agrees(outcome, status):
                await self.cooldowns.refused(target.provider_key, model, status, trial=False)
            await asyncio.sleep(PROBE_PAUSE)
        finally:
            self.probing.discard(name)


def agrees(outcome: Outcome | None, status: int) -> bool:
    """Whether the gateway's own request was refused with the same status."""
    return outcome is not None and (outcome.state, outcome.http_status) == (CheckState.REFUSED, status)
