"""Whether a provider refuses our key, or what one caller sent.

A beta or a member of a body that our account may not use is answered with 401, 402 or 403 by some providers: if that
took the provider key out, one caller could take it from all. So could the words of a spent account, if a caller made
the provider echo them. So a caller's refusal stands alone until a request of another team or customer is refused too,
or a request in our own name, which has nothing of a caller's.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from keys.models import CheckState
from keys.provider_checks import Outcome
from messages_api import provider_probe
from messages_api.call import Call
from messages_api.routing import Target

if TYPE_CHECKING:
    from messages_api.attempts import Failure
    from messages_api.runtime import Runtime

logger = logging.getLogger(__name__)

# A provider key is not probed again for so many seconds.
PROBE_PAUSE = 1.0
# What a provider says of the secret and its rights; by other statuses, it says that the account is spent.
SECRET_STATUSES = frozenset((401, 403))


async def note(call: Call, failure: Failure, *, trial: bool) -> None:
    """What a refusal says of the provider key, for all who would call it next."""
    runtime, target, status = call.runtime, failure.target, failure.http_status or 0
    logger.error("provider key %s was refused: HTTP %d", target.provider_key.name, status)
    # What it may not do with one model says nothing of the others.
    model = target.model if status == 403 else ""
    if await runtime.cooldowns.confirms(target.provider_key, model, call.key.id):
        await runtime.cooldowns.refused(target.provider_key, model, status, trial=trial)
        return
    await call.journey.leave_trial(target)
    probe(runtime, target, model, status)


def probe(runtime: Runtime, target: Target, model: str, status: int) -> None:
    """Have the provider key tried in our own name; no call waits for that."""
    name = target.provider_key.id
    assert name is not None
    if name in runtime.probing:
        return
    runtime.probing.add(name)

    async def errand() -> None:
        try:
            provider = runtime.providers[target.provider_key.provider]
            outcome = await provider_probe.tried(provider, target.provider_key)
            if not agrees(outcome, status) and status not in SECRET_STATUSES:
                # The list of models may be free for a spent account, too.
                outcome = await provider_probe.tried(provider, target.provider_key, counting=True)
            if agrees(outcome, status):
                await runtime.cooldowns.refused(target.provider_key, model, status, trial=False)
            await asyncio.sleep(PROBE_PAUSE)
        finally:
            runtime.probing.discard(name)

    runtime.run_errand(errand())


def agrees(outcome: Outcome | None, status: int) -> bool:
    """Whether a request in our own name was refused by the same status."""
    return outcome is not None and (outcome.state, outcome.http_status) == (CheckState.REFUSED, status)
