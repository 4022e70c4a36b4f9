"""Work on long bodies in separate processes, so that other calls don't wait for it: `run`.

A web process starts two of these readers with the first long body. Each reads one body at a time, and callers take
turns. One of the two takes no very long bodies, so that very long bodies delay only each other. (Threads don't help:
JSON decoders hold the interpreter's lock.)
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

from messages_api.process.taking_turns import Turns
from messages_api.server.errors import GatewayError, invalid_request, unavailable

# A body of up to SHORT bytes is read in place; one of up to MEDIUM bytes is, too, unless it has too many parts: a part
# takes up to a microsecond.
SHORT, MEDIUM = 16 << 10, 1 << 20
MOST_PARTS = 12_000
# Signs of a PDF, whose pages are counted: the type of its block, or escaped letters (real clients don't write these).
DOCUMENT, ESCAPED, LETTERS = b'"document"', rb"\u00", (rb"\u006", rb"\u007")
NO_PART = bytes(set(range(256)) - set(b",[{"))
# Bytes of the longest body that each reader takes.
SIZES = (4 << 20, None)
# The most time for one body. Clients' real bodies take a tenth of it; bodies built to be slow take half of it.
SECONDS = 20
# Bytes of memory of a reader. Clients' real bodies take a few times their own length.
MOST_MEMORY = 3 << 30
LENGTH = struct.Struct("!Q")

P = ParamSpec("P")
T = TypeVar("T")

# The caller that bodies are read for; set once the key of a request is known.
caller: ContextVar[Hashable] = ContextVar("caller", default=None)


async def run(function: Callable[Concatenate[bytes, P], T], body: bytes, *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a pure function of a module with a body: in this process if the body is short, else in a reader.

    Raises:
        GatewayError: as the function; 400, it takes too long; 503, the reader died, or too many bodies wait.
    """
    if not is_long(body):
        return function(body, *args, **kwargs)
    whose = caller.get()
    place = await _turns.take(whose, len(body))
    reader = _readers[place]
    asked = asyncio.get_running_loop().run_in_executor(reader.thread, reader.ask, function, body, args, kwargs)
    # If the client disconnects, the reader still finishes, and occupies its place until then.
    asked.add_done_callback(lambda _: _turns.give(whose, place))
    done, result = await asyncio.shield(asked)
    if not done:
        raise result
    return result  # type: ignore[no-any-return]


def is_long(body: bytes) -> bool:
    """Whether a body takes long enough to read that other calls would notice."""
    if len(body) <= SHORT:
        return False
    return (
        len(body) > MEDIUM
        # rfind takes a third of the time of find: the signs' first bytes are more frequent than their last ones.
        or body.rfind(DOCUMENT) >= 0
        or (body.rfind(ESCAPED) >= 0 and any(body.rfind(letter) >= 0 for letter in LETTERS))
        or len(body.translate(None, NO_PART)) > MOST_PARTS
    )


class BodyReader:
    """The handle of a process that reads long bodies; only its own thread uses it."""

    def __init__(self) -> None:
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="long bodies")
        self.process: subprocess.Popen[bytes] | None = None
        self.link: socket.socket

    def ask(
        self, function: Callable[..., object], body: bytes, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> tuple[bool, Any]:
        """Run a function in the process. Returns whether it succeeded, and its result or error."""
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
                f"The request body takes more than {SECONDS} seconds to read: send less, or fewer lists and objects."
            )
        except (OSError, EOFError):
            self.close()
            return False, unavailable("The request body could not be read: try again.", reason="body_reader")
        return done, result

    def start(self) -> None:
        """Start the process. It ends when its link closes."""
        self.close()
        self.link, theirs = socket.socketpair()
        self.link.settimeout(SECONDS)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "messages_api.process.long_bodies"], stdin=theirs.fileno()
            )

    def close(self) -> None:
        if self.process is not None:
            self.link.close()
            self.process.kill()
            self.process.wait()
            self.process = None


_readers = [BodyReader() for _ in SIZES]
_turns = Turns(SIZES)


async def close() -> None:
    """End the processes."""
    loop = asyncio.get_running_loop()
    await asyncio.gather(*(loop.run_in_executor(reader.thread, reader.close) for reader in _readers))


def received(link: socket.socket, length: int) -> bytearray:
    """The next bytes of a link.

    Raises:
        EOFError: the link ends before.
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
    """Whether the function succeeded, and its result or error."""
    try:
        body = os.pread(file, os.fstat(file).st_size, 0)
        return True, function(body, *args, **kwargs)
    except GatewayError as error:
        return False, error.with_traceback(None)
    except MemoryError:
        return False, invalid_request("The request body has more parts than can be read.")


def load_task(asked: bytearray) -> Any:
    """Unpickle a task. Django takes a second to set up, so it is set up only for functions that need it: providers'."""
    try:
        return pickle.loads(asked)  # noqa: S301 (it is ours)
    except AppRegistryNotReady:
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
        django.setup()
        return pickle.loads(asked)  # noqa: S301


def main() -> None:
    """Serve tasks from standard input until it closes."""
    # A signal to the whole process group must not stop this process: its link closes after the last call.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, resource.RLIM_INFINITY))
    with socket.socket(fileno=0) as link:
        while True:
            header, files, _, _ = socket.recv_fds(link, LENGTH.size, 1)
            if not header:
                return
            header += received(link, LENGTH.size - len(header))
            function, args, kwargs = load_task(received(link, LENGTH.unpack(header)[0]))
            try:
                answer = pickle.dumps(done_with(function, files[0], args, kwargs))
            finally:
                os.close(files[0])
            link.sendall(LENGTH.pack(len(answer)) + answer)


if __name__ == "__main__":
    main()
