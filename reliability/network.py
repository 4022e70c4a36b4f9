"""Network namespaces: machines with addresses of their own, joined to this one by a cable that can lose packets.

They live in a mount namespace of the program's own (`apart`), so that nothing of them is left when it ends.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

MARK = "RELIABILITY_APART"
TOOLS = {"ip": "iproute2", "iptables": "iptables", "unshare": "util-linux", "setpriv": "util-linux"}


class CannotRun(Exception):
    """This machine lacks something. The message says what, and how to get it."""


@dataclass(frozen=True)
class Space:
    """A network namespace. `host` is our end's address, `address` its own."""

    name: str
    host: str
    address: str
    cable: str

    def lose(self, share: float) -> None:
        """Lose this share of the packets, in each direction. 0: none."""
        run("ip", "netns", "exec", self.name, "iptables", "-F")
        if share:
            chance = ["-m", "statistic", "--mode", "random", "--probability", str(share), "-j", "DROP"]
            run("ip", "netns", "exec", self.name, "iptables", "-A", "INPUT", "-i", self.cable, *chance)
            run("ip", "netns", "exec", self.name, "iptables", "-A", "OUTPUT", "-o", self.cable, *chance)


def run(*command: str) -> None:
    """Run a command of the system's.

    Raises:
        CannotRun: it failed.
    """
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise CannotRun(f"{' '.join(command)}: {answer.stderr.strip()}")


def apart() -> None:
    """Go on in a mount namespace of our own. It starts the program once more.

    Raises:
        CannotRun: we aren't root, or a tool is missing.
    """
    if os.geteuid() != 0:
        raise CannotRun("it needs root: it makes network namespaces and a small file system of its own")
    for tool, package in TOOLS.items():
        if shutil.which(tool) is None:
            raise CannotRun(f"{tool} is missing (Debian: apt-get install {package})")
    if MARK not in os.environ:
        os.environ[MARK] = "1"
        os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, *sys.orig_argv[1:]])


@contextlib.contextmanager
def space(number: int) -> Iterator[Space]:
    """A namespace while the block runs. Its number, 1 to 99, makes its addresses."""
    own = f"{os.getpid() % 100_000}"
    name, ours, theirs = f"reliability-{own}-{number}", f"r{number}a{own}", f"r{number}b{own}"
    network = f"10.{77 + os.getpid() % 100}.{number}"
    made = Space(name, f"{network}.1", f"{network}.2", theirs)
    run("ip", "netns", "add", name)
    try:
        run("ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name)
        run("ip", "address", "add", f"{made.host}/30", "dev", ours)
        run("ip", "link", "set", ours, "up")
        run("ip", "-n", name, "address", "add", f"{made.address}/30", "dev", theirs)
        run("ip", "-n", name, "link", "set", theirs, "up")
        run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "-n", name, "route", "add", "default", "via", made.host)
        yield made
    finally:
        run("ip", "netns", "delete", name)
        with contextlib.suppress(CannotRun):
            run("ip", "link", "delete", ours)


@contextlib.contextmanager
def small_disk(folder: str, megabytes: int, uid: int) -> Iterator[None]:
    """A file system of this size at the folder while the block runs."""
    run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,uid={uid},mode=0700", "reliability", folder)
    try:
        yield
    finally:
        run("umount", "--lazy", folder)
