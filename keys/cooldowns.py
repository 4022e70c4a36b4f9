"""Cool-downs of provider keys: times in which a provider key gets no calls. This module reads and writes them.

It is a circuit breaker. A strike is a failure with no success after it. A failing provider key cools down only after
several strikes over some time, so a key that answers every other call stays in use. From then on, each strike doubles
the cool-down. When the cool-down has passed, a single call across all processes probes the provider key; if the probe
succeeds, the cool-down ends. If the provider itself says how long to wait, that time applies: it extends a cool-down
that has begun, and another call's success does not end it.
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

# Of a failing provider key: the strikes before it cools down, the seconds that they must span, and the seconds of its
# first and longest cool-down.
TRIP = 5
TRIP_SECONDS = 1.0
FIRST_SECONDS = 1.0
LONGEST_SECONDS = 30.0
# The longest wait that a provider may ask for.
MOST_SECONDS = 3600.0
# First and longest cool-down of a provider key whose secret or account the provider refuses.
REFUSED_FIRST_SECONDS = 3.0
REFUSED_LONGEST_SECONDS = 300.0
# A second customer's refusal confirms the first one's within this time.
DOUBT_SECONDS = 60.0
MOST_DOUBTS = 1000
# The most models of one provider key that may have a cool-down: callers choose the names, and each process reads all
# cool-downs every second. Beyond that, those of models that aren't known to exist are forgotten first, and then those
# that end first; never the one of all models.
MOST_MODELS = 200
# Longest cool-down after a rate limit where the provider doesn't say how long to wait.
LIMITED_LONGEST_SECONDS = 8.0
# A probe has this long before another call may claim one.
TRIAL_SECONDS = 10.0

# While a provider key cools down, failures of calls that were already under way count only if the provider asks for a
# longer wait.
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
WHERE c.until <= clock_timestamp() OR %(trial)s OR %(asked)s AND c.until < excluded.until
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
# Models that the provider lists, or that answered lately, stay before all others: a caller can make up any other name.
FORGET = """
WITH known AS (
    SELECT lower(said.of ->> 'id') AS model FROM keys_modellist l, jsonb_array_elements(l.listed) AS said (of)
    WHERE l.provider_key_id = %(provider_key)s
    UNION ALL
    SELECT lower(model) FROM keys_performance WHERE provider_key_id = %(provider_key)s AND failures < attempts
)
DELETE FROM keys_cooldown WHERE id IN (
    SELECT id FROM keys_cooldown WHERE provider_key_id = %(provider_key)s AND model <> ''
    ORDER BY lower(model) IN (SELECT model FROM known WHERE model IS NOT NULL) DESC, until DESC, id
    OFFSET %(most)s FOR UPDATE SKIP LOCKED)
RETURNING 1
"""
# Whether two virtual keys belong to different customers or, if the deployment has only one customer, to different
# teams. A key without a team counts as a team of its own.
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
    """A cool-down as this process last read it. `until` is on this process's monotonic clock."""

    reason: str
    http_status: int | None
    strikes: int
    until: float

    @property
    def tripped(self) -> bool:
        """Whether a probe must succeed before other calls may use the provider key again."""
        return self.reason == CooldownReason.REFUSED or (self.reason == CooldownReason.FAILING and self.strikes >= TRIP)


