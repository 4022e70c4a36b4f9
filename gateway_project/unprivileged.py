"""If root starts `make run`, the web and Celery processes run as PostgreSQL's system user, prepared by this module.

They need no root rights: the supervisor opens the listening socket and the terminal, passes the settings on, and gives
the user the files to read and write. Their data (secrets, spool, static files, queues) is in the folder of PostgreSQL's
data; the data folder has links to it, so that commands find it. If the user can't read the checkout, the processes run
from a copy of it and of its virtual environment. Each content has its own copy, as for PostgreSQL's programs.
"""

from __future__ import annotations

import compileall
import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv import dotenv_values

from gateway_project.configuration import BASE_DIR, Configuration
from gateway_project.embedded_postgres import SYSTEM_DIR, CannotStart, Say, alone, instance, make_folder, system_user
from gateway_project.processes import User

# The parts of the checkout that processes run.
CODE = (
    *("gateway_project", "administration", "billing", "messages_api", "reconciliation", "usage", "keys", "templates"),
    "manage.py",
)
# The folders of Python and of the virtual environment in a copy; and the parts of a Python that no process needs.
PYTHON, VENV = "python", ".venv"
INTERPRETER = f"python{sys.version_info.major}.{sys.version_info.minor}"
NOT_NEEDED = shutil.ignore_patterns("test", "idlelib", "tkinter", "*.a", "share", "include", "site-packages")
# Folders in the data folder that the processes read and write. Everything else stays root's.
KEPT = ("secrets", "spool", "static", "broker", "audit")
# Descriptors of the copies that this process has locked.
kept: list[int] = []


@dataclass(frozen=True)
class Place:
    """How a process is started: as which user (None: the current one), where, with which Python and environment."""

    user: User | None = None
    code: Path = BASE_DIR
    python: Path = field(default_factory=lambda: Path(sys.executable))
    var_dir: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)


def place(settings: Configuration, var_dir: Path, say: Say) -> Place:
    """Prepare and return the place from which this deployment's processes are started. Repeating it changes nothing.

    Raises:
        CannotStart: the processes' data can't be given to the user.
    """
    if os.geteuid() != 0:
        return Place()
    try:
        user = system_user(say)
        code, python = reachable(user, say)
    except CannotStart as error:
        say(f"Warning: the gateway's processes run as root. {error}")
        return Place()
    folder = SYSTEM_DIR / instance(var_dir)
    make_folder(folder, 0o700, user)
    with alone():
        for name in KEPT:
            hand_over(var_dir / name, folder / name, user)
    environment = given(settings) | {"ENV_FILE": os.devnull, "VAR_DIR": os.fspath(folder), "HOME": os.fspath(folder)}
    if settings.spool_dir:
        give(settings.spool_dir, user)
    if settings.ca_bundle:
        environment["CA_BUNDLE"] = os.fspath(readable(settings.ca_bundle, folder / "ca_bundle.pem", user))
    if (base := code / PYTHON / "lib").is_dir():
        # A copied Python looks for its shared library at the original place.
        environment["LD_LIBRARY_PATH"] = os.fspath(base)
    return Place(user, code, python, folder, environment)


def given(settings: Configuration) -> dict[str, str]:
    """The settings from the `.env` file, for a user who can't read it. Variables of the environment take precedence."""
    file = settings.model_config.get("env_file")
    if not isinstance(file, str | Path) or not Path(file).is_file():
        return {}
    return {
        name.upper(): value
        for name, value in dotenv_values(file).items()
        if value and name.lower() in Configuration.model_fields and not os.environ.get(name.upper())
    }


# The code


