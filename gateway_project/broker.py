"""Celery's broker in a folder, for a gateway on one machine: kombu's filesystem transport, with whole files only.

kombu's own creates a file under its final name and then writes it. A consumer that comes in between reads an empty
file, and the worker exits (kombu 5.7, transport/filesystem.py: `_put`, `_get` and `_queue_bind`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import uuid
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.exceptions import ChannelError
from kombu.transport import filesystem
from kombu.utils.json import dumps, loads

# An empty file that is older isn't being written any more.
ABANDONED_SECONDS = 60.0

log = logging.getLogger(__name__)


class Channel(filesystem.Channel):
    """A channel whose files appear with their content."""

    def _put(self, queue: str, payload: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """Put a message onto a queue.

        Raises:
            ChannelError: the file can't be written.
        """
        # The order of the names is the order of delivery.
        name = f"{round(time.monotonic() * 1000)}_{uuid.uuid4()}.{queue}.msg"
        _write(Path(self.data_folder_out, name), dumps(payload))

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        """Take the next message from a queue.

        Raises:
            Empty: the queue has no message.
            ChannelError: a message can't be read.
        """
        for name in sorted(os.listdir(self.data_folder_in)):
            if name.partition(".")[2] != f"{queue}.msg":
                continue
            waiting, taken = Path(self.data_folder_in, name), Path(self.processed_folder, name)
            try:
                about = waiting.stat()
                # A process of an earlier version may be writing it.
                if not about.st_size and time.time() - about.st_mtime < ABANDONED_SECONDS:
                    continue
                waiting.rename(taken)
            except FileNotFoundError:
                continue
            try:
                text = taken.read_text()
                taken.unlink()
            except OSError as error:
                raise ChannelError(f"The message {taken} can't be read.") from error
            try:
                return loads(text)
            except ValueError:
                log.warning("a message in %s is not JSON, and was dropped", self.data_folder_in)
        raise Empty

    def _queue_bind(self, exchange: str, routing_key: str | None, pattern: str | None, queue: str | None) -> None:
        table: Path = self._exchange_file(exchange)  # type: ignore[attr-defined]
        table.parent.mkdir(exist_ok=True)
        if not table.exists():
            _write(table, "[]", replace=False)
        elif not table.stat().st_size:
            # A process died between creating and writing it.
            _write(table, "[]")
        super()._queue_bind(exchange, routing_key or "", pattern or "", queue or "")


class Transport(filesystem.Transport):
    """kombu's filesystem transport with our channel."""

    Channel = Channel


def _write(path: Path, text: str, *, replace: bool = True) -> None:
    """Write a file that no reader sees before it is complete. Without `replace`, an existing one stays."""
    part = path.with_name(f".{uuid.uuid4()}")
    try:
        part.write_text(text)
        if replace:
            part.rename(path)
        else:
            with contextlib.suppress(FileExistsError):
                os.link(part, path)
    except OSError as error:
        raise ChannelError(f"{path} can't be written.") from error
    finally:
        part.unlink(missing_ok=True)
