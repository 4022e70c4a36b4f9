"""The deployment's own secrets, generated into `VAR_DIR/secrets` (mode 0600) where the environment gives none.

Lists run from newest to oldest, one secret a line: the newest makes, all of them read.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet


class EmptySecretFile(Exception):
    """A file of secrets lost its lines; making new ones would silently disown what the old ones protect."""


def secret_key(var_dir: Path) -> str:
    """Django's SECRET_KEY: signs sessions, nothing that must outlive its rotation."""
    return read_or_make(var_dir / "secrets" / "secret_key", lambda: secrets.token_urlsafe(64))[0]


def master_keys(var_dir: Path) -> list[str]:
    """Fernet keys that encrypt the provider keys' secrets."""
    return read_or_make(var_dir / "secrets" / "master_keys", new_master_key)


def peppers(var_dir: Path) -> list[str]:
    """Keys of the HMAC under which credentials are stored."""
    return read_or_make(var_dir / "secrets" / "peppers", new_pepper)


def new_master_key() -> str:
    """A fresh key for the head of the list of master keys."""
    return Fernet.generate_key().decode()


def new_pepper() -> str:
    """A fresh key for the head of the list of peppers."""
    return secrets.token_hex(32)


def read_or_make(path: Path, make: Callable[[], str]) -> list[str]:
    """The file's lines; a file that isn't there is made with one new secret, by one process only."""
    if not path.exists():
        start(path, [make()])
    lines = path.read_text().split()
    if not lines:
        raise EmptySecretFile(f"{path} is empty: put its secrets back, or remove it to start with a new one")
    return lines


def start(path: Path, lines: list[str]) -> None:
    """Make the file unless another process was faster: then its secrets stand."""
    draft = _draft(path, lines)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def write(path: Path, lines: list[str]) -> None:
    """Put a new list in the file's place, whole or not at all, readable by its owner only."""
    _draft(path, lines).replace(path)


def _draft(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        if os.geteuid() == 0:
            # Where root runs commands, the processes may be another user's: the folder's.
            owner = path.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return draft
