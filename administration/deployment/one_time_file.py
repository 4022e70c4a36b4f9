"""A file for secrets that are shown once: new, and readable by its owner only."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from keys.csv_lines import csv_line
from keys.errors import Unusable


@contextmanager
def kept(path: Path, secrets: Mapping[str, str]) -> Iterator[None]:
    """Write `name,secret` lines to a new file, which stays if the block succeeds. No spreadsheet runs a name.

    Raises:
        Unusable: the file exists or can't be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise Unusable(f"{path} can't be written: {error.strerror}; name a new file") from None
    try:
        with os.fdopen(descriptor, "w", newline="") as file:
            file.writelines(map(csv_line, (("virtual key", "secret"), *secrets.items())))
            file.flush()
            os.fsync(file.fileno())
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise
