"""Admission and settlement, grouped: one writer a process takes whatever is waiting and asks the arbiter once for all.

While one group is under way the next one gathers, so the cost of a call falls as load rises. What the writer promises:

- A call that was admitted has a committed hold. A waiter that went away leaves none: the writer owns a hold until its
  waiter takes it, and releases it in the next group if the waiter is gone.
- A settlement is written once, whatever happens to the connection; while the database is away it waits in memory, and
  if the process must stop first it goes to a spool file that the next start replays.
- One member that can't be written doesn't sink its group.
- Calls that were let through while the database was away are admitted before they are settled.

usage/admission.py has the statements, and usage/heartbeat.py keeps the process alive.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from datetime import UTC, datetime
from uuid import UUID

import msgspec
import psycopg

from keys.connection import connect
from usage import functions, spool
from usage.admission import (
    GROUP,
    MEMBERS_FAULT,
    PASSING,
    Group,
    Moved,
    Replaced,
    Waiting,
    admit_late,
    ask,
    has_verdict,
    interrupt,
    leave,
    move_fence,
    register,
)
from usage.arbitration import Admission, ArbiterAway, Overloaded, Passed, Settlement, Verdict
from usage.heartbeat import keep_alive
from usage.request_ids import new_id

logger = logging.getLogger(__name__)
CONNECT_SECONDS = 10
# How long a settlement waits for an admission to share its transaction.
COMPANY_SECONDS = 0.003
# The counters that apply may change while a group waits for its locks, but not for ever.
MOST_MOVES = 50


class Writer:
    """The process's way to the arbiter. `admit` waits for a verdict; `settle` only queues.

    Args:
        queue: admissions that may wait at once; beyond it they are refused as overload.
        patience: seconds that an admission may wait for the arbiter.
        lease: seconds after its last heartbeat at which this process is taken for dead.
        retained: seconds after which budgets get back what was retained of calls whose end is not known.
        waits: whether admissions wait although the database is known to be away.
    """

    def __init__(self, *, queue: int, patience: float, lease: float, retained: float, waits: bool = True) -> None:
        self.queue = queue
        self.patience = patience
        self.lease = lease
        self.retained = retained
        self.waits = waits
        self.away = False
        self.late: deque[Passed] = deque()
        self.journal = spool.Journal()
        self.settlements: deque[Settlement] = deque()
        self.releases: deque[UUID] = deque()
        self.commits: dict[UUID, asyncio.Event] = {}
        self.admissions: deque[Waiting] = deque()
        self.under_way: list[Waiting] = []
        self.wake = asyncio.Event()
        self.asked = asyncio.Event()
        self.idle = asyncio.Event()
        self.process = new_id()
        self.registered = False
        self.fence = 0
        self.connection: psycopg.AsyncConnection | None = None
        self.stopping = False
        self.tasks: list[asyncio.Task[None]] = []

    # For the request's task

    async def admit(self, admission: Admission) -> Verdict:
        """The arbiter's verdict: `admitted`, and the hold is committed, or why not.

        Raises:
            Overloaded: too many wait already.
            ArbiterAway: the database didn't answer in time.
        """
        if self.away and not self.waits:
            raise ArbiterAway
        if len(self.admissions) >= self.queue:
            raise Overloaded
        waiting = Waiting(admission, asyncio.get_running_loop().create_future(), time.monotonic())
        self.admissions.append(waiting)
        self.asked.set()
        self.wake.set()
        try:
            return await waiting.answer
        except asyncio.CancelledError:
            # The writer sees a cancelled future; an answer that came just before is released here.
            if has_verdict(waiting.answer):
                self.release(admission.id)
            raise

    def admit_afterwards(self, admission: Admission) -> None:
        """Keep a call that is let through unasked: in the spool when this returns, and admitted when the database is
        back, before it is settled.

        Raises:
            OSError: it can't be kept.
        """
        late = Passed(admission, datetime.now(UTC))
        self.journal.write(msgspec.json.encode(late))
        if not self.late:
            logger.error("the arbiter is away: calls of credentials that are known pass, and are admitted afterwards")
        self.late.append(late)
        self.idle.clear()
        self.wake.set()

    def settle(self, settlement: Settlement, committed: asyncio.Event | None = None) -> None:
        """Queue how a call ended. It is written within milliseconds, or as soon as the database is back.

        Args:
            committed: is set when it is written.
        """
        self.settlements.append(settlement)
        if committed is not None:
            self.commits[settlement.id] = committed
        self.idle.clear()
        self.wake.set()

    def release(self, call: UUID) -> None:
        """Queue giving back the hold of a call that was never made: no row, no cost."""
        self.releases.append(call)
        self.idle.clear()
        self.wake.set()

    # Life of the process

    async def start(self) -> None:
        """Register the process and start writing.

        Raises:
            psycopg.OperationalError: the database can't be reached.
            ArbiterMissing: it lacks the functions of this version.
        """
        await self._connect()
        self.idle.set()
        loop = asyncio.get_running_loop()
        heartbeat = keep_alive(lambda: self.process, lease=self.lease, retained=self.retained)
        self.tasks = [loop.create_task(work) for work in (self._write_groups(), heartbeat, self._watch_patience())]

    async def stop(self, seconds: float = 10) -> None:
        """Write what is queued, spool what can't be written in that time, and leave."""
        self.stopping = True
        self.asked.set()
        self.wake.set()
        try:
            await asyncio.wait_for(self.idle.wait(), seconds)
        except TimeoutError:
            logger.error("the database is away")
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.settlements:
            # One that was in doubt when the writer was stopped is queued twice.
            unique = {settlement.id: settlement for settlement in self.settlements}
            logger.error("%d settlements go to the spool", len(unique))
            spool.keep([msgspec.json.encode(settlement) for settlement in unique.values()])
        self.journal.close()
        if self.connection is not None:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await leave(self.connection, self.process)
            except (psycopg.Error, TimeoutError):
                logger.warning("could not sign off; the reaper will")
            await self.connection.close()

    async def _connect(self) -> None:
        """Open a connection and take the writer's right for it, so that nothing of an older one can still land."""
        connection = await connect("gateway writer")
        try:
            if not self.registered:
                await functions.check(connection)
            fence = None
            if self.registered:
                fence = await move_fence(connection, self.process)
            if fence is None:
                await self._register(connection)
            else:
                self.fence = fence
        except BaseException:
            await connection.close()
            raise
        self.connection = connection

    async def _register(self, connection: psycopg.AsyncConnection) -> None:
        if self.registered:
            logger.warning("this process was taken for dead; it goes on under a new id")
        self.process = new_id()
        await register(connection, self.process)
        self.registered, self.fence = True, 1

    async def _reconnect(self) -> None:
        """Until there is a connection; meanwhile waiters get their answer when their patience ends."""
        if self.connection is not None:
            connection, self.connection = self.connection, None
            await connection.close()
        delay = 0.05
        while True:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await self._connect()
                self.away = False
                return
            except (psycopg.Error, TimeoutError) as error:
                self.away = True
                if not self.waits:
                    self._lose_patience(time.monotonic())
                logger.warning("the database is away (%s)", type(error).__name__)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 1)

    async def _watch_patience(self) -> None:
        """Answer waiters that have waited too long, in the queue or in a group that hangs; this needs no database."""
        while True:
            await asyncio.sleep(min(0.25, self.patience / 4))
            self._lose_patience(time.monotonic() - self.patience)
            while self.admissions and self.admissions[0].answer.done():
                self.admissions.popleft()

    def _lose_patience(self, with_who_came_before: float) -> None:
        for waiting in (*self.under_way, *self.admissions):
            if waiting.since < with_who_came_before and not waiting.answer.done():
                self.away = True
                waiting.answer.set_exception(ArbiterAway())

    # The writer

    async def _write_groups(self) -> None:
        while True:
            if self.settlements and not self.admissions and not self.stopping:
                await self._wait_for_company()
            group = self._gather()
            if not len(group) and not self.late:
                self.away = False  # as far as is known: nothing waits for it
                self.idle.set()
                self.wake.clear()
                await self.wake.wait()
                continue
            self.under_way = group.admissions
            try:
                if self.late:
                    await self._admit_late()
                await self._write(group)
            except asyncio.CancelledError:
                self.settlements.extendleft(reversed(group.settlements))
                self.releases.extend(group.releases)
                raise
            except Exception:
                # Whatever it is, the writer must live: settle later, admit no call.
                logger.exception("a group failed")
                self._doubt(group)
                await asyncio.sleep(0.1)
            finally:
                self.under_way = []

    async def _wait_for_company(self) -> None:
        """A settlement alone waits a moment: with the next admission it costs no transaction of its own."""
        self.asked.clear()
        try:
            async with asyncio.timeout(COMPANY_SECONDS):
                await self.asked.wait()
        except TimeoutError:
            pass

    def _gather(self) -> Group:
        settlements = [self.settlements.popleft() for _ in range(min(len(self.settlements), GROUP))]
        releases = [self.releases.popleft() for _ in range(min(len(self.releases), GROUP))]
        admissions: list[Waiting] = []
        while self.admissions and len(admissions) < GROUP:
            waiting = self.admissions.popleft()
            if not waiting.answer.done():
                admissions.append(waiting)
        return Group(settlements, releases, admissions)

    async def _write(self, group: Group, *, again: bool = False) -> None:
        """Write a group, whatever it takes: until it is written, or its members are found to be at fault.

        A group that failed may have been committed all the same. The next connection moves the fence, so that it
        can't land later, and asking again changes nothing that was done.

        Args:
            again: it may have been committed already.
        """
        moves = 0
        while len(group):
            if self.connection is None:
                await self._reconnect()
            if self.late:
                await self._admit_late()
            try:
                assert self.connection is not None
                verdicts = await ask(self.connection, self.process, self.fence, group, again=again)
            except MEMBERS_FAULT as error:
                await self._split(group, error, again=again)
                return
            except Moved:
                moves += 1
                if moves > MOST_MOVES:
                    raise
                group.let_go()
            except (Replaced, psycopg.Error, TimeoutError) as error:
                logger.warning("a group waits to be written (%s)", type(error).__name__)
                if not isinstance(error, PASSING):
                    await self._reconnect()
                await asyncio.sleep(0.01)
                group.let_go()
                again = True
            else:
                self._tell(group, verdicts)
                return

    async def _admit_late(self) -> None:
        """Admit what was let through, whatever it takes: a group may have its settlements."""
        size, admitted, buried = GROUP, 0, 0
        while self.late:
            if self.connection is None:
                await self._reconnect()
            assert self.connection is not None
            some = list(itertools.islice(self.late, size))
            try:
                await admit_late(self.connection, self.process, some)
            except (psycopg.OperationalError, TimeoutError) as error:
                logger.warning("calls that passed wait to be admitted (%s)", type(error).__name__)
                if not isinstance(error, PASSING):
                    await self._reconnect()
                await asyncio.sleep(0.01)
                continue
            except psycopg.Error as error:
                if len(some) > 1:
                    size = 1  # to find it
                    continue
                logger.error("a call that passed can't be admitted: %s", type(error).__name__)
                spool.bury(msgspec.json.encode(some[0]), type(error).__name__)
                buried += 1
            else:
                admitted += len(some)
            for _ in some:
                self.late.popleft()
        self.journal.done()
        logger.warning("the arbiter is back: %d calls that had passed are admitted", admitted)
        if buried:
            logger.error("%d calls that had passed are dead letters in the spool folder", buried)

    def _tell(self, group: Group, verdicts: dict[UUID, Verdict]) -> None:
        self.away = False
        for waiting in group.admissions:
            verdict = verdicts.get(waiting.admission.id)
            if waiting.answer.done():
                if verdict == "admitted" and waiting.admission.hold:
                    self.release(waiting.admission.id)
            elif verdict is None:
                waiting.answer.set_exception(ArbiterAway())
            else:
                waiting.answer.set_result(verdict)
        if self.commits:
            for settlement in group.settlements:
                if committed := self.commits.pop(settlement.id, None):
                    committed.set()
        if len(verdicts) > len(group.admissions):
            for settlement in group.settlements:
                self._note(settlement, verdicts.get(settlement.id, "settled"))

    def _note(self, settlement: Settlement, verdict: str) -> None:
        if verdict == "adjusted":
            logger.warning("call %s was settled after it had been taken for interrupted", settlement.id)
        elif verdict == "unknown":
            logger.error("call %s has neither hold nor row: kept as a dead letter", settlement.id)
            spool.bury(msgspec.json.encode(settlement), "neither hold nor row")

    async def _split(self, group: Group, error: psycopg.Error, *, again: bool) -> None:
        """A member can't be written: find it by halving, so that the others are."""
        if len(group) > 1:
            for half in group.halves():
                await self._write(half, again=again)
            return
        logger.error("a member of a group can't be written: %s", type(error).__name__)
        for settlement in group.settlements:
            spool.bury(msgspec.json.encode(settlement), type(error).__name__)
            await self._interrupt(settlement.id)
        for waiting in group.admissions:
            if not waiting.answer.done():
                waiting.answer.set_exception(ArbiterAway())

    async def _interrupt(self, call: UUID) -> None:
        """End the hold of a call whose settlement is a dead letter: it is charged now, and may be adjusted by hand."""
        if self.connection is not None:
            try:
                await interrupt(self.connection, call)
            except psycopg.Error as fault:
                logger.error("the hold of call %s stays until this process ends: %s", call, type(fault).__name__)

    def _doubt(self, group: Group) -> None:
        """The group may have been written or not: settle again, and release what may have been admitted."""
        self.settlements.extendleft(reversed(group.settlements))
        self.releases.extend(group.releases)
        for waiting in group.admissions:
            if has_verdict(waiting.answer):
                continue
            self.releases.append(waiting.admission.id)
            if not waiting.answer.done():
                waiting.answer.set_exception(ArbiterAway())
        self.wake.set()
