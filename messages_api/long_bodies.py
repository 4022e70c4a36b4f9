"""What is done with a long body is done by a process of its own, so that no other call waits: `run`.

Two such processes belong to a web process that has ever got long bodies. Each takes one body after the other, by turns
of the callers, and one of them no very long ones, so that these stop each other only. (Threads would not do: those who
read JSON keep the interpreter's lock.)
"""

from __future__ import annotations

import asyncio
import os
import pickle
import resource
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any, Concatenate, ParamSpec, TypeVar

import django
from django.core.exceptions import AppRegistryNotReady

from messages_api.errors import GatewayError, invalid_request, unavailable
from messages_api.turns import Turns

# Bytes that are read in place whatever they are, and those that are if they don't have too many parts: a part takes
# up to a microsecond.
SHORT, MEDIUM = 16 << 10, 1 << 20
MOST_PARTS = 12_000
NO_PART = bytes(set(range(256)) - set(b",[{"))
# Bytes of the longest body for each reader.
SIZES = (4 << 20, None)
# For one body. What a client sends takes a tenth of it; what is made to take long takes half of it.
SECONDS = 20
# Of memory. What a client sends takes a few times its own length.
MOST_MEMORY = 3 << 30
LENGTH = struct.Struct("!Q")

P = ParamSpec("P")
T = TypeVar("T")

# For whom bodies are read: known once a request's key is.
caller: ContextVar[Hashable] = ContextVar("caller", default=None)


async def run(function: Callable[Concatenate[bytes, P], T], body: bytes, *args: P.args, **kwargs: P.kwargs) -> T:
    """What a pure function of a module says of a body; here, if the body is short.

    Raises:
        GatewayError: as the function; 400, it takes too long; 503, its process died, or too many bodies wait.
    """
    if not is_long(body):
        return function(body, *args, **kwargs)
    whose = caller.get()
    place = await _turns.take(whose, len(body))
    reader = _readers[place]
    asked = asyncio.get_running_loop().run_in_executor(reader.thread, reader.ask, function, body, args, kwargs)
    # The reader reads on where the client hangs up, and takes its caller's turn until then.
    asked.add_done_callback(lambda _: _turns.give(whose, place))
    done, result = await asyncio.shield(asked)
    if not done:
        raise result
    return result  # type: ignore[no-any-return]


def is_long(body: bytes) -> bool:
    """Whether reading it takes so long that others would have to wait."""
    if len(body) <= SHORT:
        return False
    return len(body) > MEDIUM or len(body.translate(None, NO_PART)) > MOST_PARTS


class Reader:
    """A process that reads long bodies, from outside; used by its own thread."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="long bodies")
        self.process: subprocess.Popen[bytes] | None = None
        self.link: socket.socket

    def ask(
        self, function: Callable[..., object], body: bytes, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[bool, Any]:
        """Whether it was done, and the result or the error."""
        try:
            if self.process is None or self.process.poll() is not None:
                self.start()
            file = os.memfd_create("body")
            try:
                rest = memoryview(body)
                while rest:
                    rest = rest[os.write(file, rest) :]
                asked = pickle.dumps((function, args, kwargs))
                socket.send_fds(self.link, [LENGTH.pack(len(asked))], [file])
                self.link.sendall(asked)
            finally:
                os.close(file)
            done, result = pickle.loads(received(self.link, LENGTH.unpack(received(self.link, LENGTH.size))[0]))  # noqa: S301 (it is ours)
        except TimeoutError:
            self.close()
            return False, invalid_request(
                f"The request body takes more than {SECONDS} seconds to read: send less of it, or fewer parts."
            )
        except (OSError, EOFError):
            self.close()
            return False, unavailable("The request body could not be read: try again.", reason="body_reader")
        return done, result

    def start(self) -> None:
        """Start the process. It ends when its link does."""
        self.close()
        self.link, theirs = socket.socketpair()
        self.link.settimeout(SECONDS)
        with theirs:
            self.process = subprocess.Popen([sys.executable, "-m", "messages_api.long_bodies"], stdin=theirs.fileno())

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.link.close()
            self.process.kill()
            self.process.wait()
            self.process = None


_readers = [Reader() for _ in SIZES]
_turns = Turns(SIZES)


async def close() -> None:
    """End the processes, if there are any."""
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(reader.thread, reader.close) for reader in _readers))


def received(link: socket.socket, length: int) -> bytearray:
    """The next bytes.

    Raises:
        EOFError: it ends before.
    """
    message = bytearray(length)
    rest = memoryview(message)
    while rest:
        size = link.recv_into(rest)
        if not size:
            raise EOFError
        rest = rest[size:]
    return message


def done_with(function: Callable[..., object], file: int, args: tuple[object, ...], kwargs: Any) -> tuple[bool, object]:
    """Whether it was done, and the result or the error."""
    try:
        body = os.pread(file, os.fstat(file).st_size, 0)
        return True, function(body, *args, **kwargs)
    except GatewayError as error:
        return False, error.with_traceback(None)
    except MemoryError:
        return False, invalid_request("The request body has more parts than can be read.")


def loaded(asked: bytearray) -> Any:
    """What is asked for. What a provider does with a body needs Django, which takes a second."""
    try:
        return pickle.loads(asked)  # noqa: S301 (it is ours)
    except AppRegistryNotReady:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
        django.setup()
        return pickle.loads(asked)  # noqa: S301


def main() -> None:
    """Do what is asked for on standard input, until that ends."""
    # A stop that reaches the whole group is not for this process: its link ends with the last call.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, resource.RLIM_INFINITY))
    with socket.socket(fileno=0) as link:
        while True:
            header, files, _, _ = socket.recv_fds(link, LENGTH.size, 1)
            if not header:
                return
            header += received(link, LENGTH.size - len(header))
            function, args, kwargs = loaded(received(link, LENGTH.unpack(header)[0]))
            try:
                answer = pickle.dumps(done_with(function, files[0], args, kwargs))
            finally:
                os.close(files[0])
            link.sendall(LENGTH.pack(len(answer)) + answer)


if __name__ == "__main__":
    main()
