"""Downloads of any length, as CSV, a piece at a time.

A view returns `Export(request, table, filename, header, pages)` after it has checked its permission. `pages` is a
generator of lists of rows: each list is the result of queries that read the rows after the last key of the list before,
a bounded number of them (`PAGE`). It may keep neither a cursor nor a transaction open between lists. It ends at a row
that was there when it began, since rows may be added faster than a client reads.
`keys/audit_admin.py` is an example.

The next piece is made when the client has taken the one before, in a thread of the pages that is free in between
(gateway_project/pages.py). So an export of a million rows holds one piece in memory, and a client that reads slowly
holds neither a thread nor a transaction. An export that fails or takes too long ends in a cut connection, never in what
looks like a whole file.

The audit log has two events for each export: who began it, with its filters, and how many rows it had at its end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.db import close_old_connections
from django.http import HttpRequest, StreamingHttpResponse

from keys.audit.actor import acting
from keys.audit.middleware import of_request
from keys.audit.notes import note
from keys.csv_lines import BYTE_ORDER_MARK, csv_line

logger = logging.getLogger(__name__)

# Rows of a piece.
PAGE = 1000
# Seconds for a whole export. Who reads nothing for a while is disconnected earlier (gateway_project/http_protocol.py).
SECONDS = 3600

T = TypeVar("T")
Thread = Callable[[], AbstractAsyncContextManager[ThreadPoolExecutor]]


class Pieces:
    """The pieces of an export. It has no method `close`, which Django would call before the first piece is sent."""

    def __init__(self, made: Generator[str]) -> None:
        self.made = made

    def __iter__(self) -> Iterator[str]:
        return self.made

    def next(self) -> str | None:
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
        filename: what a browser saves the file as.
        header: the titles of the columns.
        pages: lists of rows, each row with a value for each column.
        filters: what selects the rows, for the audit log; None is left out.
    """

    def __init__(
        self,
        request: HttpRequest,
        table: str,
        filename: str,
        header: Sequence[str],
        pages: Iterable[Sequence[Sequence[Any]]],
        **filters: object,
    ) -> None:
        note("exported", table, "", **filters)
        self.pieces = Pieces(_pieces(request, table, header, pages))
        super().__init__(
            self.pieces,
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{filename}"'},
        )

    def take(self) -> Pieces:
        """The pieces, which are then no longer a part of this answer."""
        self.streaming_content = _nothing()
        return self.pieces


async def _nothing() -> AsyncIterator[str]:
    return
    yield


def _pieces(
    request: HttpRequest, table: str, header: Sequence[str], pages: Iterable[Sequence[Sequence[Any]]]
) -> Generator[str]:
    actor = of_request(request)
    rows, complete = 0, False
    try:
        yield BYTE_ORDER_MARK + csv_line(header)
        for page in pages:
            rows += len(page)
            yield "".join(csv_line(row) for row in page)
        complete = True
    finally:
        with acting(lambda: actor):
            note("export ended", table, rows=rows, complete=str(complete).lower())


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
                await send({"type": "http.response.body", "body": piece.encode(), "more_body": True})
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
