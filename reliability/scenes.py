"""The faults of `make faults`: what breaks, how it is mended, and what calls may notice of it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reliability import provider
from reliability.load import UNANSWERED
from reliability.stage import DATABASE, WEB, Stage

HOUR = 3600
LOSS = 0.01


Act = Callable[[Stage], None]


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        begins, ends: what breaks, and what ends that. Nothing else is touched by hand.
        allowed: how calls may end besides an answer in order.
        kills: whether a process of the gateway's is killed, or may be.
        promise: in words, for the page.
        clocks: whose clock it steps: WEB or DATABASE. Only these run with a preloaded clock, in a deployment of this
            fault's own, so that it can't be the cause of what others show.
    """

    name: str
    what: str
    begins: Act
    ends: Act
    promise: str
    allowed: frozenset[str] = frozenset()
    kills: bool = False
    clocks: str = ""


def nothing(_: Stage) -> None:
    pass


def kill_worker(stage: Stage) -> None:
    os.kill(stage.gateway.pids()["worker"], signal.SIGKILL)


def kill_web(stage: Stage) -> None:
    os.kill(min(stage.gateway.web_pids()), signal.SIGKILL)


def stop_web(stage: Stage) -> None:
    os.kill(min(stage.gateway.web_pids()), signal.SIGTERM)


def kill_supervisor(stage: Stage) -> None:
    stage.gateway.program.stop(signal.SIGKILL)


def fill_disk(stage: Stage) -> None:
    """Fill the data folder's file system, and kill a web process that has to be replaced there."""
    filler = stage.gateway.var / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(65536))
        except OSError:
            pass
    kill_web(stage)


def empty_disk(stage: Stage) -> None:
    (stage.gateway.var / "filler").unlink()


def step_web(stage: Stage) -> None:
    stage.gateway.step_one_clock(HOUR)


def unstep_web(stage: Stage) -> None:
    stage.gateway.step_one_clock(0)


def behave(mode: str) -> Act:
    return lambda stage: stage.provider.behave(mode)


HEAL = behave(provider.HEALTHY)
AWAY = frozenset(["503"])
# What a client sees of a process that is killed while it answers.
TORN = frozenset(["cut off", "200, then cut", "not connected"])
# What a client sees of a provider that fails for longer than a call is retried.
FAILS = frozenset(["500", "502", "503", "504", "529", "200, then error"])

FAULTS = (
    Fault(
        "database-stopped",
        "PostgreSQL is stopped and started again",
        lambda stage: stage.database.stop(),
        lambda stage: stage.database.start(),
        "Calls are refused with 503 and `retry-after`; open calls go on, and are settled when the database is back",
        AWAY,
    ),
    Fault(
        "database-frozen",
        "all processes of PostgreSQL are stopped where they are (SIGSTOP), and continued",
        lambda stage: stage.database.freeze(),
        lambda stage: stage.database.thaw(),
        "As above, each after `ADMISSION_SECONDS`",
        AWAY,
    ),
    Fault(
        "broker-gone",
        "Redis is killed and started again",
        lambda stage: stage.broker.kill(),
        lambda stage: stage.broker.start(),
        "No call notices; worker and beat connect again",
    ),
    Fault(
        "worker-killed",
        "the Celery worker is killed (SIGKILL)",
        kill_worker,
        nothing,
        "No call notices; the supervisor replaces the worker",
    ),
    Fault(
        "web-killed",
        "one of four web processes is killed (SIGKILL)",
        kill_web,
        nothing,
        "Its open calls are cut off, and become rows that are marked interrupted; no other call notices",
        TORN,
        kills=True,
    ),
    Fault(
        "web-stopped",
        "one of four web processes is stopped (SIGTERM)",
        stop_web,
        nothing,
        "No call notices: it finishes its open calls while another process takes its place",
    ),
    Fault(
        "supervisor-killed",
        "the supervisor is killed (SIGKILL), and started again by hand",
        kill_supervisor,
        lambda stage: stage.gateway.start(),
        "The processes end with it after their open calls; what can't end in time is cut off and settled. Then calls "
        "aren't connected, or wait, until the new supervisor has ended what is left and started all again",
        TORN | AWAY | {UNANSWERED},
        kills=True,
    ),
    Fault(
        "disk-full",
        "the file system of the data folder (spool, logs, sockets, pid files) is full, and a web process is killed",
        fill_disk,
        empty_disk,
        "As for a web process that is killed: calls need no disk, and neither does the supervisor",
        TORN,
        kills=True,
    ),
    Fault(
        "clock-of-web",
        "the clock of one web process is an hour ahead",
        step_web,
        unstep_web,
        "No call notices: the database's clock decides",
        clocks=WEB,
    ),
    Fault(
        "clock-of-database",
        "PostgreSQL's clock is set an hour ahead, and back",
        lambda stage: stage.database.step(HOUR),
        lambda stage: stage.database.step(0),
        "No call notices, and no live process is declared dead",
        clocks=DATABASE,
    ),
    Fault(
        "provider-hanging",
        "the provider takes calls and doesn't answer",
        behave(provider.HANGING),
        HEAL,
        "Calls are answered with an error within the deployment's time-outs, and are billed at an estimate",
        FAILS,
    ),
    Fault(
        "provider-resetting",
        "the provider resets connections, before an answer or in the middle of a stream",
        behave(provider.RESETTING),
        HEAL,
        "Calls are retried where that is safe, else answered with an error; a stream ends with an `error` event",
        FAILS,
    ),
    Fault(
        "provider-garbage",
        "the provider answers with bytes that are no HTTP, no JSON, or no events",
        behave(provider.GARBAGE),
        HEAL,
        "As above. The bytes of a 200 are passed on as they are; a call without the provider's report is billed at an "
        "estimate",
        FAILS | TORN,
    ),
    Fault(
        "packet-loss",
        "1 % of the packets between gateway and provider are lost, in each direction",
        lambda stage: stage.wire.lose(LOSS),
        lambda stage: stage.wire.lose(0),
        "No call fails; some take longer",
    ),
)


def wait(seconds: float) -> float:
    """Sleep, and return the time."""
    time.sleep(seconds)
    return time.monotonic()


def spooled(folder: Path) -> list[str]:
    """The files of settlements that wait in the spool, and dead letters."""
    return sorted(path.name for path in folder.glob("*.jsonl") if path.stat().st_size)
