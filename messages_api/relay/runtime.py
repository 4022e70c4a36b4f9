"""The objects that a web process keeps open, and how they are put together."""

from __future__ import annotations

import asyncio
import logging

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError

from keys import destinations
from keys.accounts import Accounts
from keys.adaptive_weights import Performances
from keys.connection import Reader
from keys.cooldowns import Cooldowns
from keys.directory import Directory
from keys.model_lists import ModelLists
from messages_api.callers.guesses import Guesses
from messages_api.callers.passed_keys import PassedKeys
from messages_api.callers.process_limits import CallerLimits
from messages_api.process import long_bodies
from messages_api.process.allowances import Allowances
from messages_api.process.deployment import Deployment
from messages_api.process.errands import Errands
from messages_api.process.memory import Trimmer
from messages_api.process.open_calls import OpenCalls
from messages_api.process.outbound import upstream_client
from messages_api.process.patience import Patience
from messages_api.process.prices import Prices
from messages_api.process.records import Records
from messages_api.process.sweeping import sweep
from messages_api.process.taking_turns import Turns
from messages_api.providers import providers
from messages_api.relay import call_log, traces
from messages_api.relay.bindings import Bindings
from messages_api.relay.known_models import KnownModels
from messages_api.relay.passing import Passing
from messages_api.relay.reading_on import ReadingOn
from messages_api.relay.refused_keys import RefusedKeys
from messages_api.request import batch_body
from messages_api.server.intake import Intake
from usage import pricing, spool
from usage.credential_uses import CredentialUses
from usage.figures import HERE
from usage.free_call_counter import FreeCallCounter
from usage.parallel import ParallelLimits
from usage.refusal_log import RefusalLog
from usage.writer import Writer

logger = logging.getLogger(__name__)


class Runtime:
    """The open objects of one web process. The ASGI lifespan creates and starts it."""

    def __init__(self, configuration: Deployment) -> None:
        self.configuration = configuration
        self.allowances: Allowances = configuration.allowances

        # PostgreSQL
        self.reader = Reader("gateway reader")
        self.records = Records("gateway records")
        self.errands = Errands(self.records)
        self.writer = Writer(
            queue=configuration.admission_queue,
            patience=configuration.admission_seconds,
            lease=configuration.lease_seconds,
            retained=configuration.retained_seconds,
            waits=configuration.arbiter_away == "refuse",
        )

        # Who calls
        self.directory = Directory(self.reader)
        self.caller_limits = CallerLimits()
        self.guesses = Guesses()
        self.passed_keys = PassedKeys(configuration.passthrough_failures)
        self.refusals = RefusalLog(self.reader)
        self.uses = CredentialUses(self.reader)
        self.intake = Intake(
            configuration.body_memory_bytes,
            configuration.body_memory_bytes_per_key,
            configuration.admission_seconds,
            ParallelLimits(self.reader).of,
        )
        self.reading_batches = Turns(batch_body.PLACES)

        # Where calls go, and what they cost
        self.bindings = Bindings(self.reader)
        self.models = KnownModels(ModelLists(self.reader), self.directory)
        self.performances = Performances(self.reader)
        self.cooldowns = Cooldowns(self.records)
        self.prices = Prices(self.reader, self.directory)

        # Calls under way
        self.open_calls = OpenCalls(self.reader)
        self.passing = Passing(configuration.arbiter_away == "pass", self.writer, self.open_calls)
        self.free_calls = FreeCallCounter(self.reader)
        self.reading_on = ReadingOn(configuration.read_on_calls, configuration.read_on_seconds)

        # Providers
        allowed = destinations.current(kept=lambda: self.directory.kept_hosts)
        self.client = upstream_client(configuration, allowed)
        self.providers = providers(self.client)
        self.patience = Patience(configuration)
        self.accounts = Accounts(self.reader)
        self.refused_keys = RefusedKeys(self.providers, self.cooldowns, self.errands)

        self.logs_calls = call_log.wanted()
        self.traces = traces.of(configuration)
        HERE.gauges["gateway_open_calls"] = lambda: sum(map(len, self.open_calls.calls.values()))
        HERE.gauges["gateway_writer_queue"] = lambda: len(self.writer.admissions) + len(self.writer.settlements)
        self.tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Open everything that the first call needs.

        Raises:
            psycopg.OperationalError: the database can't be reached.
        """
        await self.writer.start()
        try:
            await sync_to_async(spool.replay)()
        except (DatabaseError, OSError) as error:
            logger.error("the spool could not be replayed; the next start tries again (%s)", type(error).__name__)
        await self.prices.read()
        pricing.catalogue()  # otherwise the first call waits until it is loaded
        steps = (
            Trimmer().step,
            self.refusals.flush,
            self.free_calls.flush,
            self.uses.flush,
            self.accounts.flush,
            self.cooldowns.read,
            self.performances.read,
            self.open_calls.cut,
        )
        loop = asyncio.get_running_loop()
        tending = self.open_calls.tend(self.configuration.ping_seconds)
        self.tasks = [loop.create_task(tending), loop.create_task(sweep(steps))]
        if self.traces is not None:
            self.tasks.append(loop.create_task(self.traces.export.run()))

    async def stop(self) -> None:
        """Close everything, also what belongs to the process. Every settlement is written or spooled."""
        await self.close()
        await long_bodies.close()

    async def close(self) -> None:
        """Close what this runtime has opened. Every settlement is written or spooled."""
        for task in self.tasks:
            task.cancel()
        await self.reading_on.stop()
        self.open_calls.warn()
        await self.writer.stop()
        if self.traces is not None:
            await self.traces.export.close()
        await self.refusals.flush()
        await self.free_calls.flush()
        await self.uses.flush()
        await self.bindings.close()
        await self.client.close()
        await self.errands.stop()
        await self.records.close()
        await self.reader.close()


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
