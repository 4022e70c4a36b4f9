"""The deployment's own secrets, generated into `VAR_DIR/secrets` (mode 0600) where the environment gives none.

Lists run from newest to oldest, one secret a line: the newest makes, all of them read.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from cryptography.fernet import Fernet


def secret_key(var_dir: Path) -> str:
    """Django's SECRET_KEY: signs sessions, nothing that must outlive its rotation."""
    return read_or_make(var_dir / "secrets" / "secret_key", lambda: secrets.token_urlsafe(64))[0]


def master_keys(var_dir: Path) -> list[str]:
    """Fernet keys that encrypt the provider keys' secrets."""
    return read_or_make(var_dir / "secrets" / "master_keys", lambda: Fernet.generate_key().decode())


def peppers(var_dir: Path) -> list[str]:
    """Keys of the HMAC under which credentials are stored."""
    return read_or_make(var_dir / "secrets" / "peppers", lambda: secrets.token_hex(32))


def read_or_make(path: Path, make: object) -> list[str]:
    """The file's lines; a file that isn't there is made with one new secret, by one process only."""
    while True:
        try:
            lines = path.read_text().split()
        except FileNotFoundError:
            lines = []
        if lines:
            return lines
        write(path, [make()])  # type: ignore[operator]


def write(path: Path, lines: list[str]) -> None:
    """Put a new list in the file's place, whole or not at all, readable by its owner only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("\n".join(lines) + "\n")
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
