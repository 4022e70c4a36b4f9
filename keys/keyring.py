"""The deployment's own secrets: peppers for the digests of credentials, and master keys that encrypt provider secrets.

Both are lists, newest first, from the environment or from files. A file is read again when it changes, so that a
running process follows a rotation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from keys import secret_files

UNREADABLE = (
    "the secret was encrypted under a master key that is no longer in the list: restore that key, or set the secret "
    "again"
)


class UnreadableSecret(Exception):
    """A stored secret was encrypted under a master key that is not in the list."""


@dataclass(frozen=True)
class Pepper:
    """A key of the HMAC, and its short name, which credentials' rows store."""

    name: str
    key: bytes


# Functions that encrypt secrets of other tables under the newest master key, and return their number. An app adds its
# own when it is loaded; one raises Unusable if no master key decrypts a secret.
REENCRYPTED_TOO: list[Callable[[], int]] = []

_Mark = tuple[int, int, int]
_read: dict[Path, tuple[_Mark, list[str]]] = {}
# Whether older master keys are left aside (`newest_alone`).
_alone = False


def _mark(path: Path) -> _Mark | None:
    """Values that differ between versions of a file. The time alone is too coarse for two writes in a row."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _file(name: str) -> Path:
    folder: Path = settings.VAR_DIR
    return folder / "secrets" / name


def _lines(name: str) -> list[str]:
    given: list[str] = getattr(settings.CONFIGURATION, name)
    if given:
        return given
    path = _file(name)
    mark = _mark(path)
    known = _read.get(path)
    if mark and known and known[0] == mark:
        return known[1]
    lines: list[str] = getattr(secret_files, name)(settings.VAR_DIR)
    if mark:
        _read[path] = (mark, lines)
    return lines


def _add(name: str, line: str) -> Path:
    path = _file(name)
    secret_files.write(path, [line, *_lines(name)])
    return path


def in_environment(name: str) -> bool:
    """Whether this list (`peppers` or `master_keys`) comes from the environment, where only people can change it."""
    return bool(getattr(settings.CONFIGURATION, name))


def prepare_master_key() -> Path:
    """Add a new master key at the end of the file, and return the file: it decrypts, and doesn't encrypt yet."""
    path = _file("master_keys")
    secret_files.write(path, [*_lines("master_keys"), secret_files.new_master_key()])
    return path


def use_last_master_key() -> Path:
    """Encrypt under the last master key of the file from now on, and return the file. The others still decrypt."""
    path = _file("master_keys")
    *before, last = _lines("master_keys")
    secret_files.write(path, [last, *before])
    return path


def forget_older_master_keys() -> Path:
    """Keep only the newest master key of the file, and return the file."""
    path = _file("master_keys")
    secret_files.write(path, _lines("master_keys")[:1])
    return path


@contextmanager
def newest_alone() -> Iterator[None]:
    """Within this block, only the newest master key decrypts in this process: whether it is enough."""
    global _alone
    _alone = True
    try:
        yield
    finally:
        _alone = False


def lines(name: str) -> list[str]:
    """The secrets of a list (`peppers` or `master_keys`), newest first: for a file that is kept apart."""
    return list(_lines(name))


def add_pepper() -> Path:
    """Add a new pepper at the head of the file, and return the file. Older peppers still find credentials."""
    return _add("peppers", secret_files.new_pepper())


def add_master_key() -> Path:
    """Add a new master key at the head of the file, and return the file. Older keys still decrypt."""
    return _add("master_keys", secret_files.new_master_key())


def peppers() -> list[Pepper]:
    """The peppers, newest first. The first one makes new digests; all of them find credentials."""
    return [pepper_of(line) for line in _lines("peppers")]


def pepper_of(line: str) -> Pepper:
    """The pepper of a line of the list."""
    return Pepper(hashlib.sha256(line.encode()).hexdigest()[:8], line.encode())


def _fernet() -> MultiFernet:
    found = _lines("master_keys")
    return MultiFernet([Fernet(line) for line in (found[:1] if _alone else found)])


def encrypt(secret: str) -> bytes:
    """Encrypt a provider's secret under the newest master key."""
    return _fernet().encrypt(secret.encode())


def decrypt(ciphertext: bytes | memoryview) -> str:
    """Decrypt a provider's secret.

    Raises:
        UnreadableSecret: none of the master keys decrypts it.
    """
    try:
        return _fernet().decrypt(bytes(ciphertext)).decode()
    except InvalidToken:
        raise UnreadableSecret(UNREADABLE) from None


def reencrypt(ciphertext: bytes | memoryview) -> bytes:
    """Encrypt a secret again, under the newest master key.

    Raises:
        UnreadableSecret: none of the master keys decrypts it.
    """
    try:
        return _fernet().rotate(bytes(ciphertext))
    except InvalidToken:
        raise UnreadableSecret(UNREADABLE) from None