def reachable(user: User, say: Say) -> tuple[Path, Path]:
    """The checkout and its Python if the user can run them, else copies of them.

    Raises:
        CannotStart: the user can't run the copies either.
    """
    code, python = BASE_DIR, Path(sys.executable)
    parts: dict[str, Path] = {}
    if not may(user, Path(sys.base_prefix) / "bin" / INTERPRETER, "-c", "import encodings"):
        # The Python is in a home folder, where pyenv and uv install it.
        parts[PYTHON] = Path(sys.base_prefix)
    in_venv, read = sys.prefix != sys.base_prefix, readable_by_all
    if in_venv and (parts or not (read([Path(sys.prefix)]) and may(user, python, "-c", "import celery"))):
        parts[VENV] = Path(sys.prefix)
    if parts or not (read([code / part for part in CODE]) and may(user, "test", "-r", code / CODE[-1])):
        parts.update((part, code / part) for part in CODE)
        code = copy(parts, say)
    if VENV in parts:
        python = code / VENV / "bin" / INTERPRETER
    found = f"LD_LIBRARY_PATH={code / PYTHON / 'lib'}"
    if not may(user, "env", found, python, "-c", "import gateway_project.web, celery", cwd=code):
        raise CannotStart(f"The user {user.name} can't run {python} in {code}: check the folders' modes.")
    return code, python


def may(user: User, *command: str | Path, cwd: Path = Path("/")) -> bool:
    """Whether this user can run the command in this folder."""
    script = 'cd "$1" && shift && exec "$@"'
    answer = subprocess.run(  # noqa: S603
        ["/bin/sh", "-c", script, "sh", cwd, *command],
        user=user.uid,
        group=user.gid,
        extra_groups=[],
        cwd="/",
        # The command must not read `.env`, which this user can't read.
        env={"PATH": os.defpath, "ENV_FILE": os.devnull},
        capture_output=True,
        check=False,
    )
    return answer.returncode == 0


def files(source: Path) -> Iterator[Path]:
    """A file, or everything below a folder except `__pycache__`."""
    yield source
    for folder, names, found in os.walk(source):
        names[:] = sorted(name for name in names if name != "__pycache__")
        yield from (Path(folder, name) for name in sorted([*names, *found]))


def readable_by_all(sources: list[Path]) -> bool:
    """Whether every user can read these files and folders, by their modes."""
    for path in (path for source in sources for path in files(source)):
        mode = path.lstat().st_mode
        if not path.is_symlink() and mode & (wanted := 0o5 if path.is_dir() else 0o4) != wanted:
            return False
    return True


def fingerprint(parts: Mapping[str, Path]) -> str:
    """A digest of the names, sizes and times of all files in these parts."""
    found = hashlib.sha256(sys.version.encode())
    for name, source in parts.items():
        for path in files(source):
            status = path.lstat()
            about = f"{status.st_size} {status.st_mtime_ns}" if not path.is_dir() else ""
            found.update(f"{name}\0{os.fspath(path.relative_to(source))}\0{about}\0".encode(errors="surrogateescape"))
    return found.hexdigest()[:16]


def copy(parts: Mapping[str, Path], say: Say) -> Path:
    """Copy these parts so that every user can read them. One process copies, the others wait. The copy appears complete
    and is never changed, since another deployment may run from it. Copies that no deployment runs from are removed.

    Raises:
        CannotStart: the copy can't be made.
    """
    wanted = fingerprint(parts)
    target = SYSTEM_DIR / f"gateway-{wanted}"
    with alone():
        if target.exists():
            keep(target)
            return target
        remove_unused_copies()
        say(f"Copying the gateway's programs to {target}, where the user that runs them can read them.")
        draft = target.with_name(f".{target.name}")
        try:
            # Remnants of a killed copy: this process holds the lock, so no other one is copying.
            shutil.rmtree(draft, ignore_errors=True)
            make_folder(draft, 0o755)
            for name, source in parts.items():
                if source.is_dir():
                    ignored = NOT_NEEDED if name == PYTHON else None
                    how = linked if name in (PYTHON, VENV) else shutil.copy2
                    shutil.copytree(source, draft / name, symlinks=True, ignore=ignored, copy_function=how)
                else:
                    shutil.copy2(source, draft / name)
            for name in CODE:
                # Compile now: later the user can't write to these folders.
                compileall.compile_dir(draft / name, quiet=2, stripdir=draft, prependdir=target)
            if VENV in parts:
                settle(draft / VENV, target / PYTHON if PYTHON in parts else Path(sys.base_prefix))
            for path in draft.rglob("*"):
                status = path.lstat()
                # Every user can already read hard-linked files; changing their modes would change the originals.
                if (not path.is_symlink() and status.st_nlink == 1) or path.is_dir():
                    path.chmod(0o755 if path.is_dir() or status.st_mode & 0o111 else 0o644)
        except (OSError, shutil.Error) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "the disk may be full"
            raise CannotStart(f"The gateway's programs can't be copied to {draft.parent}: {reason}.") from None
        if fingerprint(parts) != wanted:
            raise CannotStart("The gateway's programs changed while they were being copied: start again.")
        # A power cut must not leave an incomplete folder under the final name.
        os.sync()
        draft.rename(target)
        keep(target)
    return target


