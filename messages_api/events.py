"""Reading along the bytes of a streamed answer: where an event ends, and what it says.

Facts about Anthropic's stream: the first usage comes in `message_start`; each `message_delta.usage` overlays it with
cumulative counts (replace, never add; null changes nothing); the split of cache writes by time to live comes only in
`message_start`.
Source: https://docs.claude.com/en/docs/build-with-claude/streaming and recorded exchanges.
"""

from __future__ import annotations

import re
from typing import Any

from messages_api.lenient import integer, is_reported, mapping, text
from messages_api.metering import BLOCK, END, PLACEHOLDER, Reading, State, block_states, container_state
from messages_api.outline import Members, decode
from messages_api.seen import RESULT, Seen
from messages_api.upstream import MOST_BYTES, UpstreamError

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
    message=Members(model=None, usage=None, container=None),
    content_block=BLOCK,
    delta=Members(text=None, thinking=None, partial_json=None, content=None, signature=None, data=None, **END),
)
# Events by which a stream shows what the model does: it will show what tools do, too.
BEGUN = ("message_start", "content_block_start", "content_block_delta", "message_delta", "message_stop")


class StreamMeter:
    """Reads server-sent events as they come, cut at any byte. No I/O. `states` is what they bind, until it is taken."""

    def __init__(self) -> None:
        self.seen = Seen()
        self.reading = Reading(_seen=self.seen)
        self.states: list[State] = []
        self.started = False
        self.has_block = False
        self.stopped = False
        self.failed = False
        # An error that clients don't hear: it lacks its `event` line or its type.
        self.unheard = b""
        self.counted = False
        self.thought = False
        self._rest = bytearray()

    @property
    def at_boundary(self) -> bool:
        """Whether all that was fed are whole events, so that one of ours may follow."""
        return not self._rest

    def feed(self, chunk: bytes) -> None:
        """Take in the next bytes.

        Raises:
            UpstreamError: an event has no end.
        """
        rest = self._rest
        if not rest and b"\r" not in chunk:  # the usual case: whole events, lines that end as Anthropic's do
            *events, last = chunk.split(b"\n\n")
            for event in events:
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
        """The stream has ended: an event that lacks only its blank line counts."""
        if self._rest:
            self._event(bytes(self._rest))

    def mend(self) -> bytes:
        """What makes the events that were sent so far whole, should the stream break off here.

        A cut UTF-8 character is completed, and the fragment becomes a `ping`, which clients skip without reading its
        data: the last `event:` line of an event is the one that counts.
        """
        rest = bytes(self._rest[-4:])  # a character's length
        if not rest:
            return b""
        line_end = b"" if rest.endswith((b"\n", b"\r")) else b"\n"
        return complete_character(rest) + line_end + b"event: ping\n\n"

    def _event(self, event: bytes) -> None:
        # The bulk of a stream: only the length of its text is of interest, and only where somebody hangs up.
        if event.startswith(DELTA) and (head := DELTA_TEXT.search(event)) is not None:
            start = head.end()
            self.seen.note_text(event.rfind(b'"') - start)
            if not self.reading.wrote:
                self.reading.wrote = event[start : start + 1] not in (b'"', b"")
            return
        data = b"\n".join(line[5:].removeprefix(b" ") for line in LINE_END.split(event) if line[:5] == b"data:")
        if not data and event.lstrip().startswith(b"{"):  # a vendor's error that is no event at all
            data = event
        # A large block start is a tool's result: of interest if it made files.
        if not data:
            return
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
        if self.reading.content is None and kind in BEGUN:
            self.reading.content = []
        match kind:
            case "content_block_delta":
                delta = mapping(message.get("delta"))
                if isinstance(signature := delta.get("signature"), str) and signature:
                    self.states.append(State("signature", signature))
                self.reading.wrote = self.seen.note_delta(delta) > 0 or self.reading.wrote
            case "content_block_start":
                self.has_block = True
                block = mapping(message.get("content_block"))
                self.thought = self.thought or block.get("type") in ("thinking", "redacted_thinking")
                self.states.extend(block_states(block))
                self.reading.note_block(block)
                self.seen.note_block(block, size)
            case "message_start":
                self.started = True
                start = mapping(message.get("message"))
                self.reading.model = text(start.get("model")) or self.reading.model
                self.reading.overlay(start.get("usage"))
                self.states.extend(container_state(start.get("container")))
            case "message_delta":
                delta = mapping(message.get("delta"))
                self.reading.note_end(delta)
                self.states.extend(container_state(delta.get("container")))
                self._count(message.get("usage"))
            case "message_stop":
                self._count(message.get("usage"))
                self.stopped = True
            case "error":
                self.failed = True
                self.reading.error_type = text(mapping(message.get("error")).get("type"))

    def _count(self, usage: object) -> None:
        """Take over a report from the end of the answer. Counts are cumulative, so that output can't become less; but
        what `message_start` says of it may stand for nothing."""
        told, reading = mapping(usage).get("output_tokens"), self.reading
        if is_reported(told):
            output = integer(told)
            before = integer(reading.usage.get("output_tokens"))
            if before <= PLACEHOLDER and not self.counted:
                reading.usage.pop("output_tokens", None)
            elif output < before and (output or not self.counted):
                reading.doubtful = True
            self.counted = True
            if output:
                self.seen.reported = len(self.seen.uses)
        reading.overlay(usage)


def complete_character(data: bytes) -> bytes:
    """The bytes that complete the UTF-8 character in whose middle the data ends; none where it doesn't."""
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
