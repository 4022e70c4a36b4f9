"""The deployment's own secrets as one file, which is kept apart from the archive: peppers, master keys, session key."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from cryptography.fernet import Fernet
from django.conf import settings

from keys import keyring, secret_files
from keys.errors import Unusable

LISTS = ("master_keys", "peppers")
SECRET_KEY = "secret_key"  # noqa: S105  (a name)


def write(path: Path) -> None:
    """Write the secrets that this deployment uses, from its files or its environment (mode 0600).

    Raises:
        Unusable: there is a file of this name, or its folder can't be written.
    """
    found = {name: keyring.lines(name) for name in LISTS} | {SECRET_KEY: [settings.SECRET_KEY]}
    text = json.dumps(found, indent=1) + "\n"
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise Unusable(f"{path} exists already: secrets never replace a file") from None
    except OSError as error:
        path.unlink(missing_ok=True)
        raise Unusable(f"{path} can't be written: {error.strerror}") from None


def read(path: Path) -> dict[str, list[str]]:
    """The secrets of a file, by list.

    Raises:
        Unusable: it can't be read, or isn't such a file.
    """
    try:
        found = json.loads(path.read_text())
        lists = {name: [str(each) for each in found[name]] for name in (*LISTS, SECRET_KEY)}
        for key in lists["master_keys"]:
            Fernet(key)
        if not all(lists.values()):
            raise ValueError
    except OSError as error:
        raise Unusable(f"{path} can't be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise Unusable(f"{path} is not a file of secrets that `manage.py backup --secrets` has written") from None
    return lists


def install(lists: dict[str, list[str]]) -> list[Path]:
    """Put secrets into the data folder's files. Files with other ones are kept beside them, under another name.

    Raises:
        Unusable: the environment sets other secrets, which would take precedence.

    Returns:
        the files that were written.
    """
    for name in LISTS:
        if keyring.in_environment(name) and set(lists[name]) - set(keyring.lines(name)):
            raise Unusable(f"{name.upper()} in the environment lacks secrets of the file: add them there first")
    written = []
    for name, values in lists.items():
        path = Path(settings.VAR_DIR) / "secrets" / name
        if name in LISTS and keyring.in_environment(name):
            continue
        before = path.read_text().split() if path.exists() else []
        if before == values:
            continue
        if before:
            path.rename(path.with_name(f"{name}.until-{int(time.time())}"))
        secret_files.write(path, values)
        written.append(path)
    return written
