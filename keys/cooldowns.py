"""Provider keys that get no calls for a while: what this process knows of them, and what it learns and writes.

A strike is a failure without a success since. Those of a failing provider key only count until there are several over
some time: one that answers every other call has a success between, and goes on. From then on each doubles the time in
which nobody calls it (a circuit breaker). When that has passed, one call, of all processes', claims
the right to try: its success ends the matter. Where a provider says itself how long to wait, that is what counts: it
lengthens a time that has begun, and no success of another call ends it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg

from keys.connection import Reader
from keys.directory import KnownProviderKey
from keys.models import FORGOTTEN_AFTER, CooldownReason

logger = logging.getLogger(__name__)

# Strikes of a failing provider key before it cools down, seconds over which they came, and the seconds of its first and
# its longest time.
TRIP = 5
TRIP_SECONDS = 1.0
FIRST_SECONDS = 1.0
LONGEST_SECONDS = 30.0
# What a provider may tell us to wait at most.
MOST_SECONDS = 3600.0
# Likewise of one whose key or account is refused.
REFUSED_FIRST_SECONDS = 3.0
REFUSED_LONGEST_SECONDS = 300.0
# So long a refusal of one customer's request waits for another customer's that confirms it.
DOUBT_SECONDS = 60.0
MOST_DOUBTS = 1000
# Of one that limits the rate and doesn't say for how long.
LIMITED_LONGEST_SECONDS = 8.0
# Who claimed the right to try has so long.
TRIAL_SECONDS = 10.0

# While it cools down, calls that were under way before tell nothing new, unless the provider wants a longer time.
STRIKE = """
INSERT INTO keys_cooldown AS c (provider_key_id, model, reason, http_status, strikes, since, until)
VALUES (%(provider_key)s, %(model)s, %(reason)s, %(http_status)s, 1, clock_timestamp(),
    clock_timestamp() + make_interval(secs => CASE WHEN %(trip)s > 1 THEN 0 ELSE %(first)s END))
ON CONFLICT (provider_key_id, model) DO UPDATE SET
    reason = excluded.reason, http_status = excluded.http_status, (strikes, until) = (
        SELECT n, greatest(CASE WHEN c.reason = 'rate_limited' THEN c.until END,
            clock_timestamp() + make_interval(secs => CASE WHEN n < %(trip)s THEN 0
                ELSE least(%(longest)s, %(first)s * 2 ^ least(n - %(trip)s, 30)) END))
        FROM (SELECT c.strikes + CASE WHEN c.until > clock_timestamp() AND NOT %(trial)s OR c.strikes + 1 = %(trip)s
            AND c.since > clock_timestamp() - make_interval(secs => %(over)s) THEN 0 ELSE 1 END AS n) AS next)
WHERE c.until <= clock_timestamp() OR %(trial)s OR %(told)s AND c.until < excluded.until
RETURNING strikes
"""
CLAIM = """
UPDATE keys_cooldown SET until = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE provider_key_id = %(provider_key)s AND model = %(model)s AND until <= clock_timestamp() RETURNING strikes
"""
GIVE_BACK = """
UPDATE keys_cooldown SET until = clock_timestamp()
WHERE provider_key_id = %(provider_key)s AND model = %(model)s AND reason <> 'rate_limited'
"""
END = """
DELETE FROM keys_cooldown WHERE provider_key_id = %(provider_key)s AND model IN ('', %(model)s)
    AND (until <= clock_timestamp() OR %(trial)s AND reason <> 'rate_limited') RETURNING model
"""
# Whether two virtual keys belong to different customers; where the deployment has one customer only, to different
# teams: a key without a team stands for itself.
APART = """
SELECT a.customer_id <> b.customer_id OR (a.team_id IS DISTINCT FROM b.team_id OR a.team_id IS NULL) AND NOT EXISTS (
    SELECT FROM keys_virtualkey o WHERE o.customer_id <> a.customer_id AND NOT o.passthrough)
FROM keys_virtualkey a JOIN keys_virtualkey b ON b.id = %(other)s WHERE a.id = %(one)s AND a.id <> b.id
"""
READ = """
SELECT provider_key_id, model, reason, http_status, strikes, extract(epoch FROM until - clock_timestamp())::float8
FROM keys_cooldown WHERE until > clock_timestamp() - make_interval(secs => %(forgotten)s)
"""


@dataclass(frozen=True, slots=True)
class KnownCooldown:
    """As it was last read. `until` by this process's monotonic clock."""

    reason: str
    http_status: int | None
    strikes: int
    until: float

    @property
    def tripped(self) -> bool:
        """Whether it takes a call that tries first, once its time has passed."""
        return self.reason == CooldownReason.REFUSED or (self.reason == CooldownReason.FAILING and self.strikes >= TRIP)


