"""This machine: disks, limits of files, modes of secrets, what waits in the spool."""

from __future__ import annotations

import os
import resource
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings

from gateway_project.configuration import Configuration
from gateway_project.operations.doctor.findings import FAULT, OK, WARNING
from usage import spool

Found = Iterator[tuple[Any, str, str]]

MB = 1_000_000
FEW_BYTES, LAST_BYTES = 2_000 * MB, 200 * MB
FEW_FILES = 16_384


def free_space(folder: Path) -> tuple[int, int]:
    """The free bytes and inodes of a folder's file system, for its user."""
    found = os.statvfs(folder)
    return shutil.disk_usage(folder).free, found.f_favail if found.f_files else 1_000_000


def _disks() -> Found:
    places = {"VAR_DIR": Path(settings.VAR_DIR), "SPOOL_DIR": settings.SPOOL_DIR, "ARCHIVE_DIR": settings.ARCHIVE_DIR}
    wrong = False
    for name, folder in places.items():
        there = next(each for each in (folder, *folder.parents) if each.exists())
        free, files = free_space(there)
        if not os.access(there, os.W_OK | os.X_OK):
            wrong = True
            yield FAULT, f"{name}: {there} can't be written by this user", "give it to the gateway's user"
        elif free < LAST_BYTES or files < 100:
            wrong = True
            yield FAULT, f"{name}: {free / MB:,.0f} MB and {files:,} files are left at {there}", "make room now"
        elif free < FEW_BYTES or files < 10_000:
            wrong = True
            yield WARNING, f"{name}: {free / MB:,.0f} MB and {files:,} files are left at {there}", "make room"
    if not wrong:
        yield OK, "there is room on the disks of VAR_DIR, SPOOL_DIR and ARCHIVE_DIR", ""


def _files() -> Found:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < FEW_FILES:
        says = f"a process may open {hard:,} files, and a stream takes two"
        yield WARNING, says, f"LimitNOFILE={FEW_FILES * 4} in the unit, or ulimit -Hn"
    else:
        yield OK, "a process may open enough files", ""


def _secrets() -> Found:
    folder = Path(settings.VAR_DIR) / "secrets"
    wrong = False
    for path in [folder, *sorted(folder.iterdir())] if folder.is_dir() else []:
        mode = path.stat().st_mode & 0o777
        if mode & 0o077:
            wrong = True
            need = 700 if path.is_dir() else 600
            yield FAULT, f"{path} can be read by others (mode {mode:o})", f"chmod {need} {path}"
        elif path.is_file() and path.stat().st_size == 0 and not path.name.startswith("."):
            wrong = True
            yield FAULT, f"{path} is empty", "restore it from the file of secrets"
    file = Configuration.model_config.get("env_file")
    if isinstance(file, str | Path) and Path(file).is_file() and Path(file).stat().st_mode & 0o007:
        wrong = True
        yield WARNING, f"{file} can be read by every user, and may have secrets", f"chmod 640 {file}"
    if not wrong:
        yield OK, "only the gateway's user can read its secrets", ""


def _spool() -> Found:
    waiting, dead = spool.waiting()
    if dead:
        says = f"{dead} dead letters: settlements that the database refused"
        yield FAULT, says, f"read {settings.SPOOL_DIR / spool.DEAD_LETTERS}, then move it away"
    if waiting:
        yield WARNING, f"{waiting} settlements wait in {settings.SPOOL_DIR}", "run manage.py replay_spool"
    if not waiting and not dead:
        yield OK, "no settlement waits in a file", ""


CHECKS = (("disks", _disks), ("open files", _files), ("secrets", _secrets), ("spool", _spool))
