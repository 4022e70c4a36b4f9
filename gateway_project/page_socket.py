"""The Unix socket between the web processes and the page process of a machine that serves calls and pages."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from gateway_project import embedded_postgres
from gateway_project.unprivileged import Place

# The environment variables by which the supervisor arranges it: the socket's path for web processes, and what tells the
# page process that it is one.
PATH = "BURSAR_PAGES_SOCKET"
IS_PAGE_PROCESS = "BURSAR_PAGE_PROCESS"

# Tells a process of Celery, or a web process of a machine without pages, that it serves none.
NO_PAGES = "BURSAR_NO_PAGES"

# Connections that wait while the page process is replaced.
BACKLOG = 1024


def serves_pages_here() -> bool:
    """Whether this process may serve pages itself, or is a command. Web processes that send requests for pages to the
    page process don't, nor do those of a machine without pages."""
    return not {PATH, NO_PAGES} & os.environ.keys()


def listen(run_dir: Path, place: Place) -> socket.socket:
    """The socket on which the page process will listen. Only the user of the processes can connect to it.

    Raises:
        CannotStart: its folder can't be created.
    """
    if place.var_dir:
        folder = place.var_dir / "socket"
        embedded_postgres.make_folder(folder, 0o700, place.user)
    else:
        folder = embedded_postgres.make_socket_folder(run_dir)
    path = folder / "pages"
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(os.fspath(path))
    if place.user:
        os.chown(path, place.user.uid, place.user.gid)
    listener.listen(BACKLOG)
    return listener
