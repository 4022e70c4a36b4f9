"""Forks web processes from a process that has imported other people's modules (tests/support/forks.py starts it).

It gets the number of a socket and the names of modules, reads requests from the socket, and answers each with JSON:

    {"start": [argument, …], "environment": {…}}, with the descriptors of listener, pipe and log -> the process id
    {"end": process id} -> the exit status of a process that has ended, as `subprocess` says it

It imports nothing of the project itself, which reads its settings when it is imported.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import random
import runpy
import signal
import socket
import sys
import warnings
from typing import Any

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
LIBC = ctypes.CDLL(None, use_errno=True)


def load(modules: list[str]) -> None:
    """Import what can be imported without Django's settings."""
    os.environ.pop("DJANGO_SETTINGS_MODULE", None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in modules:
            # Some need settings, some are not made to be imported by their name.
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    assert "gateway_project" not in sys.modules
    gc.freeze()


def become(asked: dict[str, Any], files: list[int], parent: int) -> None:
    """Be a web process from here on."""
    os.setsid()
    LIBC.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
    listener, ready, log = files
    for number in (1, 2):
        os.dup2(log, number)
    os.close(log)
    os.environ.clear()
    os.environ.update(asked["environment"])
    random.seed()
    sys.argv = ["gateway_project.web", "--socket", str(listener), "--ready", str(ready), *asked["start"]]
    runpy.run_module("gateway_project.web", run_name="__main__", alter_sys=True)


def fork(asked: dict[str, Any], files: list[int], requests: socket.socket) -> int:
    """Start a web process; its process id."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        for file in files:
            os.close(file)
        return pid
    status = 1
    try:
        requests.close()
        become(asked, files, parent)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def main() -> None:
    requests = socket.socket(fileno=int(sys.argv[1]))
    load(sys.argv[2:])
    while True:
        text, files, _, _ = socket.recv_fds(requests, 1 << 20, 3)
        if not text:
            return
        asked = json.loads(text)
        if "end" in asked:
            answer = os.waitstatus_to_exitcode(os.waitpid(asked["end"], 0)[1])
        else:
            answer = fork(asked, files, requests)
        requests.send(json.dumps(answer).encode())


if __name__ == "__main__":
    main()