def keep(copy: Path) -> None:
    """Lock a copy against removal until this process ends."""
    descriptor = os.open(copy, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    kept.append(descriptor)


def remove_unused_copies() -> None:
    """Remove the copies that no supervisor keeps and no process runs from. The caller holds the lock of `alone`."""
    # Supervisors of earlier versions lock nothing, but their children run in the folder.
    in_use = set[str]()
    for link in Path("/proc").glob("[0-9]*/cwd"):
        # A process that has ended meanwhile, or that even root may not inspect, isn't the gateway's.
        with contextlib.suppress(OSError):
            in_use.add(os.readlink(link))
    for copy in SYSTEM_DIR.glob("gateway-*"):
        if copy.is_symlink() or not copy.is_dir():  # not created by the gateway
            continue
        descriptor = os.open(copy, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fspath(copy) not in in_use:
                shutil.rmtree(copy, ignore_errors=True)
        except BlockingIOError:
            continue
        finally:
            os.close(descriptor)


def linked(source: str, target: str) -> None:
    """Hard-link a file instead of copying it, if every user can read it. pip replaces files and never changes them, so
    a link is as safe as a copy."""
    if os.stat(source).st_mode & 0o4:
        with contextlib.suppress(OSError):
            os.link(source, target)
            return
    shutil.copy2(source, target)


def settle(venv: Path, base: Path) -> None:
    """Make a copied virtual environment use this Python."""
    home = base / "bin"
    lines = (venv / "pyvenv.cfg").read_text().splitlines()
    kept = [line for line in lines if line.partition("=")[0].strip() not in ("home", "executable", "command")]
    # Replace the file instead of writing to it: it may be a hard link to the original.
    (venv / "pyvenv.cfg").unlink()
    (venv / "pyvenv.cfg").write_text("\n".join([f"home = {home}", *kept]) + "\n")
    interpreter = venv / "bin" / INTERPRETER
    interpreter.unlink(missing_ok=True)
    interpreter.symlink_to(home / INTERPRETER)


# The data


def hand_over(source: Path, target: Path, user: User) -> None:
    """Move a folder to `target`, give it to the user, and leave a link in its place. If the run is killed meanwhile,
    one of the two folders is complete.

    Raises:
        CannotStart: the folder can't be moved.
    """
    moved, draft = source.with_name(f".{source.name}.moved"), SYSTEM_DIR / f".{target.parent.name}-{target.name}"
    try:
        if source.is_dir() and not source.is_symlink():
            shutil.rmtree(draft, ignore_errors=True)
            shutil.copytree(source, draft, symlinks=True)
            if target.exists():
                # The folder in the data folder takes precedence: it may come from a restored backup.
                target.rename(target.with_name(f"{target.name}-until-{int(target.stat().st_mtime)}"))
            os.sync()
            draft.rename(target)
            source.rename(moved)
        if not source.is_symlink():
            source.symlink_to(target)
        shutil.rmtree(moved, ignore_errors=True)
        give(target, user)
    except (OSError, shutil.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "the disk may be full"
        raise CannotStart(f"{source} can't be given to the user {user.name}: {reason}.") from None


def give(folder: Path, user: User) -> None:
    """Give a folder and everything in it to the user. Symbolic links that the user has put there aren't followed."""
    folder.mkdir(mode=0o700, exist_ok=True)
    for _, _, found, descriptor in os.fwalk(folder):
        os.fchown(descriptor, user.uid, user.gid)
        for name in found:
            os.chown(name, user.uid, user.gid, dir_fd=descriptor, follow_symlinks=False)


def readable(source: Path, target: Path, user: User) -> Path:
    """Copy a file for this user to read."""
    draft = SYSTEM_DIR / f".{target.parent.name}-{target.name}"
    shutil.copyfile(source, draft)
    os.chown(draft, user.uid, user.gid)
    draft.replace(target)
    return target
