"""A web process: uvicorn on a listening socket that the supervisor has opened and passes on."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping
from types import FrameType
from typing import Any

import uvicorn
import uvloop

from gateway_project import draining, page_socket, processes
from gateway_project.configuration import configuration
from gateway_project.http_protocol import Http

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

BACKLOG = 4096
# How far the page process stands back while calls want the processors, too: a guessed password takes every core for a
# moment, and an export one of them for minutes.
PAGES_NICENESS = 5
KEEP_ALIVE_SECONDS = 75
# After a process stopped accepting: the time in which it still answers what was sent before.
LATE_SECONDS = 0.5


class WebServer(uvicorn.Server):
    """uvicorn's server, which also reports when it is ready, gives notice before it stops on SIGTERM, and on a second
    signal cancels the open calls but lets the application settle them.

    Args:
        ready: a file descriptor that gets one byte when the process can answer requests.
        notice: seconds between SIGTERM and the stop (`draining`).
    """

    def __init__(self, config: uvicorn.Config, ready: int | None, notice: float) -> None:
        super().__init__(config)
        self.ready = ready
        self.notice = notice
        self.stops_at: float | None = None
        self.loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self.loop = asyncio.get_running_loop()
        await super().startup(sockets)
        # Objects loaded by now live as long as the process: the garbage collector can skip them.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        if self.ready is not None:
            os.write(self.ready, b"1")
            os.close(self.ready)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if draining.begun:
            if self.loop:
                self.loop.call_soon_threadsafe(self.cut_open_calls)
            self.should_exit = True
            return
        draining.begin()
        # SIGINT comes from a person who waits for the end, and from the system if the supervisor died.
        if sig == signal.SIGTERM and self.notice:
            self.stops_at = time.monotonic() + self.notice
        else:
            self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.stops_at is not None:
            await self.stop_accepting(sockets or [])
        await super().shutdown(sockets)

    async def stop_accepting(self, listeners: list[socket.socket]) -> None:
        """Stop accepting connections, but take those that wait to be accepted, because closing the socket would reset
        them. What is on its way on them and on idle connections has LATE_SECONDS to arrive."""
        loop = asyncio.get_running_loop()
        waiting = [listener.dup() for listener in listeners]
        for server in self.servers:
            server.close()
        for listener in waiting:
            listener.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    link, _ = listener.accept()
                    await loop.connect_accepted_socket(self.protocol, link)
        for listener in (*waiting, *listeners):
            listener.close()
        await asyncio.sleep(LATE_SECONDS)

    def protocol(self) -> asyncio.Protocol:
        return Http(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def on_tick(self, counter: int) -> bool:
        if self.stops_at is not None and time.monotonic() >= self.stops_at:
            self.should_exit = True
        return await super().on_tick(counter)

    def cut_open_calls(self) -> None:
        for task in self.server_state.tasks:
            task.cancel()


def load() -> Application:
    """The project's ASGI application."""
    from gateway_project import asgi

    return asgi.application


def serve(listener: socket.socket, ready: int | None = None) -> None:
    """Serve until SIGINT, or for DRAIN_NOTICE seconds after SIGTERM; then open calls have STOP_GRACE_SECONDS to end.

    Args:
        ready: a file descriptor that gets one byte when the process can answer requests.
    """
    if page_socket.IS_PAGE_PROCESS in os.environ:
        processes.stand_back(PAGES_NICENESS)
    Http.origins = frozenset(configuration().cors_origins)
    config = uvicorn.Config(
        load,
        factory=True,
        http=Http,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=configuration().stop_grace_seconds,
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(WebServer(config, ready, configuration().drain_notice).serve(sockets=[listener]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", type=int, required=True, help="file descriptor of the listening socket")
    parser.add_argument("--ready", type=int, help="file descriptor that gets a byte when the process is ready")
    arguments = parser.parse_args()
    serve(socket.socket(fileno=arguments.socket), arguments.ready)


if __name__ == "__main__":
    main()
