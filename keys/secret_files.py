"""Files for the deployment's own secrets, created in `VAR_DIR/secrets` (mode 0600) if the environment sets none.

A file lists its secrets from newest to oldest, one on each line. The newest one encrypts or makes digests; all of them
decrypt or find.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from cryptography.fernet import Fernet


class EmptySecretFile(Exception):
    """A file of secrets is empty. Creating new secrets would silently lock out everything that the old ones protect."""


def secret_key(var_dir: Path) -> str:
    """Django's SECRET_KEY, for sessions. It protects nothing that must outlive its rotation."""
    return read_or_make(var_dir / "secrets" / "secret_key", lambda: secrets.token_urlsafe(64))[0]


def master_keys(var_dir: Path) -> list[str]:
    """The Fernet keys that encrypt the provider keys' secrets."""
    return read_or_make(var_dir / "secrets" / "master_keys", new_master_key)


def peppers(var_dir: Path) -> list[str]:
    """The HMAC keys under which credentials are stored."""
    return read_or_make(var_dir / "secrets" / "peppers", new_pepper)


def new_master_key() -> str:
    return Fernet.generate_key().decode()


def new_pepper() -> str:
    return secrets.token_hex(32)


def read_or_make(path: Path, make: Callable[[], str]) -> list[str]:
    """The file's lines. If the file doesn't exist, one process creates it with one new secret.

    Raises:
        EmptySecretFile: the file exists and is empty.
    """
    if not path.exists():
        start(path, [make()])
    lines = path.read_text().split()
    if not lines:
        raise EmptySecretFile(f"{path} is empty: restore its secrets, or delete the file to start with a new one")
    return lines


def start(path: Path, lines: list[str]) -> None:
    """Create the file, unless another process has created it first."""
    draft = _draft(path, lines)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


def write(path: Path, lines: list[str]) -> None:
    """Replace the file atomically, readable by its owner only."""
    _draft(path, lines).replace(path)


def _draft(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        if os.geteuid() == 0:
            # If root runs a command, the gateway's processes may run as another user, who owns the folder.
            owner = path.parent.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    return draft
