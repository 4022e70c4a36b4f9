"""Runs the steps of a Dockerfile without a container engine, in folders that `mmdebstrap` begins, and runs what they
made in a root of its own: read-only, as the user that the file names, without rights.

It knows the instructions that ours has, and fails at others.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

# This machine's ways to packages, which hold for steps and aren't part of the image.
FROM_HERE = ("/etc/resolv.conf", "/etc/hosts", "/etc/pip.conf", "/etc/xdg/pip", "/etc/apt/apt.conf.d")
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PASSED_ON = re.compile(r"PIP_(?!FIND_LINKS)\w+|\w+_proxy|SSL_CERT_FILE", re.I)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Stage:
    """A stage of the build: its root's folder, and what later instructions have set."""

    root: Path
    folder: str = "/"
    user: str = "0:0"
    environment: dict[str, str] = field(default_factory=dict)
    entry: list[str] = field(default_factory=list)


def instructions(text: str) -> Iterator[tuple[str, str]]:
    """Each instruction with its arguments, on one line."""
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    for line in lines.replace("\\\n", " ").splitlines():
        if line.strip():
            name, _, rest = line.strip().partition(" ")
            yield name.upper(), rest.strip()


def build(dockerfile: Path, context: Path, roots: Path) -> Stage:
    """Run the file's steps.

    Args:
        context: the folder that COPY copies from.
        roots: an empty folder for the stages' roots.

    Raises:
        subprocess.CalledProcessError: a step failed.
        ValueError: the file has an instruction that this doesn't know.
    """
    stages: dict[str, Stage] = {}
    stage = Stage(roots)
    for name, rest in instructions(dockerfile.read_text()):
        if name == "FROM":
            source, _, called = rest.partition(" AS ")
            stage = Stage(roots / (called or "last"))
            if source in stages:
                subprocess.run(["cp", "--archive", stages[source].root, stage.root], check=True)
            else:
                bootstrap(source, stage.root)
            stages[called or "last"] = stage
        elif name == "RUN":
            in_step(stage, rest)
        elif name == "COPY":
            copy(rest, stage, stages, context)
        elif name == "WORKDIR":
            stage.folder = rest
            (stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif name == "ENV":
            stage.environment |= dict(each.split("=", 1) for each in shlex.split(rest))
        elif name == "USER":
            stage.user = rest
        elif name == "ENTRYPOINT":
            stage.entry = json.loads(rest)
        elif name not in ("VOLUME", "EXPOSE", "STOPSIGNAL"):
            raise ValueError(f"{dockerfile}: {name} is an instruction that this doesn't run")
    return stage


def bootstrap(source: str, root: Path) -> None:
    """The root of Debian's image: `debian:bookworm-slim`, without documentation and translations."""
    release = re.fullmatch(r"debian:(\w+)-slim", source)
    assert release, source
    slim = [f"--dpkgopt=path-exclude=/usr/share/{each}/*" for each in ("doc", "man", "locale", "info")]
    # Debian's image is made with /usr merged, and so without `usrmerge`, which needs perl.
    merged = ["--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", "--include=usr-is-merged"]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", *merged, *slim, release[1], str(root)]
    subprocess.run(command, check=True)


def copy(rest: str, stage: Stage, stages: dict[str, Stage], context: Path) -> None:
    """COPY of files or folders, with the compiled modules of a stage and without those of the context.

    Raises:
        ValueError: `.dockerignore` keeps the source from the builder.
    """
    parts = shlex.split(rest)
    given, left_out = context, shutil.ignore_patterns("__pycache__")
    if parts[0].startswith("--from="):
        given, left_out = stages[parts.pop(0).removeprefix("--from=")].root, shutil.ignore_patterns()
    *sources, target = parts
    into = stage.root / os.path.join(stage.folder, target).lstrip("/")
    for source in sources:
        if given == context and f"!{source}" not in (context / ".dockerignore").read_text().splitlines():
            raise ValueError(f".dockerignore doesn't name {source}")
        found = given / source.lstrip("/")
        if found.is_dir():
            shutil.copytree(found, into, symlinks=True, ignore=left_out, dirs_exist_ok=True)
        else:
            into.mkdir(parents=True, exist_ok=True)
            shutil.copy2(found, into / found.name)


def in_step(stage: Stage, command: str) -> None:
    """RUN, with this machine's ways to packages."""
    root = shlex.quote(str(stage.root))
    mounts = [f"mount -t proc proc {root}/proc", f"mount --rbind /dev {root}/dev"]
    for here in map(Path, FROM_HERE):
        there = stage.root / str(here).lstrip("/")
        if here.exists():
            if here.is_dir():
                there.mkdir(parents=True, exist_ok=True)
            else:
                there.parent.mkdir(parents=True, exist_ok=True)
                there.touch()
            mounts.append(f"mount --bind {here} {shlex.quote(str(there))}")
    passed = {name: value for name, value in os.environ.items() if PASSED_ON.fullmatch(name)}
    certificates = stage.root / str(CERTIFICATES).lstrip("/")
    if CERTIFICATES.exists() and certificates.exists():
        mounts.append(f"mount --bind {CERTIFICATES} {shlex.quote(str(certificates))}")
    else:
        passed = {name: value for name, value in passed.items() if "CERT" not in name.upper()}
    inner = f"cd {stage.folder} && {command}"
    environment = {"PATH": PATH, "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive", **passed}
    script = " && ".join([*mounts, f"exec chroot {root} /bin/sh -ec {shlex.quote(inner)}"])
    subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "/bin/sh", "-ec", script], env=environment, check=True, timeout=1500
    )
    # As apt in Debian's image does.
    for package in (stage.root / "var/cache/apt").rglob("*.*"):
        if package.is_file():
            package.unlink()


