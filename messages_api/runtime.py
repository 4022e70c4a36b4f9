"""What a web process has open: connections, the writer, what it knows of keys and prices, and the calls under way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Hashable, Sequence
from dataclasses import astuple
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError

from gateway_project.configuration import Configuration
from keys import destinations
from keys.accounts import Accounts
from keys.connection import Reader, TooManyWait, Values
from keys.cooldowns import Cooldowns
from keys.destinations import Destinations
from keys.directory import Directory, KnownKey, KnownProviderKey
from keys.model_lists import ModelLists
from keys.model_names import fold
from keys.performance import Performances
from keys.timeouts import DEPLOYMENTS, Timeouts
from messages_api import errors, long_bodies, markers
from messages_api.aiohttp_client import AiohttpClient
from messages_api.authentication import Presented
from messages_api.bindings import Bindings, Bound
from messages_api.caller_limits import CallerLimits
from messages_api.carried import Name
from messages_api.intake import Intake
from messages_api.lean_client import LeanClient
from messages_api.passed_keys import PassedKeys
from messages_api.providers import providers
from messages_api.reading_on import ReadingOn
from messages_api.turns import Turns
from messages_api.upstream import UpstreamClient, tls_context
from usage import pricing, spool
from usage.admission import Writer
from usage.free_call_counter import FreeCallCounter
from usage.parallel import ParallelLimits
from usage.pricing import ModelPrice, PriceBook
from usage.refusal_log import RefusalLog

if TYPE_CHECKING:
    from messages_api.call import Call
    from messages_api.routing import Target
    from messages_api.stream import EventStream

logger = logging.getLogger(__name__)

CUT = "SELECT id FROM keys_virtualkey WHERE cut_streams_at > clock_timestamp() - interval '1 minute'"
# Once a second; what isn't written by then is found by the upkeep of its table.
ERRAND_TRIES = 600
HOLD_MORE = "SELECT usage_hold_more(%s, %s, %s, %s, %s, %s, %s)"
DATABASE_AWAY = "The gateway's database is away: no call can be admitted until it is back."


class Answering:
    """Within, the database is asked for a caller.

    Raises:
        GatewayError: 503, it is away; 529, too many wait for it.
    """

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, TooManyWait):
            raise errors.overloaded() from None
        if isinstance(error, psycopg.Error):
            raise errors.unavailable(DATABASE_AWAY, reason="database_away", retry_after=2) from None


answering = Answering()


class Runtime:
    """The open things of one web process; made and started by the ASGI lifespan."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self.reader = Reader("gateway reader")
        self.records = Reader("gateway records")
        self.directory = Directory(self.reader)
        self.model_lists = ModelLists(self.reader)
        self.writer = Writer(
            queue=configuration.admission_queue,
            patience=configuration.admission_seconds,
            lease=configuration.lease_seconds,
            retained=configuration.retained_seconds,
            waits=configuration.arbiter_away == "refuse",
        )
        self.client = upstream_client(configuration, destinations.current(kept=lambda: self.directory.kept_hosts))
        self.providers = providers(self.client)
        self.refusals = RefusalLog(self.reader)
        self.free_calls = FreeCallCounter(self.reader)
        self.caller_limits = CallerLimits()
        self.passed_keys = PassedKeys(configuration.passthrough_failures)
        self.accounts = Accounts(self.reader)
        self.cooldowns = Cooldowns(self.records)
        self.performances = Performances(self.reader)
        self.default_timeouts = Timeouts(
            configuration.upstream_connect_seconds,
            configuration.upstream_first_byte_seconds,
            configuration.upstream_between_bytes_seconds,
            configuration.upstream_total_seconds,
        )
        self.bindings = Bindings(self.reader)
        self.book: PriceBook | None = None
        self.book_revision = 0
        self.reading_prices = asyncio.Lock()
        self.streams: set[EventStream] = set()
        # Credentials that the arbiter let in when it was last asked; kept where they may matter.
        self.trusted: set[int] = set()
        self.lets_pass = configuration.arbiter_away == "pass"
        self.calls: defaultdict[int, set[Call]] = defaultdict(set)
        self.tasks: list[asyncio.Task[None]] = []
        self.errands: set[asyncio.Task[None]] = set()
        self.reading_on = ReadingOn(configuration.read_on_calls, configuration.read_on_seconds)
        # Provider keys that are tried in our own name.
        self.probing: set[int] = set()
        self.reading_batches = Turns([None])
        self.intake = Intake(
            configuration.body_memory_bytes,
            configuration.body_memory_bytes_per_key,
            configuration.admission_seconds,
            ParallelLimits(self.reader).of,
        )

    async def start(self) -> None:
        """Open what must be there before the first call.

        Raises:
            psycopg.OperationalError: the database can't be reached.
        """
        await self.writer.start()
        try:
            await sync_to_async(spool.replay)()
        except (DatabaseError, OSError) as error:
            logger.error("the spool waits for the next start (%s)", type(error).__name__)
        await self._read_prices()
        loop = asyncio.get_running_loop()
        self.tasks = [loop.create_task(self._tend_streams()), loop.create_task(self._sweep())]

    async def stop(self) -> None:
        """Close everything; every settlement is written, or spooled."""
        for task in self.tasks:
            task.cancel()
        await self.reading_on.stop()
        for call in [call for calls in self.calls.values() for call in calls]:
            logger.warning("call %s is still open", call.id)
        await self.writer.stop()
        await self.refusals.flush()
        await self.free_calls.flush()
        await self.bindings.close()
        await self.client.close()
        await long_bodies.close()
        for task in self.errands:
            task.cancel()
        await asyncio.gather(*self.errands, return_exceptions=True)
        await self.records.close()
        await self.reader.close()

    # Who calls

    async def identify(self, presented: Presented) -> KnownKey:
        """The virtual key that a request's credentials open: the first that we handed out.

        Raises:
            GatewayError: 401, none of them; 503, the database is away and it isn't known yet.
        """
        with answering:
            if presented.provider_secret:
                return await self._passed_through(presented)
            for secret in presented.secrets:
                key = await self.directory.find(secret)
                if key is not None:
                    return key
        raise errors.unauthenticated("This credential was never handed out, or was deleted.", reason="unknown_key")

    async def identify_anew(self, presented: Presented, than: KnownKey) -> KnownKey:
        """The same, newer than what turned out to be stale.

        Raises:
            GatewayError: as `identify`.
        """
        with answering:
            if presented.provider_secret:
                await self.directory.passed_through(than=than)
            for secret in presented.secrets:
                await self.directory.refresh(secret, than=than)
        return await self.identify(presented)

    def caller(self, key: KnownKey, presented: Presented) -> Hashable:
        """By whom turns are taken: callers with a provider's own key have one virtual key together."""
        return self.passed_keys.digest(presented.provider_secret) if presented.provider_secret else key.id

    def enter(self, key: KnownKey, presented: Presented, *, own_limits: bool) -> Callable[[], None]:
        """A call begins that costs nothing, or has a provider's own key; what is to be called at its end.

        Args:
            own_limits: the key's own limits bound it, too; or else it is counted apart.

        Raises:
            GatewayError: 429, the caller has made too many lately, or too many run.
        """
        if presented.provider_secret:
            rpm, parallel = self.configuration.passthrough_rpm, self.configuration.passthrough_parallel
            return self.caller_limits.enter(self.caller(key, presented), rpm, parallel, "calls")
        rpm, parallel = self.configuration.free_rpm, self.configuration.free_parallel
        if own_limits:
            rpm, parallel = min(rpm, key.rpm or rpm), min(parallel, key.parallel or parallel)
        return self.caller_limits.enter((key.id, own_limits), rpm, parallel, "calls that cost nothing")

    async def _passed_through(self, presented: Presented) -> KnownKey:
        key = await self.directory.passed_through()
        if key is None:
            raise errors.unavailable(
                "The customer for provider's own keys is not set up: start the gateway anew.", reason="no_passthrough"
            )
        own = KnownProviderKey(
            None,
            "(passed through)",
            "anthropic",
            self.configuration.passthrough_base_url.rstrip("/"),
            presented.provider_secret,
            (),
        )
        await self.passed_keys.check(self.providers[own.provider], own, presented.address)
        return key.with_route(own)

    async def bound(self, key: KnownKey, carried: Sequence[Name]) -> list[Bound]:
        """What a request carries that only one account understands.

        Raises:
            GatewayError: 503, the database is away and it isn't known yet.
        """
        with answering:
            return await self.bindings.of_request(key, carried)

    async def bound_names(self, key: KnownKey, names: Sequence[Name]) -> list[Bound]:
        """Those of these that only one account understands.

        Raises:
            GatewayError: 503, the database is away and it isn't known yet.
        """
        with answering:
            return await self.bindings.of_names(key, names)

    async def marked_names(self, key: KnownKey) -> frozenset[str]:
        """The names that look like one with a client's marker (markers.py) and are an alias's, or a model's that the
        key leads to: one that was written out for a provider key, or that a provider lists. In lower case."""
        names = {*key.aliases, *await self.listed_names(key)}
        for provider_key, _ in key.routes:
            names.update(provider_key.model_patterns)
        return frozenset(fold(name) for name in names if name.endswith(markers.END))

    async def default_fallbacks(self, key: KnownKey) -> Sequence[str]:
        """The models that Anthropic may choose as fallbacks, as far as they are known: any Claude of its newest
        generations that has a price, or that a provider of this key lists."""
        listed = await self.listed_names(key)
        return (*pricing.current_models(), *(name for name in listed if pricing.is_current(name)))

    async def listed_names(self, key: KnownKey) -> list[str]:
        """What the providers of this key list, as far as that is known while the database is away."""
        try:
            lists = await self.model_lists.at(self.directory.catalogue_revision)
        except psycopg.Error:
            lists = self.model_lists.lists
        return [model.id for provider_key, _ in key.routes for model in lists.get(provider_key.id or 0, ())]

    # What it costs

    def price(self, provider: str, model: str, at: datetime) -> ModelPrice:
        """The price of a model at that moment.

        Raises:
            UnpricedModel: it has none, and the policy is to refuse.
        """
        assert self.book is not None
        return self.book.price(provider, model, at)

    async def refresh_prices(self) -> None:
        """Read our own prices again where the catalogue has moved since."""
        if self.book_revision != self.directory.catalogue_revision:
            with answering:
                async with self.reading_prices:
                    if self.book_revision != self.directory.catalogue_revision:
                        await self._read_prices()

    async def _read_prices(self) -> None:
        revision = self.directory.catalogue_revision
        rows = await self.reader.fetch(pricing.PRICES_SQL)
        self.book = pricing.build(dict(zip(pricing.PRICE_COLUMNS, row, strict=True)) for row in rows)
        self.book_revision = revision

    # What lives at providers

    async def record(self, query: str, values: Values) -> list[tuple[Any, ...]]:
        """Ask or write the tables of what lives at providers (messages_api.models).

        Raises:
            GatewayError: 503, the database is away.
        """
        with answering:
            return await self.records.fetch(query, values)

    def keep_recording(self, query: str, values: Values) -> None:
        """Write to these tables as soon as the database is there; it may take until after the answer."""

        async def errand() -> None:
            for _ in range(ERRAND_TRIES):
                try:
                    await self.records.fetch(query, values)
                    return
                except (psycopg.DataError, psycopg.IntegrityError) as error:
                    logger.error("a record can't be written (%s)", type(error).__name__)
                    return
                except psycopg.Error as error:
                    logger.warning("a record waits to be written (%s)", type(error).__name__)
                    await asyncio.sleep(1)

        self.run_errand(errand())

    def run_errand(self, errand: Coroutine[Any, Any, None]) -> None:
        """Run what nothing waits for, until the process ends."""
        task = asyncio.get_running_loop().create_task(errand)
        self.errands.add(task)
        task.add_done_callback(self.errands.discard)

    def timeouts(self, provider_key: KnownProviderKey) -> Timeouts:
        """How long a provider may take, by its key's own settings and the deployment's."""
        own = provider_key.timeouts
        if own == DEPLOYMENTS:
            return self.default_timeouts
        return Timeouts(
            *(mine or default for mine, default in zip(astuple(own), astuple(self.default_timeouts), strict=True))
        )

    async def refresh_cooldowns(self) -> None:
        """Read which provider keys cool down.

        Raises:
            GatewayError: 503, the database is away.
        """
        with answering:
            await self.cooldowns.read()

    async def hold_more(self, call: Call, target: Target, cost: Decimal, tokens: int, most_tokens: int) -> bool:
        """Have the arbiter hold more for a call that is to be made again, at this target; whether it does. As for
        usage_hold_more in usage/sql/attempts.sql."""
        provider_key = target.provider_key
        values = [call.id, provider_key.provider, provider_key.id, target.model, cost, tokens, most_tokens]
        try:
            rows = await self.records.fetch(HOLD_MORE, values)
        except psycopg.Error as error:
            logger.warning("call %s is not tried again (%s)", call.id, type(error).__name__)
            return False
        return bool(rows[0][0])

    # Calls under way

    def remember(self, call: Call) -> None:
        """A call was admitted."""
        if self.lets_pass:
            self.trusted.add(call.key.credential)
        self.calls[call.key.id].add(call)

    def forget(self, call: Call) -> None:
        """A call was settled."""
        calls = self.calls.get(call.key.id)
        if calls is not None:
            calls.discard(call)
            if not calls:
                del self.calls[call.key.id]

    async def _tend_streams(self) -> None:
        """Pings and time-outs; no database is asked for them."""
        configuration = self.configuration
        pause = min(1.0, configuration.ping_seconds / 4)
        while True:
            await asyncio.sleep(pause)
            now = time.monotonic()
            for stream in list(self.streams):
                stream.tend(now, configuration.ping_seconds)

    async def _sweep(self) -> None:
        """Every second, away from any request: write refusals, counts and accounts, and look for streams to cut."""
        while True:
            await asyncio.sleep(1)
            try:
                await self.refusals.flush()
                await self.free_calls.flush()
                await self.accounts.flush()
                await self.cooldowns.read()
                await self.performances.read()
                if self.calls:
                    await self._cut()
            except psycopg.Error as error:
                logger.warning("the database is away (%s)", type(error).__name__)
            except Exception:
                logger.exception("sweeping failed")

    async def _cut(self) -> None:
        for (key,) in await self.reader.fetch(CUT):
            for call in list(self.calls.get(key, ())):
                call.cut = True
                call.http_request.task.cancel()


def upstream_client(configuration: Configuration, allowed: Destinations) -> UpstreamClient:
    """The HTTP client that the deployment chose; a proxy needs aiohttp."""
    tls = tls_context(configuration.ca_bundle)
    connect, first_byte = configuration.upstream_connect_seconds, configuration.upstream_first_byte_seconds
    if configuration.outbound_proxy or configuration.upstream_client == "aiohttp":
        return AiohttpClient(
            tls=tls,
            destinations=allowed,
            proxy=configuration.outbound_proxy,
            connect_seconds=connect,
            first_byte_seconds=first_byte,
        )
    return LeanClient(tls=tls, destinations=allowed, connect_seconds=connect, first_byte_seconds=first_byte)


_current: Runtime | None = None


def current() -> Runtime:
    """This process's runtime."""
    assert _current is not None, "the ASGI lifespan has not started"
    return _current


async def start() -> None:
    """Make and start this process's runtime."""
    global _current
    runtime = Runtime(settings.CONFIGURATION)
    await runtime.start()
    _current = runtime


async def stop() -> None:
    """Stop it."""
    if _current is not None:
        await _current.stop()
