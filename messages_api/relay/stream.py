"""A provider's stream on its way to the client: chunk by chunk as it comes, with usage read along.

The gateway adds events only between two others: a `ping` while the provider is silent, an `error` if the stream breaks
off (inside an event, `StreamMeter.mend` first completes that event), and the `message_stop` that a vendor leaves out
after the answer's last `message_delta`. Clients treat a stream that just ends as a success, so a failed one never just
ends.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Awaitable, Callable

from messages_api.answer.events import PING, STOP, StreamMeter
from messages_api.providers import cloud_errors
from messages_api.relay import attempts
from messages_api.relay.call import Call
from messages_api.relay.runtime import Runtime
from messages_api.server import errors
from messages_api.server.handler import PumpedResponse
from messages_api.upstream.client import Answer, Headers, UpstreamError
from usage.figures import HERE, LONG
from usage.models import Status

# Seconds that a provider has for the end of a stream whose answer is complete, pings not counted. Some never send it:
# tombii/better-ccflare#307, earendil-works/pi#5592 (June and July 2026).
LINGER_SECONDS = 2.0
# If a read takes longer than this (seconds), everything that had arrived was read before.
AT_ONCE = 0.001

# Counted in place, because a stream has thousands of events.
BETWEEN = HERE.between_events

SendBytes = Callable[[bytes], Awaitable[None]]


class EventStream(PumpedResponse):
    """Pumps an answer to the client, and settles its call by the end of it on every path."""

    def __init__(self, runtime: Runtime, call: Call, answer: Answer, headers: Headers) -> None:
        super().__init__(answer.status, headers)
        self.runtime = runtime
        self.call = call
        self.answer = answer
        self.meter = StreamMeter(threaded=call.request.threaded)
        # When the stream began to wait for the provider (0: it isn't waiting), and when the client last got bytes.
        self.waiting_since = 0.0
        self.sent_at = 0.0
        # When the stream had last read everything that the provider had written.
        self.read_all_at = time.monotonic()
        # When the answer was seen to be complete, though its stream goes on; 0: it wasn't.
        self.complete_at = 0.0
        self.lingered = False
        self.unsent = b""
        timeouts = call.timeouts
        self.patience = timeouts.between_bytes or 0.0
        self.deadline = call.attempt.began + timeouts.total if timeouts.total else 0.0
        self.send: SendBytes | None = None
        self.pinging: asyncio.Task[None] | None = None
        runtime.open_calls.streams.add(self)

    async def pump(self, send: SendBytes) -> None:
        self.send = send
        self.sent_at = time.monotonic()
        try:
            await self._relay(send)
        except UpstreamError as error:
            if self.lingered:
                await self._conclude(send)
            else:
                kind = "too_long" if error.kind == "too_long" else "broken_off"
                await self._end(send, Status.FAILED, errors.broken_off(), kind)
        except asyncio.CancelledError:
            if self.call.http_request.client_gone:
                raise
            self.call.http_request.task.uncancel()
            await self._end(send, Status.INTERRUPTED, errors.interrupted(cut=self.call.cut), "")

    @property
    def over(self) -> bool:
        """Whether the answer is complete: the model has stopped, even if its stream goes on."""
        return bool(self.meter.stopped or self.meter.reading.stop_reason) and not self.meter.failed

    async def _relay(self, send: SendBytes) -> None:
        call, meter, read = self.call, self.meter, self.answer.read
        while True:
            self.waiting_since = time.monotonic()
            chunk = await read()
            if (now := time.monotonic()) - self.waiting_since > AT_ONCE or not chunk:
                self.read_all_at = now
            if chunk and call.attempts[-1].first_byte:
                gap = now - self.waiting_since
                BETWEEN.counts[bisect_left(LONG, gap)] += 1
                BETWEEN.total += gap
            self.waiting_since = 0.0
            if self.pinging is not None:
                await self.pinging
                self.pinging = None
                now = time.monotonic()
            if not chunk:
                break
            self.sent_at = now
            call.note_first_byte()
            # `send` waits until the server has room: if it is cancelled there, the chunk has not been sent.
            self.unsent = chunk
            meter.feed(chunk)
            if self.over and (not self.complete_at or b"event: ping" not in chunk):
                self.complete_at = self.sent_at
            if meter.stopped and not call.settled:
                self._complete()  # before the client has the last bytes and disconnects
            if meter.states:
                await self._keep()
            if call.committed is not None:
                await call.commit()
            await send(chunk)
            self.unsent = b""
        meter.finish()
        if meter.states:
            await self._keep()
        if self.over and (self.meter.stopped or self.meter.at_boundary):
            await self._conclude(send)
        else:
            await self._end(send, Status.FAILED, errors.broken_off(), "" if meter.failed else "broken_off")

    async def _keep(self) -> None:
        """Store what the last events bind, before the client can send it back."""
        states, self.meter.states = self.meter.states, []
        await self.runtime.bindings.keep(self.call, states)

    async def _conclude(self, send: SendBytes) -> None:
        """Settle a complete answer whose stream has ended or doesn't, and end it as clients expect."""
        self._complete()
        self.answer.close()
        if self.pinging is not None:
            await self.pinging
        await self.call.commit()
        if last := self.unsent + (b"" if self.meter.stopped else STOP):
            await send(last)

    def _complete(self) -> None:
        """The stream has ended: settle by its last report of usage, or by what was delivered if there is no report."""
        call, meter = self.call, self.meter
        status = Status.FAILED if meter.failed else Status.COMPLETED
        if meter.counted and meter.reading.countable:
            call.finish(status, meter.reading)
        else:
            self._abandon(status)

    async def _end(self, send: SendBytes, status: Status, error: errors.GatewayError, error_type: str) -> None:
        """End the stream early, with an error event unless the client has had an end or an error already."""
        self._abandon(status, error_type)
        self.answer.close()  # close it now, because a slow client may delay the rest
        if self.pinging is not None:
            await self.pinging
        if meant := self.meter.unheard and cloud_errors.masked(self.meter.unheard):
            last = self.unsent + self.meter.mend() + cloud_errors.event(meant[1])
        elif self.meter.stopped or (self.meter.failed and not self.meter.unheard):
            last = self.unsent
        else:
            last = self.unsent + self.meter.mend() + errors.event(error.kind, error.message, self.call.id)
        await self.call.commit()
        if last:
            await send(last)

    def _abandon(self, status: Status, error_type: str = "") -> None:
        meter = self.meter
        if error_type and not meter.failed:  # the provider's own error type is more precise
            meter.reading.error_type = error_type
        if meter.failed and not meter.started:
            self.call.finish(status, meter.reading, free=True)  # an error instead of an answer
            return
        # While a client reads nothing, the gateway reads nothing either, but the provider goes on writing.
        meter.reading.unread = 0.0 if self.waiting_since else time.monotonic() - self.read_all_at
        # The model also writes thinking that isn't shown.
        hidden = meter.thought or not meter.started
        self.call.abandon(status, meter.reading, hidden=hidden)

    def tend(self, now: float, ping_seconds: float) -> None:
        """Ping a client whose provider is silent, and end a stream that stays silent or doesn't end. This is called
        often."""
        if not self.waiting_since:
            return
        self.lingered = 0 < self.complete_at < now - LINGER_SECONDS and self.meter.at_boundary
        if self.lingered or now - self.waiting_since > self.patience or (self.deadline and now > self.deadline):
            self.answer.close()
        elif now - self.sent_at >= ping_seconds and self.meter.at_boundary and self.pinging is None and self.send:
            self.sent_at = now
            self.pinging = asyncio.ensure_future(self._ping(self.send))

    async def _ping(self, send: SendBytes) -> None:
        await send(PING)
        if self.waiting_since:
            self.pinging = None

    def close(self) -> None:
        """Settle the call if nothing has: the client has everything, or has disconnected. The handler calls this on
        every path."""
        if self.closed:
            return
        super().close()
        call, meter = self.call, self.meter
        unseen = call.works_unseen and not meter.reading.begun and not meter.failed
        if unseen and not call.settled and self.runtime.reading_on.begin(call, self._wait_for_beginning):
            self.runtime.open_calls.streams.discard(self)
        else:
            self._let_go()

    async def _wait_for_beginning(self) -> None:
        """Read until the stream begins or the answer is complete: a provider may answer in one piece although it was
        asked for a stream."""
        meter = self.meter
        try:
            while not meter.reading.begun and not meter.failed:
                if not (chunk := await attempts.read_piece(self.call, self.answer)):
                    break
                self.read_all_at = time.monotonic()
                meter.feed(chunk)
            if self.over and not self.call.settled:
                self._complete()
        except UpstreamError:
            pass  # what has arrived is the answer
        finally:
            self._let_go()

    def _let_go(self) -> None:
        try:
            if not self.call.settled:
                gone = self.call.http_request.client_gone
                self._abandon(Status.CLIENT_DISCONNECTED if gone else Status.INTERRUPTED)
        finally:
            self.runtime.open_calls.streams.discard(self)
            self.answer.close()
