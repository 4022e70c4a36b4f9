"""What a streamed answer reports, read from its bytes while they pass: where an event ends, and what it says.

Facts about Anthropic's stream: the first usage is in `message_start`; each `message_delta.usage` overlays it with
cumulative counts (replace, never add; null changes nothing); only `message_start` splits cache writes by time to live.
Source: https://docs.claude.com/en/docs/build-with-claude/streaming and recorded exchanges.
"""

from __future__ import annotations

import re
from typing import Any

from messages_api.answer.account_states import State, StateMeter, block_states, container_state, thread_state
from messages_api.answer.metering import BLOCK, END, PLACEHOLDER, Reading
from messages_api.answer.seen import RESULT, Seen
from messages_api.json_text.lenient import integer, is_reported, mapping, text
from messages_api.json_text.outline import Members, decode
from messages_api.upstream.client import MOST_BYTES, UpstreamError

# Events that the gateway adds to a provider's stream.
PING = b'event: ping\ndata: {"type": "ping"}\n\n'
STOP = b'event: message_stop\ndata: {"type": "message_stop"}\n\n'

BOUNDARY = re.compile(rb"\r\n\r\n|\n\n|\r\r")
LINE_END = re.compile(rb"\r\n|\n|\r")

DELTA = b"event: content_block_delta"
ERROR = re.compile(rb"^event: ?error\s*$", re.MULTILINE)
DELTA_TEXT = re.compile(
    rb'"delta"\s*:\s*\{\s*"type"\s*:\s*"\w+"\s*,\s*"(?:text|thinking|partial_json|content)"\s*:\s*"'
)
EVENT = Members(
    type=None,
    error=None,
    success=None,
    usage=None,
    message=Members(id=None, model=None, usage=None, container=None),
    content_block=BLOCK,
    delta=Members(
        text=None, thinking=None, partial_json=None, content=None, signature=None, data=None, usage=None, **END
    ),
)
NO_BEGINNING = b"\0"
# After one of these events, a stream shows all that the model and its tools do.
BEGUN = ("message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop")