class Cooldowns:
    """The cool-downs that this process knows. `read` reloads them every second and after each write.

    Nothing here fails a call: while the database is unavailable, the process uses what it last read.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.known: dict[tuple[int, str], KnownCooldown] = {}
        # The last unconfirmed refusal that this process saw: the virtual key whose request it was, and the time.
        self.doubts: dict[tuple[int, str], tuple[int, float]] = {}

    async def read(self) -> None:
        """Reload all cool-downs.

        Raises:
            psycopg.Error: the database is unavailable.
        """
        rows = await self.reader.fetch(READ, {"forgotten": FORGOTTEN_AFTER.total_seconds()})
        now = time.monotonic()
        self.known = {
            (provider_key, model): KnownCooldown(reason, status, strikes, now + left)
            for provider_key, model, reason, status, strikes, left in rows
        }

    def of(self, provider_key: KnownProviderKey, model: str) -> KnownCooldown | None:
        """The longest cool-down that keeps this model's calls from a provider key now; None without one. No I/O."""
        if not self.known or provider_key.id is None:
            return None
        found = [self.known.get((provider_key.id, name)) for name in {"", model}]
        now = time.monotonic()
        return max((one for one in found if one and one.until > now), key=lambda one: one.until, default=None)

    def needs_trial(self, provider_key: KnownProviderKey, model: str) -> bool:
        """Whether a single call must probe the provider key before others may use it. No I/O."""
        return bool(self.known and self._tripped(provider_key, model))

    async def claim(self, provider_key: KnownProviderKey, model: str) -> bool:
        """Try to become the one call, across all processes, that probes the provider key; True if this call may."""
        claimed = True
        for name in self._tripped(provider_key, model):
            values = {"provider_key": provider_key.id, "model": name, "seconds": TRIAL_SECONDS}
            claimed = bool(await self._write(CLAIM, values)) and claimed
        return claimed

    async def give_back(self, provider_key: KnownProviderKey, model: str) -> None:
        """Give up a claimed probe that was not made, so that another call may claim it at once."""
        for name in self._tripped(provider_key, model):
            await self._write(GIVE_BACK, {"provider_key": provider_key.id, "model": name})

    def _tripped(self, provider_key: KnownProviderKey, model: str) -> list[str]:
        found = {name: self.known.get((provider_key.id or 0, name)) for name in ("", model)}
        return [name for name, one in found.items() if one is not None and one.tripped]

    async def limited(self, provider_key: KnownProviderKey, model: str, seconds: float | None, *, trial: bool) -> None:
        """The provider limits the rate: cool down for as long as it asks, or twice as long with each strike."""
        first, longest = FIRST_SECONDS, LIMITED_LONGEST_SECONDS
        await self._strike(
            provider_key, model, CooldownReason.RATE_LIMITED, 429, 1, first, longest, asked=seconds, trial=trial
        )

    async def failed(
        self, provider_key: KnownProviderKey, model: str, http_status: int | None, seconds: float | None, *, trial: bool
    ) -> None:
        """The provider failed or could not be reached. `model` is empty if the failure is not about one model."""
        first, longest = FIRST_SECONDS, LONGEST_SECONDS
        await self._strike(
            provider_key, model, CooldownReason.FAILING, http_status, TRIP, first, longest, asked=seconds, trial=trial
        )

    async def confirms(self, provider_key: KnownProviderKey, model: str, virtual_key: int) -> bool:
        """Whether this refusal confirms an earlier one: the one before it was of another customer's request.

        A single refusal proves nothing about our key: a provider may answer the same way to what a caller sent. Two
        virtual keys of one team never confirm each other, because one person may hold both. While the database is
        unavailable, no refusal is confirmed.
        """
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
            logger.warning(
                "a refusal of a provider key stays unconfirmed: the database failed (%s)", type(error).__name__
            )
            return False
        return bool(rows and rows[0][0])

    async def refused(self, provider_key: KnownProviderKey, model: str, http_status: int, *, trial: bool) -> None:
        """The provider refuses our key or account, for this model or (if `model` is empty) for all of them.

        An administrator has to fix it.
        """
        first, longest = REFUSED_FIRST_SECONDS, REFUSED_LONGEST_SECONDS
        await self._strike(provider_key, model, CooldownReason.REFUSED, http_status, 1, first, longest, trial=trial)

    async def succeeded(self, provider_key: KnownProviderKey, model: str, *, trial: bool) -> None:
        """The provider answered a call of this model: forget its unconfirmed refusals, and end its cool-down if due."""
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
        asked: float | None = None,
        trial: bool,
    ) -> None:
        if provider_key.id is None:  # a caller's own key: its failures concern no other caller
            return
        if asked is not None:
            trip, first = 1, min(max(asked, 0.0), MOST_SECONDS)
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
            "asked": asked is not None,
            "trial": trial,
        }
        lengthens = not trial and self.of(provider_key, model) is not None
        rows = await self._write(STRIKE, values)
        if sum(one == provider_key.id for one, _ in self.known) > MOST_MODELS:
            await self._write(FORGET, {"provider_key": provider_key.id, "most": MOST_MODELS})
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
            logger.warning("a cool-down was not written: the database failed (%s)", type(error).__name__)
            return []
        return rows