class Cooldowns:
    """Read every second by each process (`read`), and whenever something is written. Nothing here fails a call: where
    the database is away, nothing is learned."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.known: dict[tuple[int, str], KnownCooldown] = {}
        # The last refusal that nobody has confirmed, as this process knows: whose request it was, and when.
        self.doubts: dict[tuple[int, str], tuple[int, float]] = {}

    async def read(self) -> None:
        """Take in what is written.

        Raises:
            psycopg.Error: the database is away.
        """
        rows = await self.reader.fetch(READ, {"forgotten": FORGOTTEN_AFTER.total_seconds()})
        now = time.monotonic()
        self.known = {
            (provider_key, model): KnownCooldown(reason, status, strikes, now + left)
            for provider_key, model, reason, status, strikes, left in rows
        }

    def of(self, provider_key: KnownProviderKey, model: str) -> KnownCooldown | None:
        """What keeps calls of this model from a provider key now, the longest; None where nothing does. No I/O."""
        if not self.known or provider_key.id is None:
            return None
        found = [self.known.get((provider_key.id, name)) for name in {"", model}]
        now = time.monotonic()
        return max((one for one in found if one and one.until > now), key=lambda one: one.until, default=None)

    def needs_trial(self, provider_key: KnownProviderKey, model: str) -> bool:
        """Whether somebody has to try first whether it is well again. No I/O."""
        return bool(self.known and self._tripped(provider_key, model))

    async def claim(self, provider_key: KnownProviderKey, model: str) -> bool:
        """Claim the right to try; whether this call has it, of all processes'."""
        claimed = True
        for name in self._tripped(provider_key, model):
            values = {"provider_key": provider_key.id, "model": name, "seconds": TRIAL_SECONDS}
            claimed = bool(await self._write(CLAIM, values)) and claimed
        return claimed

    async def give_back(self, provider_key: KnownProviderKey, model: str) -> None:
        """Who claimed the right to try doesn't: somebody else may at once."""
        for name in self._tripped(provider_key, model):
            await self._write(GIVE_BACK, {"provider_key": provider_key.id, "model": name})

    def _tripped(self, provider_key: KnownProviderKey, model: str) -> list[str]:
        found = {name: self.known.get((provider_key.id or 0, name)) for name in ("", model)}
        return [name for name, one in found.items() if one is not None and one.tripped]

    async def limited(self, provider_key: KnownProviderKey, model: str, seconds: float | None, *, trial: bool) -> None:
        """The provider says that calls come too fast: it waits as long as it says, or longer each time."""
        first, longest = FIRST_SECONDS, LIMITED_LONGEST_SECONDS
        await self._strike(
            provider_key, model, CooldownReason.RATE_LIMITED, 429, 1, first, longest, told=seconds, trial=trial
        )

    async def failed(
        self, provider_key: KnownProviderKey, model: str, http_status: int | None, seconds: float | None, *, trial: bool
    ) -> None:
        """It could not be reached, or failed: `model` is empty where that says nothing about the model."""
        first, longest = FIRST_SECONDS, LONGEST_SECONDS
        await self._strike(
            provider_key, model, CooldownReason.FAILING, http_status, TRIP, first, longest, told=seconds, trial=trial
        )

    async def confirms(self, provider_key: KnownProviderKey, model: str, virtual_key: int) -> bool:
        """Whether a refusal of this virtual key's request is the second in a row, after one of another customer's: a
        provider may refuse what a caller sent, and says the same of our key. Two keys of one team never confirm each
        other, for one person may hold both. Where the database is away, nothing is confirmed."""
        if provider_key.id is None:
            return False
        now = time.monotonic()
        before = self.doubts.get((provider_key.id, model))
        if before is None and len(self.doubts) >= MOST_DOUBTS:
            self.doubts.clear()
        self.doubts[provider_key.id, model] = virtual_key, now
        if before is None or before[0] == virtual_key or now - before[1] >= DOUBT_SECONDS:
            return False
        try:
            rows = await self.reader.fetch(APART, {"one": virtual_key, "other": before[0]})
        except psycopg.Error as error:
            logger.warning("a refusal can't be confirmed (%s)", type(error).__name__)
            return False
        return bool(rows and rows[0][0])

    async def refused(self, provider_key: KnownProviderKey, model: str, http_status: int, *, trial: bool) -> None:
        """Its key or account is refused, for this model or (where that is empty) for any: administrators have to see
        to it."""
        first, longest = REFUSED_FIRST_SECONDS, REFUSED_LONGEST_SECONDS
        await self._strike(provider_key, model, CooldownReason.REFUSED, http_status, 1, first, longest, trial=trial)

    async def succeeded(self, provider_key: KnownProviderKey, model: str, *, trial: bool) -> None:
        """A call of this model was answered."""
        if self.doubts and provider_key.id is not None:
            for name in ("", model):
                self.doubts.pop((provider_key.id, name), None)
        if provider_key.id is not None and any((provider_key.id, name) in self.known for name in ("", model)):
            await self._write(END, {"provider_key": provider_key.id, "model": model, "trial": trial})

    async def _strike(
        self,
        provider_key: KnownProviderKey,
        model: str,
        reason: CooldownReason,
        http_status: int | None,
        trip: int,
        first: float,
        longest: float,
        *,
        told: float | None = None,
        trial: bool,
    ) -> None:
        if provider_key.id is None:  # a caller's own: what becomes of it is nobody else's business
            return
        if told is not None:
            trip, first = 1, min(max(told, 0.0), MOST_SECONDS)
            longest = first
        values: dict[str, object] = {
            "provider_key": provider_key.id,
            "model": model,
            "reason": reason.value,
            "http_status": http_status,
            "trip": trip,
            "over": TRIP_SECONDS,
            "first": first,
            "longest": longest,
            "told": told is not None,
            "trial": trial,
        }
        lengthens = not trial and self.of(provider_key, model) is not None
        rows = await self._write(STRIKE, values)
        if rows and rows[0][0] >= trip and not lengthens:
            what = f"{provider_key.name}, {model or 'all models'}"
            log = logger.error if reason is CooldownReason.REFUSED else logger.warning
            log(
                "provider key %s cools down: %s, HTTP %s, strike %d",
                what,
                reason.label,
                http_status or "none",
                rows[0][0],
            )

    async def _write(self, query: str, values: Mapping[str, object]) -> list[tuple[int]]:
        try:
            rows = await self.reader.fetch(query, values)
            await self.read()
        except psycopg.Error as error:
            logger.warning("a cool-down can't be written (%s)", type(error).__name__)
            return []
        return rows
