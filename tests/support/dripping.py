"""A server that sends its answer a byte at a time: no step of it is slow, and the whole takes long."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

# In all 20 seconds.
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nx: " + b"a" * 960 + b"\r\n\r\n"
PAUSE = 0.02


@contextmanager
def dripping() -> Iterator[str]:
    """The URL of such a server."""
    end = threading.Event()

    def answer(link: socket.socket) -> None:
        with link, suppress(OSError):
            link.recv(65_536)
            for at in range(len(ANSWER)):
                if end.wait(PAUSE):
                    return
                link.sendall(ANSWER[at : at + 1])

    def accept() -> None:
        with suppress(OSError):
            while True:
                link = server.accept()[0]
                threads.append(threading.Thread(target=answer, args=(link,)))
                threads[-1].start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threads = [threading.Thread(target=accept)]
        threads[0].start()
        try:
            yield f"http://127.0.0.1:{server.getsockname()[1]}"
        finally:
            end.set()
            server.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()
