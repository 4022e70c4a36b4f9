"""The deployment's keys for keys: peppers for the digests of credentials, master keys for provider secrets.

Both are lists, newest first, from the environment or from files that are read again when they change, so that a
running process follows a rotation.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

from keys import secret_files


class UnreadableSecret(Exception):
    """A stored secret was encrypted under a master key that is not in the list."""


@dataclass(frozen=True)
class Pepper:
    """A key of the HMAC, and the short name that rows know it by."""

    name: str
    key: bytes


_read: dict[Path, tuple[int, list[str]]] = {}


def _lines(name: str) -> list[str]:
    given: list[str] = getattr(settings.CONFIGURATION, name)
    if given:
        return given
    path: Path = settings.VAR_DIR / "secrets" / name
    changed = path.stat().st_mtime_ns if path.exists() else 0
    known = _read.get(path)
    if known is None or known[0] != changed:
        lines: list[str] = getattr(secret_files, name)(settings.VAR_DIR)
        known = _read[path] = (path.stat().st_mtime_ns, lines)
    return known[1]


def peppers() -> list[Pepper]:
    """Newest first: the first makes digests, all of them find credentials."""
    return [Pepper(hashlib.sha256(line.encode()).hexdigest()[:8], line.encode()) for line in _lines("peppers")]


def _fernet() -> MultiFernet:
    return MultiFernet([Fernet(line) for line in _lines("master_keys")])


def encrypt(secret: str) -> bytes:
    """A provider's secret as it is stored, under the newest master key."""
    return _fernet().encrypt(secret.encode())


def decrypt(ciphertext: bytes) -> str:
    """A provider's secret in plain text.

    Raises:
        UnreadableSecret: none of the master keys made it.
    """
    try:
        return _fernet().decrypt(bytes(ciphertext)).decode()
    except InvalidToken:
        raise UnreadableSecret("the secret was encrypted under a master key that is no longer in the list") from None


def reencrypt(ciphertext: bytes) -> bytes:
    """The same secret under the newest master key.

    Raises:
        UnreadableSecret: none of the master keys made it.
    """
    try:
        return _fernet().rotate(bytes(ciphertext))
    except InvalidToken:
        raise UnreadableSecret("the secret was encrypted under a master key that is no longer in the list") from None
