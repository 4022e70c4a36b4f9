"""The periodic task for message batches: it asks for their state, settles those whose owner doesn't read the results,
and looks for those whose creation was interrupted by a crash or by a provider's incomplete answer.
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import msgspec
from django.db import connection, transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from keys.models import ProviderKey
from messages_api.answer.batch_results import SETTLE, KnownBatch, ResultsMeter
from messages_api.json_text.lenient import integer, mapping, text
from messages_api.json_text.outline import decode_all
from messages_api.models import Batch
from messages_api.providers.paths import is_id
from messages_api.stored import control_plane
from messages_api.stored.batch_rows import COLUMNS, DESCRIBE, MADE, PORTION, described, description, moment
from messages_api.stored.batch_urls import PATH
from messages_api.stored.control_plane import NoAnswer
from usage import pricing
from usage.arbitration import Settlement
from usage.models import Hold, LedgerEntry, Process, Status

logger = logging.getLogger(__name__)

# The time between two requests for the state of a running batch: in its first hour, and later.
OFTEN = timedelta(minutes=1)
SELDOM = timedelta(minutes=10)
# The time that the owner has to read the results before the task does.
OWNERS_TURN = timedelta(minutes=10)
# If the provider doesn't list a batch after this time, it was never created.
GIVEN_UP = timedelta(minutes=15)
# The largest difference between the time of our row and the time of creation that the provider reports.
EARLIER, LATER = timedelta(minutes=1), timedelta(hours=1)
# Entries on a page of a provider's list, and the most pages that are read.
PAGE = 100
MOST_PAGES = 20
# Time-outs (seconds) for one answer, and for the results of one batch.
SECONDS = 30.0
RESULTS_SECONDS = 3600.0


def tend() -> None:
    """Do everything that is due. Only one process works on each batch."""
    for batch in due():
        if claim(batch):
            with alone(f"batch {batch.id}"):
                ask(batch)
    orphans = list(unknown())
    for provider_key in ProviderKey.objects.filter(id__in={batch.provider_key_id for batch in orphans}):
        with alone(f"batches of provider key {provider_key.name}"):
            adopt(provider_key, [batch for batch in orphans if batch.provider_key_id == provider_key.id])
    clear_up()


@contextlib.contextmanager
def alone(what: str) -> Iterator[None]:
    """Log an error within this block, so that the other batches still get their turn."""
    try:
        yield
    except NoAnswer as problem:
        logger.warning("%s: %s", what, problem)
    except httpx.HTTPError as error:
        logger.warning("%s: the provider can't be reached (%s)", what, type(error).__name__)
    except Exception as error:
        # Its text may quote a line of results.
        logger.error("%s can't be brought up to date (%s)", what, type(error).__name__)


def clear_up() -> None:
    """Close batches without a hold: they have expired, or were never created and their process died before it recorded
    that.
    """
    unheld = Batch.objects.filter(created_at__lt=timezone.now() - GIVEN_UP).exclude(id__in=Hold.objects.values("id"))
    unheld.filter(state=Batch.State.RUNNING).update(state=Batch.State.EXPIRED)
    unheld.filter(state=Batch.State.CREATING).delete()


# Running ones


def due() -> QuerySet[Batch]:
    """The batches to ask for now, including those with unread results."""
    now = timezone.now()
    return Batch.objects.select_related("provider_key").filter(
        Q(asked_at__lt=now - OFTEN, created_at__gt=now - timedelta(hours=1)) | Q(asked_at__lt=now - SELDOM),
        # A batch that was settled in the meantime keeps its last description.
        Q(state=Batch.State.RUNNING) | Q(state=Batch.State.SETTLED, ended_at=None),
        deleted_at=None,
        provider_key__isnull=False,
    )


def claim(batch: Batch) -> bool:
    """Whether this process is the one that asks."""
    claimed = Batch.objects.filter(id=batch.id, asked_at=batch.asked_at).update(asked_at=timezone.now())
    return bool(claimed)


def ask(batch: Batch) -> None:
    """Ask the provider for a batch's state. Settle the batch if it has ended and its owner has had time to read the
    results.

    Raises:
        NoAnswer, httpx.HTTPError: it doesn't answer.
    """
    assert batch.provider_key is not None
    with control_plane.client(batch.provider_key) as http:
        body = control_plane.read(http, f"{PATH}/{batch.provider_batch_id}", {}, time.monotonic() + SECONDS)
        described = description(batch.id, body)
        write(DESCRIBE, described)
        ended_at = described["ended_at"]
        waited = ended_at is not None and ended_at < timezone.now() - OWNERS_TURN
        if waited and batch.state == Batch.State.RUNNING:
            settle(http, batch)


def settle(http: httpx.Client, batch: Batch) -> None:
    """Read the results of a batch that has ended, and settle it.

    Raises:
        NoAnswer, httpx.HTTPError: the results can't be read now; settled lines stay settled.
    """
    book = pricing.load_price_book()
    meter = ResultsMeter(known(batch), book.price, book.unpriced())
    for part in lines(http, batch.provider_batch_id):
        meter.feed(part)
        while len(meter.waiting) >= PORTION:
            write(SETTLE, {"id": batch.id, "lines": meter.take(PORTION).decode(), "last": False})
    complete = meter.finish()
    while meter.waiting:
        write(SETTLE, {"id": batch.id, "lines": meter.take(PORTION).decode(), "last": False})
    if not complete:
        raise NoAnswer("its results are incomplete")
    write(SETTLE, {"id": batch.id, "lines": "[]", "last": True})
    logger.info("batch %s is settled: %d requests", batch, len(meter.custom_ids))


def lines(http: httpx.Client, name: str) -> Iterator[bytes]:
    """A batch's results, in parts.

    Raises:
        NoAnswer, httpx.HTTPError: the provider doesn't return them.
    """
    deadline = time.monotonic() + RESULTS_SECONDS
    with http.stream("GET", f"{PATH}/{name}/results") as answer:
        if answer.status_code != 200:
            raise NoAnswer(f"its results: the provider answers {answer.status_code}")
        for part in answer.iter_bytes():
            if time.monotonic() > deadline:
                raise NoAnswer("its results take too long")
            yield part


def known(batch: Batch) -> KnownBatch:
    """The facts about the batch that its results are settled by."""
    [row] = write(f"SELECT {COLUMNS} FROM messages_api_batch b WHERE b.id = %(id)s", {"id": batch.id})  # noqa: S608
    return KnownBatch(*row)


# Batches that may or may not have been created


def unknown() -> QuerySet[Batch]:
    """Batches whose creation was interrupted."""
    making = Process.objects.values("id")
    return Batch.objects.filter(~Q(process__in=making) | Q(process=None), state=Batch.State.CREATING).order_by("id")


def adopt(provider_key: ProviderKey, orphans: list[Batch]) -> None:
    """Look for these batches among the provider's unknown ones, or record that they were never created.

    Raises:
        NoAnswer, httpx.HTTPError: it doesn't list what it has.
    """
    with control_plane.client(provider_key) as http:
        strays = list(unheard_of(http, orphans[0].created_at - EARLIER))
        for orphan in orphans:
            found = [stray for stray in strays if fits(orphan, stray)]
            rivals = [other for other in orphans if any(fits(other, stray) for stray in found)]
            running = any(stray.get("processing_status") != "ended" for stray in found)
            if len(found) > 1 or len(rivals) > 1:
                # Only the results show which of them belongs to which row.
                found = [stray for stray in found if proven(http, orphan, stray)]
            if found:
                strays.remove(found[0])
                take_over(orphan, found[0])
            elif orphan.created_at < timezone.now() - GIVEN_UP and not running:
                give_up(orphan)


def unheard_of(http: httpx.Client, since: datetime) -> Iterator[dict[str, Any]]:
    """The provider's batches of this time that have no row here.

    Raises:
        NoAnswer, httpx.HTTPError: it doesn't answer.
    """
    query: dict[str, str | int] = {"limit": PAGE}
    for _ in range(MOST_PAGES):
        page = mapping(decode_all(control_plane.read(http, PATH, query, time.monotonic() + SECONDS)))
        listed = page.get("data")
        if not isinstance(listed, list):
            raise NoAnswer("the provider's answer is no list of batches")
        for each in map(mapping, listed):
            made = moment(each.get("created_at"))
            if made is not None and made < since:
                return
            if made and is_id(text(each.get("id"))) and not Batch.objects.filter(provider_batch_id=each["id"]).exists():
                yield each
        if page.get("has_more") is not True:
            return
        query["after_id"] = text(page.get("last_id"))


def fits(orphan: Batch, stray: dict[str, Any]) -> bool:
    """Whether it may be this one: created at that time, with the same number of requests."""
    made = moment(stray.get("created_at"))
    counts = sum(integer(count) for count in mapping(stray.get("request_counts")).values())
    return (
        made is not None
        and orphan.created_at - EARLIER <= made <= orphan.created_at + LATER
        and counts == orphan.requests
    )


def proven(http: httpx.Client, orphan: Batch, stray: dict[str, Any]) -> bool:
    """Whether its results belong to this batch's requests; unknown before it has ended."""
    if stray.get("processing_status") != "ended":
        return False
    book = pricing.load_price_book()
    meter = ResultsMeter(known(orphan), book.price, book.unpriced())
    for part in lines(http, text(stray["id"])):
        meter.feed(part)
        meter.waiting.clear()
    return meter.finish() and meter.are_its_own