def free_port() -> int:
    """A port that a gateway in a root of its own can listen on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def command_in(stage: Stage, data: Path, command: list[str], **settings: str) -> list[str]:
    """The command that runs another one in the image: with a read-only root, and `data` as its /var/lib/bursar."""
    root = shlex.quote(str(stage.root))
    mounts = [
        f"mount --bind {root} {root}",
        f"mount -o remount,bind,ro {root}",
        f"mount -t proc proc {root}/proc",
        f"mount --rbind /dev {root}/dev",
        f"mount -t tmpfs -o mode=1777 tmpfs {root}/tmp",
        f"mount --bind {shlex.quote(str(data))} {root}/var/lib/bursar",
    ]
    environment = {"PATH": PATH, **stage.environment, **settings}
    inner = ["env", "-i", *(f"{name}={value}" for name, value in environment.items()), *command]
    setpriv = f"setpriv --reuid={stage.user.split(':')[0]} --regid={stage.user.split(':')[1]} --clear-groups"
    script = f"cd {stage.folder} && exec {setpriv} --bounding-set=-all --no-new-privs {shlex.join(inner)}"
    return [
        *("unshare", "--mount", "--pid", "--fork", "--kill-child", "/bin/sh", "-ec"),
        " && ".join([*mounts, f"exec chroot {root} /bin/sh -ec {shlex.quote(script)}"]),
    ]


def started(running: subprocess.Popen[bytes]) -> int:
    """The process that `command_in` started in the image, of which `running` is the parent."""
    (child,) = Path(f"/proc/{running.pid}/task/{running.pid}/children").read_text().split()
    return int(child)


def beside(
    pid: int, stage: Stage, command: list[str], given: str = "", **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a command where a process of the image runs, as its user.

    Args:
        pid: that process.
        given: what the command reads from its stdin.
    """
    uid, gid = stage.user.split(":")
    environment = [f"{name}={value}" for name, value in ({"PATH": PATH, **stage.environment} | settings).items()]
    return subprocess.run(
        [
            *("nsenter", f"--target={pid}", "--mount", "--pid", "--root", "--wd"),
            *("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups", "--bounding-set=-all", "--no-new-privs"),
            *("env", "-i", *environment, *command),
        ],
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
