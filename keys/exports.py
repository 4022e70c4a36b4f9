"""Downloads of any length, as CSV, XLSX or JSON (keys/table_files.py), a piece at a time.

A view returns `Export(request, table, file, pages)` after it has checked its permission. `pages` is a generator of
lists of rows: each list is the result of queries that read the rows after the last key of the list before, a bounded
number of them (`PAGE`). It may keep neither a cursor nor a transaction open between lists. It ends at a row that was
there when it began, since rows may be added faster than a client reads. `keys/audit_admin.py` is an example.

The next piece is made when the client has taken the one before, in a thread of the pages that is free in between
(gateway_project/pages.py). So an export of a million rows holds one piece in memory, and a client that reads slowly
holds neither a thread nor a transaction. An export that fails or takes too long ends in a cut connection, never in what
looks like a whole file.

The audit log has two events for each export: who began it, with its filters, and how many rows it had at its end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.core.exceptions import BadRequest
from django.db import close_old_connections
from django.http import HttpRequest, StreamingHttpResponse

from keys.audit.actor import acting
from keys.audit.middleware import of_request
from keys.audit.notes import note
from keys.table_files import FORMATS, Pages, TableFile

logger = logging.getLogger(__name__)

# Rows of a piece.
PAGE = 1000
# Seconds for a whole export. Who reads nothing for a while is disconnected earlier (gateway_project/http_protocol.py).
SECONDS = 3600

T = TypeVar("T")
Thread = Callable[[], AbstractAsyncContextManager[ThreadPoolExecutor]]


class UnknownFormat(BadRequest):
    """The URL asks for a kind of file that there isn't. The message says which there are, for people."""


def wanted(request: HttpRequest) -> str | None:
    """The kind of file that a URL asks for with `format`; None: the page itself.

    Raises:
        UnknownFormat: there is no such kind.
    """
    asked = request.GET.get("format")
    if asked and asked not in FORMATS:
        raise UnknownFormat(f"There is no format “{asked[:40]}”. Choose one of these: {', '.join(FORMATS)}.")
    return asked or None


def links(query: str | None) -> dict[str, Any]:
    """What the template `admin/exports.html` needs.

    Args:
        query: the page's question, as its URL has it; None: the person may not export.
    """
    return {"export_query": query, "export_kinds": [(kind, kind.upper()) for kind in FORMATS]}


class Pieces:
    """The pieces of an export. It has no method `close`, which Django would call before the first piece is sent."""

    def __init__(self, made: Generator[bytes]) -> None:
        self.made = made

    def __iter__(self) -> Iterator[bytes]:
        return self.made

    def next(self) -> bytes | None:
        """The next piece; None after the last one."""
        close_old_connections()
        return next(self.made, None)

    def end(self) -> None:
        """Make no more pieces, and note how many rows there were."""
        close_old_connections()
        self.made.close()


class Export(StreamingHttpResponse):
    """The answer of a view that exports rows.

    Args:
        table: the table that the audit log names.
        file: what it is called, and says beside its rows.
        pages: lists of rows, each row with a value for each column.
        kind: one of `FORMATS`.
        filters: what selects the rows, for the audit log; None is left out.
    """

    def __init__(
        self,
        request: HttpRequest,
        table: str,
        file: TableFile,
        pages: Pages,
        kind: str = "csv",
        **filters: object,
    ) -> None:
        note("exported", table, "", **filters, format=None if kind == "csv" else kind)
        self.pieces = Pieces(_pieces(request, table, file, pages, kind))
        super().__init__(
            self.pieces,
            content_type=FORMATS[kind].media,
            headers={"Content-Disposition": f'attachment; filename="{file.name}.{kind}"'},
        )

    def take(self) -> Pieces:
        """The pieces, which are then no longer a part of this answer."""
        self.streaming_content = _nothing()
        return self.pieces


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


def _pieces(request: HttpRequest, table: str, file: TableFile, pages: Pages, kind: str) -> Generator[bytes]:
    actor = of_request(request)
    counted = Counted(pages)
    complete = False
    try:
        yield from FORMATS[kind].make(file, counted)
        complete = True
    finally:
        with acting(lambda: actor):
            note("export ended", table, rows=counted.rows, complete=str(complete).lower())


class Counted:
    """Pages of rows, which are counted while they are read."""

    def __init__(self, pages: Pages) -> None:
        self.pages = pages
        self.rows = 0

    def __iter__(self) -> Iterator[Any]:
        for page in self.pages:
            self.rows += len(page)
            yield page


async def send_pieces(
    pieces: Pieces, thread: Thread, receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """Send the body of an export, after the answer's head.

    Args:
        thread: lends one of the pages' threads for a piece.
    """
    gone = asyncio.ensure_future(receive())
    try:
        async with asyncio.timeout(SECONDS):
            while not gone.done():
                piece = await _in(thread, pieces.next)
                if piece is None:
                    await send({"type": "http.response.body", "body": b""})
                    return
                await send({"type": "http.response.body", "body": piece, "more_body": True})
    except TimeoutError:
        # Without the last message, the server cuts the connection.
        logger.warning("an export is cut because it took too long")
    finally:
        gone.cancel()


@asynccontextmanager
async def ending(pieces: Pieces, thread: Thread) -> AsyncIterator[None]:
    """End the export after this block, however the block ends."""
    try:
        yield
    finally:
        await _in(thread, pieces.end)


async def _in(thread: Thread, work: Callable[[], T]) -> T:
    async with thread() as executor, ThreadSensitiveContext(executor=executor):
        return await sync_to_async(work)()