class StreamMeter(StateMeter):
    """Reads server-sent events while they arrive, cut at any byte. No I/O."""

    def __init__(self, *, threaded: bool = False) -> None:
        super().__init__(threaded=threaded)
        self.seen = Seen()
        self.reading = Reading(_seen=self.seen)
        self.started = False
        self.has_block = False
        self.stopped = False
        self.failed = False
        # An error that clients don't notice: it lacks its `event` line or its type.
        self.unheard = b""
        self.counted = False
        self.thought = False
        self._rest = bytearray()
        # What a delta of text begins with, up to its text, by the last one.
        self._beginning = NO_BEGINNING

    @property
    def at_boundary(self) -> bool:
        """Whether the bytes end with a whole event, so that the gateway may add one."""
        return not self._rest

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes.

        Raises:
            UpstreamError: an event is longer than `MOST_BYTES`.
        """
        rest = self._rest
        if not rest and b"\r" not in chunk:  # the usual case: whole events, with Anthropic's line ends
            *events, last = chunk.split(b"\n\n")
            seen = self.seen
            for event in events:
                # Most events are text, and begin like the one before. Only their length matters, and only if the
                # client disconnects. This is `Seen.note_text` without a call for each.
                if self.reading.wrote and event.startswith(self._beginning):
                    written = event.rfind(b'"') - len(self._beginning)
                    seen.deltas += 1
                    seen.size += written
                    seen.hidden = seen.hidden and not written
                elif event:
                    self._event(event)
            rest += last
            return
        searched = max(0, len(rest) - 3)
        rest += chunk
        start = 0
        while (found := BOUNDARY.search(rest, max(start, searched))) is not None:
            if found.start() > start:
                self._event(bytes(rest[start : found.start()]))
            start = found.end()
        if start:
            del rest[:start]
        if len(rest) > MOST_BYTES:
            raise UpstreamError("too_long", sent=True)

    def finish(self) -> None:
        """Read what is left at the end of the stream: an event that lacks only its blank line counts."""
        if self._rest:
            self._event(bytes(self._rest))

    def mend(self) -> bytes:
        """The bytes that turn a cut event at the end of the stream into a valid one.

        They complete a cut UTF-8 character and make the fragment a `ping`, which clients skip without reading its data:
        of several `event:` lines in an event, the last one counts.
        """
        rest = bytes(self._rest[-4:])  # a character's length
        if not rest:
            return b""
        line_end = b"" if rest.endswith((b"\n", b"\r")) else b"\n"
        return complete_character(rest) + line_end + b"event: ping\n\n"

    def _event(self, event: bytes) -> None:
        """Read one event, by the cheapest of three ways that suffices.

        A delta of text is only counted. The start of a block of more than 64 kB isn't parsed either, unless it may name
        files. Every other event is parsed: `_message` reads what it says.
        """
        if event.startswith(DELTA) and (head := DELTA_TEXT.search(event)) is not None:
            start = head.end()
            self._beginning = event[:start]
            self.seen.note_text(event.rfind(b'"') - start)
            if not self.reading.wrote:
                self.reading.wrote = event[start : start + 1] not in (b'"', b"")
            return
        data = b"\n".join(line[5:].removeprefix(b" ") for line in LINE_END.split(event) if line[:5] == b"data:")
        if not data and event.lstrip().startswith(b"{"):  # a vendor's error, sent as bare JSON
            data = event
        if not data:
            return
        # A large block start is a tool's result: it is parsed only if it may name files.
        if len(data) > 65_536 and b'"content_block_start"' in data[:200]:
            self.has_block = self.reading.wrote = True
            if b'"file_id"' not in data:
                if RESULT.search(data, 0, 400) is not None:
                    self.seen.note_result(len(data))
                return
        message = decode(data, EVENT)
        if not isinstance(message, dict):
            return
        if "type" not in message and (message.get("error") or message.get("success") is False):
            message["type"] = "error"
            self.unheard = data
        elif message.get("type") == "error" and ERROR.search(event) is None:
            self.unheard = data
        self._message(message, len(data))

    def _message(self, message: dict[str, Any], size: int) -> None:
        kind = message.get("type")
        if kind in BEGUN:
            self.reading.begin()
        match kind:
            case "content_block_delta":
                delta = mapping(message.get("delta"))
                if isinstance(signature := delta.get("signature"), str) and signature:
                    self.bind([State("signature", signature)])
                self.reading.wrote = self.seen.note_delta(delta) > 0 or self.reading.wrote
            case "content_block_start":
                self.has_block = True
                block = mapping(message.get("content_block"))
                self.thought = self.thought or block.get("type") in ("thinking", "redacted_thinking")
                self.bind(block_states(block))
                self.reading.note_block(block)
                self.seen.note_block(block, size)
            case "message_start":
                self.started = True
                start = mapping(message.get("message"))
                self.reading.model = text(start.get("model")) or self.reading.model
                self.reading.overlay(start.get("usage") or message.get("usage"))
                self.bind(container_state(start.get("container")))
                if self.threaded:
                    self.bind(thread_state(start))
            case "message_delta":
                delta = mapping(message.get("delta"))
                self.reading.note_end(delta)
                self.bind(container_state(delta.get("container")))
                self._count(misplaced(message) if message.get("usage") is None else message["usage"])
            case "message_stop":
                self._count(misplaced(message) if message.get("usage") is None else message["usage"])
                self.stopped = True
            case "error":
                self.failed = True
                self.reading.error_type = text(mapping(message.get("error")).get("type"))

    def _count(self, usage: object) -> None:
        """Lay a report from the end of the answer over the usage.

        Counts are cumulative, so output can't shrink. The exception is the count in `message_start`, which may be a
        mere placeholder.
        """
        reported, reading = mapping(usage).get("output_tokens"), self.reading
        if is_reported(reported):
            output = integer(reported)
            before = integer(reading.usage.get("output_tokens"))
            if before <= PLACEHOLDER and not self.counted:
                reading.usage.pop("output_tokens", None)
            elif output < before and (output or not self.counted):
                reading.doubtful = True
            self.counted = True
            if output:
                self.seen.reported = len(self.seen.uses)
        reading.overlay(usage)


def misplaced(message: dict[str, Any]) -> object:
    """The usage of an event that has it one level too deep, as some vendors do; None: it has none."""
    return mapping(message.get("delta")).get("usage") or mapping(message.get("message")).get("usage")


def complete_character(data: bytes) -> bytes:
    """The bytes that complete a UTF-8 character that is cut at the end of the data; empty if none is cut."""
    for back in range(1, min(3, len(data)) + 1):
        lead = data[-back]
        if lead & 0xC0 == 0x80:
            continue
        length = 2 if lead & 0xE0 == 0xC0 else 3 if lead & 0xF0 == 0xE0 else 4 if lead & 0xF8 == 0xF0 else 1
        missing = length - back
        if missing <= 0:
            return b""
        # The second byte has a narrower range after E0 and F0: 80 would be an overlong form.
        second = {0xE0: b"\xa0", 0xF0: b"\x90"}.get(lead, b"\x80") if back == 1 else b"\x80"
        return second + b"\x80" * (missing - 1)
    return b""
