"""Whether a provider refuses our key, or what one caller sent.

Some providers answer 401, 402 or 403 to a beta or a member of a body that our account may not use: if that took the
provider key out, one caller could take it from all. So could the words of a spent account, if a caller made the
provider echo them. So a caller's refusal stands alone until a request of another team or customer is refused too, or a
request in our own name, which has nothing of a caller's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from keys.cooldowns import Cooldowns
from keys.models import CheckState
from keys.provider_checks import Outcome
from messages_api import provider_probe
from messages_api.errands import Errands
from messages_api.providers import Provider
from messages_api.routing import Target

logger = logging.getLogger(__name__)

# Seconds after a probe before the same provider key is probed again.
PROBE_PAUSE = 1.0
# What a provider says of the secret and its rights; by other statuses, it says that the account is spent.
SECRET_STATUSES = frozenset((401, 403))


class RefusedKeys:
    """The provider keys of one process that were refused."""

    def __init__(self, providers: Mapping[str, Provider], cooldowns: Cooldowns, errands: Errands) -> None:
        self.providers = providers
        self.cooldowns = cooldowns
        self.errands = errands
        self.probing: set[int] = set()

    async def confirm(self, target: Target, status: int, virtual_key: int, *, trial: bool) -> bool:
        """Take out a provider key that refused a call, or probe it if only this caller has been refused; True if it is
        out."""
        logger.error("provider key %s was refused: HTTP %d", target.provider_key.name, status)
        # What it may not do with one model says nothing of the others.
        model = target.model if status == 403 else ""
        if await self.cooldowns.confirms(target.provider_key, model, virtual_key):
            await self.cooldowns.refused(target.provider_key, model, status, trial=trial)
            return True
        self.probe(target, model, status)
        return False

    def probe(self, target: Target, model: str, status: int) -> None:
        """Try the provider key in our own name; no call waits for that."""
        name = target.provider_key.id
        assert name is not None
        if name not in self.probing:
            self.probing.add(name)
            self.errands.run(self._probe(name, target, model, status))

    async def _probe(self, name: int, target: Target, model: str, status: int) -> None:
        try:
            provider = self.providers[target.provider_key.provider]
            outcome = await provider_probe.tried(provider, target.provider_key)
            if not agrees(outcome, status) and status not in SECRET_STATUSES:
                # The list of models may be free for a spent account, too.
                outcome = await provider_probe.tried(provider, target.provider_key, counting=True)
            if agrees(outcome, status):
                await self.cooldowns.refused(target.provider_key, model, status, trial=False)
            await asyncio.sleep(PROBE_PAUSE)
        finally:
            self.probing.discard(name)


def agrees(outcome: Outcome | None, status: int) -> bool:
    """Whether a request in our own name was refused by the same status."""
    return outcome is not None and (outcome.state, outcome.http_status) == (CheckState.REFUSED, status)
