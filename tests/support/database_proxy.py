"""A TCP proxy before the database, for tests of what networks do: it cuts connections and swallows what is said."""

from __future__ import annotations

import contextlib
import enum
import select
import socket
import threading
from typing import Any

from keys.connection import parameters


class Cut(enum.Enum):
    """Where in a conversation a connection is cut."""

    UNSENT = "the statement never arrives"
    SENT = "the statement arrives, and its client is gone"
    ANSWERED = "the statement is answered, the answer never arrives"


class Proxy:
    """Forwards connections to the test's database. Connect to it with `parameters`.

    Attributes:
        cuts: texts to look for in what clients send, and how the connection is cut, once each.
        hole: while it is set, all bytes are lost. A connection that has lost some stays open and silent; others go on.
    """

    def __init__(self) -> None:
        self.cuts: dict[bytes, Cut] = {}
        self.hole = threading.Event()
        self.open: set[socket.socket] = set()
        self.database = parameters()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = self.listener.getsockname()[1]
        self.parameters: dict[str, Any] = self.database | {
            "host": "127.0.0.1",
            "port": str(self.port),
            "sslmode": "disable",  # to be read along
        }

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.cut_all()

    def cut_all(self) -> None:
        """End every connection."""
        for link in list(self.open):
            abort(link)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._forward, args=(client,), daemon=True).start()

    def _connect(self) -> socket.socket:
        host, port = str(self.database["host"]), str(self.database.get("port") or 5432)
        if not host.startswith("/"):
            return socket.create_connection((host, int(port)))
        link = socket.socket(socket.AF_UNIX)
        link.connect(f"{host}/.s.PGSQL.{port}")
        return link

    def _forward(self, client: socket.socket) -> None:
        with client, self._connect() as server:
            self.open |= {client, server}
            lost = False
            try:
                while True:
                    for link in select.select([client, server], [], [])[0]:
                        said = link.recv(1 << 16)
                        if not said:
                            return
                        lost = lost or self.hole.is_set()
                        if not lost and not self._pass_on(said, link, client, server):
                            return
            except OSError:
                pass
            finally:
                self.open -= {client, server}

    def _pass_on(self, said: bytes, link: socket.socket, client: socket.socket, server: socket.socket) -> bool:
        """Forward what one side said; whether the connection goes on."""
        cut = self._cut(said) if link is client else None
        if cut is not Cut.UNSENT:
            (server if link is client else client).sendall(said)
        if cut is Cut.ANSWERED:
            # The rest of the statement may still be on its way.
            while server not in select.select([client, server], [], [])[0]:
                server.sendall(client.recv(1 << 16))
            server.recv(1 << 16)
        return cut is None

    def _cut(self, said: bytes) -> Cut | None:
        found = next((text for text in self.cuts if text in said), None)
        return self.cuts.pop(found) if found is not None else None


def abort(link: socket.socket) -> None:
    """Wake the waiters on both sides."""
    with contextlib.suppress(OSError):
        link.shutdown(socket.SHUT_RDWR)
