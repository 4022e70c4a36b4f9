"""Groups admissions and settlements: each process has one writer, which asks the arbiter once for all waiting calls.

While one group is under way, the next one gathers, so the cost per call falls as load rises. The writer guarantees:

- An admitted call has a committed hold. If the waiting task was cancelled, the writer releases the hold in the next
group.
- A settlement is written exactly once, even if the connection is lost. While the database is unavailable, it waits in
memory. If the process stops before that, it goes to a spool file that the next start replays.
- If one member can't be written, the rest of its group still is.
- Calls that passed while the database was unavailable are admitted before they are settled.

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
    ASK,
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
from usage.figures import HERE
from usage.heartbeat import keep_alive
from usage.link import Link
from usage.request_ids import new_id

logger = logging.getLogger(__name__)
CONNECT_SECONDS = 10
# How long a settlement waits for an admission to share its transaction.
COMPANY_SECONDS = 0.003
# The distance of groups (seconds, from begin to begin) after one with at least `BUSY` admissions. Calls that come alone
# or in pairs don't wait.
GATHER_SECONDS = 0.004
BUSY = 4
# How often a group is asked again because the counters that apply changed while it waited for its locks.
MOST_MOVES = 50


class Writer:
    """Sends a process's questions to the arbiter. `admit` waits for a verdict; `settle` only queues.

    Args:
        queue: maximum number of waiting admissions; further ones are refused as overload.
        patience: seconds that an admission may wait for the arbiter.
        lease: seconds after its last heartbeat at which this process is declared dead.
        retained: seconds after which budgets get back what was retained for calls without a known end.
        waits: whether admissions wait although the database is known to be unavailable.
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
        self.link: Link | None = None
        # When the last group began, and whether it had company.
        self.last_began, self.busy = 0.0, False
        self.stopping = False
        self.tasks: list[asyncio.Task[None]] = []

    # Called by the request's task

    async def admit(self, admission: Admission) -> Verdict:
        """Ask for an admission. Returns the arbiter's verdict: `admitted` (the hold is committed), or the reason why
        not.

        Raises:
            Overloaded: too many admissions wait already.
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
        """Store a call that passes without an admission. It is in the spool when this returns. When the database is
        back, it is admitted, and then settled.

        Raises:
            OSError: it can't be stored.
        """
        late = Passed(admission, datetime.now(UTC))
        self.journal.write(msgspec.json.encode(late))
        if not self.late:
            logger.error("the database is unavailable: calls with known credentials pass, and are admitted afterwards")
        self.late.append(late)
        self.idle.clear()
        self.wake.set()

    def settle(self, settlement: Settlement, committed: asyncio.Event | None = None) -> None:
        """Queue how a call ended. It is written within milliseconds, or as soon as the database is back.

        Args:
            committed: an event that is set when the settlement is written.
        """
        self.settlements.append(settlement)
        if committed is not None:
            self.commits[settlement.id] = committed
        self.idle.clear()
        self.wake.set()

    def release(self, call: UUID) -> None:
        """Queue the release of the hold of a call that was never made. It gets no row and costs nothing."""
        self.releases.append(call)
        self.idle.clear()
        self.wake.set()

    # Start and stop

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
        """Write what is queued, spool what can't be written in that time, and unregister the process."""
        self.stopping = True
        self.asked.set()
        self.wake.set()
        try:
            await asyncio.wait_for(self.idle.wait(), seconds)
        except TimeoutError:
            logger.error("the database is unavailable")
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.settlements:
            # A settlement is queued twice if its group may have been committed when the writer was stopped.
            unique = {settlement.id: settlement for settlement in self.settlements}
            logger.error("%d settlements go to the spool", len(unique))
            spool.keep([msgspec.json.encode(settlement) for settlement in unique.values()])
        self.journal.close()
        if self.connection is not None:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    await leave(self.connection, self.process)
            except (psycopg.Error, TimeoutError):
                logger.warning("could not unregister this process; the reaper will")
            await self._disconnect()

    async def _connect(self) -> None:
        """Open a connection, and move the fence to it, so that no group of an older connection can be committed."""
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
        self.connection, self.link = connection, Link(connection, ASK.encode())

    async def _disconnect(self) -> None:
        if self.link is not None:
            self.link.close()
        if self.connection is not None:
            connection, self.connection, self.link = self.connection, None, None
            await connection.close()

    async def _register(self, connection: psycopg.AsyncConnection) -> None:
        if self.registered:
            logger.warning("this process was declared dead; it goes on under a new id")
        self.process = new_id()
        await register(connection, self.process)
        self.registered, self.fence = True, 1

    async def _reconnect(self) -> None:
        """Try until there is a connection. Meanwhile, waiting tasks get an error when their patience ends."""
        await self._disconnect()
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
                logger.warning("the database is unavailable (%s)", type(error).__name__)
            await asyncio.sleep(delay)
            delay = min(delay * 2, 1)

    async def _watch_patience(self) -> None:
        """Answer tasks that have waited too long, in the queue or in a group under way. This needs no database."""
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
            await self._wait_for_company()
            group = self._gather()
            if not len(group) and not self.late:
                self.away = False  # nothing waits for the database
                self.idle.set()
                self.wake.clear()
                await self.wake.wait()
                continue
            self.under_way = group.admissions
            self.last_began, self.busy = time.monotonic(), len(group.admissions) >= BUSY
            try:
                if self.late:
                    await self._admit_late()
                await self._write(group)
            except asyncio.CancelledError:
                self.settlements.extendleft(reversed(group.settlements))
                self.releases.extend(group.releases)
                raise
            except Exception:
                # The writer must go on after any fault: settle later, and admit none of these calls.
                logger.exception("a group failed")
                self._doubt(group)
                await asyncio.sleep(0.1)
            finally:
                self.under_way = []

    async def _wait_for_company(self) -> None:
        """Let more calls gather: groups keep a distance while many calls come at once. Settlements wait a moment for an
        admission, because otherwise they need a transaction of their own."""
        if self.stopping:
            return
        if self.busy and (wait := self.last_began + GATHER_SECONDS - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        elif self.settlements and not self.admissions:
            self.asked.clear()
            timer = asyncio.get_running_loop().call_later(COMPANY_SECONDS, self.asked.set)
            await self.asked.wait()
            timer.cancel()

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
        """Write a group: try again until it is written, or until the members at fault are found.

        A group may have been committed although the statement failed. The next connection moves the fence, so that it
        can't be committed later. Asking again changes nothing that is done.

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
                assert self.link is not None
                verdicts = await ask(self.link, self.process, self.fence, group, again=again)
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
        """Admit the calls that passed; try again until it succeeds. It comes before a group, which may settle these
        calls."""
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
                    size = 1  # to find the call at fault
                    continue
                logger.error("a call that passed can't be admitted: %s", type(error).__name__)
                spool.bury(msgspec.json.encode(some[0]), type(error).__name__)
                buried += 1
            else:
                admitted += len(some)
            for _ in some:
                self.late.popleft()
        self.journal.done()
        logger.warning("the database is back: %d calls that had passed are admitted", admitted)
        if buried:
            logger.error("%d calls that had passed are dead letters in the spool folder", buried)

    def _tell(self, group: Group, verdicts: dict[UUID, Verdict]) -> None:
        self.away = False
        HERE.note_group(group)
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
        """Find the member that can't be written by halving the group, and write the others."""
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
        """Treat a group that may have been written: settle again, and release what may have been admitted."""
        self.settlements.extendleft(reversed(group.settlements))
        self.releases.extend(group.releases)
        for waiting in group.admissions:
            if has_verdict(waiting.answer):
                continue
            self.releases.append(waiting.admission.id)
            if not waiting.answer.done():
                waiting.answer.set_exception(ArbiterAway())
        self.wake.set()
