"""OpenAI, or a provider that speaks its chat completions: the Messages API is translated to them and back.

docs/providers.md has the table of what is translated, refused and left out.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, ClassVar
from urllib.parse import SplitResult

from keys.directory import KnownProviderKey
from keys.errors import Unusable
from keys.timeouts import Timeouts
from messages_api.answer.events import PING
from messages_api.process import long_bodies
from messages_api.providers.base import JSON, Get, Outgoing, Provider, Whole, speaks
from messages_api.providers.openai import (
    answer,
    completion,
    dialects,
    faults,
    listing,
    mislabelled,
    names,
    probe,
    request,
    turns,
)
from messages_api.providers.openai.events import EventTranslation
from messages_api.providers.openai.expected import Expected, expected
from messages_api.server import errors, headers
from messages_api.upstream.client import Answer, Headers, UpstreamError, plain, read_all

MESSAGES = "/v1/messages"
REQUEST_IDS = (b"x-request-id", b"apim-request-id", b"x-generation-id", b"mistral-correlation-id")
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")

# Seconds. A provider that keeps the connection alive with comments sends the client nothing: after this time the
# gateway sends a ping. It also waits this long for the beginning of a stream, which may be an error.
SILENCE = 10.0
# The most time to read an answer to its end after the last event, so that the connection can be reused (seconds).
END_SECONDS = 1.0
# Seconds that a stream may go on after its `finish_reason`: with the usage known, and without. Some never end, and keep
# the connection alive with comments: https://github.com/maximhq/bifrost/issues/6784 (September 2026),
# https://github.com/musistudio/claude-code-router/pull/1271 (March 2026).
LINGER_SECONDS, USAGE_SECONDS = 2.0, 5.0


@speaks
class OpenAI(Provider):
    name = "openai"
    label = "OpenAI-compatible"
    own_hosts = re.compile(r"api\.openai\.com")
    # The gateway can't know which models an address has.
    sells_claude = False
    signs_thinking = False
    lists_models = True
    price_lists = (
        "openai",
        "openrouter",
        "groq",
        "mistral",
        "deepseek",
        "google",
        "x-ai",
        "together",
        "fireworks",
        "cerebras",
    )
    guesses = ("moonshotai", "zai", "cohere", "perplexity", "novita", "anthropic")
    # Never below the real price: priority is 1.7 to 2.5 times the list price (https://openai.com/api-fast-mode/), and
    # ultrafast about 6 (https://docs.opper.ai/build/gateway/service-tiers, both as of November 2026); flex and batches
    # are half of it, scale and provisioned capacity are prepaid.
    tier_rates: ClassVar[Mapping[str, Decimal]] = {
        "flex": Decimal(1),
        "batch": Decimal(1),
        "scale": Decimal(1),
        "provisioned": Decimal(1),
        "priority": Decimal("2.5"),
        "fast": Decimal("2.5"),
        "*": Decimal(6),
    }

    @classmethod
    def check_address(cls, url: str, parts: SplitResult) -> None:
        # An api-version makes it an address of Azure's, whose models are deployments.
        if "#" in url or not dialects.AZURE_VERSION.fullmatch(parts.query):
            super().check_address(url, parts)
        if parts.path.rstrip("/").endswith("/completions"):
            raise Unusable("the base URL ends in a path of the API: leave /chat/completions out, the gateway adds it")

    @classmethod
    def list_models(cls, base_url: str, secret: str, get: Get) -> Iterator[Any]:
        return listing.models(base_url, secret, get)

    async def probe(self, key: KnownProviderKey, timeouts: Timeouts) -> Answer | None:
        return await probe.ask(self.client, key, timeouts)

    def answers_probe(self, body: bytes) -> bool:
        return probe.is_answered(body)

    def refuses_probe_only(self, message: str) -> bool:
        return probe.LISTING_RIGHT in message

    async def send(self, call: Outgoing) -> Answer:
        if call.path != MESSAGES:
            raise errors.not_found(
                f"{call.path}: not available with this model's provider, which has no such endpoint.",
                reason="no_endpoint_there",
            )
        body = call.body if isinstance(call.body, bytes) else await call.body.read()
        key = call.provider_key
        sent, wanted = await long_bodies.run(translated, body, key.base_url)
        passed = [
            *headers.traced(call.headers),
            JSON,
            (b"accept", b"text/event-stream" if wanted.stream else b"application/json"),
            (b"accept-encoding", b"identity"),
            dialects.credential(key.base_url, key.secret),
        ]
        url = dialects.address(key.base_url, dialects.own_name(wanted.model, key.base_url))
        answered = plain(await self.client.send("POST", url, passed, sent, call.on_write, call.timeouts))
        try:
            return await translate_answer(answered, wanted, call.timeouts.between_bytes)
        except BaseException:
            answered.close()
            raise


def translated(body: bytes, base_url: str) -> tuple[bytes, Expected]:
    """A Messages request, translated for an address, and what the translation of its answer needs.

    Raises:
        GatewayError: 400, the request can't be expressed in this protocol.
    """
    asked = request.read(body)
    model = dialects.own_name(asked["model"], base_url)
    spoken = dialects.dialect(base_url, model)
    try:
        own_names = names.shorten(asked)
        made = {"model": model, "messages": turns.turns(asked, spoken), **request.settings(asked, spoken)}
        return request.encode(made), expected(
            asked, own_names, dialects.tags(base_url, model), takes_stops=spoken.takes_stops
        )
    except RecursionError:
        raise errors.invalid_request("The request is nested too deep for this model's provider.") from None


async def translate_answer(answered: Answer, wanted: Expected, between_bytes: float | None) -> Answer:
    """The translated answer. One that isn't a stream is read to its end first, because it may be an error with another
    status.

    Raises:
        UpstreamError: the provider disconnected before the end, or the answer isn't one.
    """
    known = headers.acted_on(answered.headers)
    request_id = next((value for name in REQUEST_IDS if (value := headers.value_of(answered.headers, name))), "")
    if request_id:
        known.append((b"request-id", request_id.encode("latin-1")))
    streams = headers.value_of(answered.headers, b"content-type").lower().startswith("text/event-stream")
    succeeded = 200 <= answered.status < 300
    if succeeded and wanted.stream and not streams:
        answered = peeked = await mislabelled.peek(answered, between_bytes)
        streams = peeked.streams
    if succeeded and streams and wanted.stream:
        streamed = Streamed(answered, [*known, EVENTS], EventTranslation(wanted))
        if (failure := await streamed.begin(between_bytes)) is None:
            return streamed
        status, error = faults.of_json(0, failure, wanted.model, request_id)
        return Whole(status, [*known, JSON], error)
    body = await read_whole(answered, between_bytes)
    if succeeded:
        try:
            if not wanted.stream and mislabelled.is_stream(body):
                made, failure = mislabelled.in_one_piece(body, wanted)
                if failure is None:
                    return Whole(200, [*known, JSON], made)
                status, error = faults.of_json(0, failure, wanted.model, request_id)
                return Whole(status, [*known, JSON], error)
            read = completion.read(body)
            if completion.error(read) is None:
                if wanted.stream:
                    return Whole(200, [*known, EVENTS], EventTranslation(wanted).whole(read))
                return Whole(200, [*known, JSON], answer.message(read, wanted))
        except completion.Nothing:
            raise nothing() from None
        except ValueError:
            raise UpstreamError("bad_answer", sent=True) from None
    if not (succeeded or 400 <= answered.status < 600):
        raise UpstreamError("bad_answer", sent=True)
    status, error = faults.of_answer(0 if succeeded else answered.status, body, wanted.model, request_id)
    return Whole(status, [*known, JSON], error)


async def read_whole(answered: Answer, between_bytes: float | None) -> bytes:
    """The whole body. Empty: it is that of an error, and incomplete.

    Raises:
        UpstreamError: the body is incomplete, too slow or too long.
    """

    async def part() -> bytes:
        async with asyncio.timeout(between_bytes):
            return await answered.read()

    try:
        return await read_all(part)
    except TimeoutError:
        raise UpstreamError("no_answer_in_time", sent=True) from None
    except UpstreamError:
        if answered.status < 400:
            raise
        return b""
    finally:
        answered.close()


def nothing() -> UpstreamError:
    """The answer ended before it began: a retry makes sense."""
    return UpstreamError("empty_answer", sent=True, ended=True)


class Streamed:
    """An answer that is translated while it arrives."""

    status = 200

    def __init__(self, answered: Answer, headers: Headers, events: EventTranslation) -> None:
        self.answered = answered
        self.headers = headers
        self.events = events
        self.last_sent = time.monotonic()
        self._ready: list[bytes] = []
        self._trouble: UpstreamError | None = None
        self._over = False
        # When the model was seen to have finished, though the stream goes on; 0: it wasn't.
        self._finished_at = 0.0
        self._lingered = False

    async def begin(self, between_bytes: float | None) -> Any:
        """Wait until the model begins. Returns the provider's error if one comes first; None: no error.

        Raises:
            UpstreamError: the stream ended before it began. (Other failures are raised by `read`.)
        """
        events = self.events
        try:
            async with asyncio.timeout(min(SILENCE, between_bytes or SILENCE)):
                while not (events.begun or events.done or self._over):
                    if out := await self._translated():
                        self._ready.append(out)
        except TimeoutError:
            pass
        except UpstreamError as error:
            if error.ended:
                self.close()
                raise
            self._trouble = error
        if events.error is None or events.begun:
            return None
        self.close()
        return events.error

    async def read(self) -> bytes:
        while True:
            if self._ready:
                self.last_sent = time.monotonic()
                return self._ready.pop(0)
            if self._trouble is not None:
                raise self._trouble
            if self._over or self.events.done:
                break
            if out := await self._translated():
                self._ready.append(out)
            elif not self._over and time.monotonic() - self.last_sent > SILENCE:
                self.last_sent = time.monotonic()
                return PING
        if self.events.done and not (self.events.failed or self._lingered):
            await self._end()
        return b""

    async def _translated(self) -> bytes:
        """Read and translate the provider's next bytes; the result may be empty.

        Raises:
            UpstreamError: the provider disconnected before the end, or the bytes are no such stream.
        """
        if self.events.broken:
            raise nothing() if self.events.empty else UpstreamError("bad_answer", sent=True)
        chunk = await self._next()
        self._over = not chunk
        try:
            out = self.events.feed(chunk) if chunk else self.events.finish()
            if out:
                # The model goes on: some servers send `finish_reason: stop` behind every chunk.
                # https://github.com/1jehuang/jcode/issues/1326 (September 2026)
                self._finished_at = 0.0
            return out
        except completion.Nothing:
            raise nothing() from None
        except ValueError:
            raise UpstreamError("bad_answer", sent=True) from None

    async def _next(self) -> bytes:
        """The provider's next bytes; empty: the stream has ended, or doesn't end although the model has finished.

        Raises:
            UpstreamError: the provider disconnected before the end.
        """
        events = self.events
        if not events.finished:
            return await self.answered.read()
        now = time.monotonic()
        self._finished_at = self._finished_at or now
        until = self._finished_at + (LINGER_SECONDS if events.counted else USAGE_SECONDS)
        try:
            async with asyncio.timeout(max(0.0, until - now)):
                return await self.answered.read()
        except TimeoutError:
            self._lingered = True
            return b""

    async def _end(self) -> None:
        try:
            async with asyncio.timeout(END_SECONDS):
                while await self.answered.read():
                    pass
        except (TimeoutError, UpstreamError):
            pass

    def close(self) -> None:
        self.answered.close()