def take_over(orphan: Batch, stray: dict[str, Any]) -> None:
    """Record that the provider's batch is this one."""
    hold = Hold.objects.filter(id=orphan.id).first()
    if hold is None:
        return
    settlement = settlement_of(hold, Status.COMPLETED, "")
    made = {
        "id": orphan.id,
        "provider_batch_id": text(stray["id"]),
        "described": described(json.dumps(stray).encode()),
        "organization_id": "",
        "workspace_id": "",
        "settlement": msgspec.json.encode(settlement).decode(),
    }
    write(MADE, made)
    logger.warning("batch %s was found at its provider, where it is %s", orphan.id, made["provider_batch_id"])


def give_up(orphan: Batch) -> None:
    """Record that the batch was never created, and release its hold."""
    with transaction.atomic():
        hold = Hold.objects.filter(id=orphan.id).first()
        if hold is not None and not LedgerEntry.objects.filter(id=orphan.id).exists():
            settlement = msgspec.json.encode([settlement_of(hold, Status.FAILED, "never_made")]).decode()
            write("SELECT * FROM usage_settle(%(settlements)s::jsonb)", {"settlements": settlement})
        Batch.objects.filter(id=orphan.id, state=Batch.State.CREATING).delete()
    logger.warning("batch %s was never created", orphan.id)


def settlement_of(hold: Hold, status: Status, error_type: str) -> Settlement:
    """The settlement of the call that created a batch, if the process of that call can't write it."""
    return Settlement(
        id=hold.id,
        model=hold.requested_model,
        provider=hold.provider,
        provider_key_id=hold.provider_key,
        provider_request_id="",
        status=status.value,
        http_status=None,
        error_type=error_type,
        stop_reason="",
        input_tokens=0,
        output_tokens=0,
        thinking_tokens=0,
        cache_read_input_tokens=0,
        cache_creation_5m_input_tokens=0,
        cache_creation_1h_input_tokens=0,
        web_search_requests=0,
        iterations=[],
        service_tier="",
        speed="",
        inference_geo="",
        cost=Decimal(0),
        currency="USD",
        price_version=hold.price_version,
        price_flag="",
        estimated=False,
        time_to_first_byte_ms=None,
        duration_ms=round((datetime.now(UTC) - hold.admitted_at).total_seconds() * 1000),
        attempts=[],
    )


def write(query: str, values: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Run the web processes' statements on Django's connection."""
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return list(cursor.fetchall())
