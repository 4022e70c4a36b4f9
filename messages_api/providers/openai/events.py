"""The translation of a streamed chat completion to Anthropic's events, chunk by chunk. No I/O.

A tool's input is sent while it arrives. Anthropic's blocks follow one another, while chunks may mix the inputs of
several tools and text: the first unfinished input is sent, and everything else waits until it is complete.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from messages_api.answer.events import PING
from messages_api.answer.usage_reports import overlaid
from messages_api.providers.openai import answer, call_ids, completion, faults
from messages_api.providers.openai.arguments import as_object
from messages_api.providers.openai.completion import Choice, Completion, ToolCall, names
from messages_api.providers.openai.expected import Expected
from messages_api.providers.openai.halves import Halves
from messages_api.providers.openai.names import own
from messages_api.providers.openai.stops import Cut
from messages_api.providers.openai.streamed_calls import StreamedToolCall, is_another
from messages_api.providers.openai.thoughts import Piece, Thoughts
from messages_api.request import minted
from messages_api.upstream.client import MOST_BYTES

encode = msgspec.json.Encoder().encode
DONE = b"[DONE]"
BOM = b"\xef\xbb\xbf"
# What is kept of a stream is limited. A tool call counts for this number of bytes in addition to its arguments, and a
# waiting piece in addition to its text.
CALL_BYTES = 1 << 16
PIECE_BYTES = 100
DELTAS = {
    "text": b'"text_delta","text":',
    "thinking": b'"thinking_delta","thinking":',
    "tool": b'"input_json_delta","partial_json":',
}


class EventTranslation:
    """Translates the bytes of a stream, cut at any byte.

    Attributes:
        done: the last event was sent.
        failed: the last event was an error; `error`: the provider's words about it.
        broken: the stream is malformed, or `empty`.
        begun: the model has begun to answer.
    """

    def __init__(self, expected: Expected) -> None:
        self.expected = expected
        self.done = False
        self.failed = False
        self.broken = self.empty = False
        self.begun = False
        self.error: Any = None
        self._rest = bytearray()
        self._data = bytearray()
        self._event = b""
        self._started = False
        # The answer comes in deltas: a whole message at its end repeats them.
        self._deltas = False
        self._choice: Any = None
        self._index = -1
        self._open = ""
        self._head = b""
        self._calls: list[StreamedToolCall] = []
        self._by_index: dict[int | float | str, StreamedToolCall] = {}
        self._writing: StreamedToolCall | None = None
        self._thoughts = Thoughts(expected.tags)
        self._halves = Halves()
        self._cut = Cut(expected.cuts)
        self._later: list[Piece] = []
        self._spoke = False
        self._ids = set[str]()
        self._ended: Choice | None = None
        self._refused = False
        self._usage: dict[str, Any] = {}
        self._doubtful: dict[str, Any] = {}
        self._tier = self._sent_tier = ""
        self._delivered = 0
        # Bytes that are kept of the stream: the arguments of tools, and pieces that wait for them.
        self._kept = 0

    @property
    def finished(self) -> bool:
        """Whether the model has finished, even if the stream goes on."""
        return self._ended is not None

    @property
    def counted(self) -> bool:
        """Whether the provider has reported usage."""
        return bool(self._usage)

    def feed(self, chunk: bytes) -> bytes:
        """Translate the next bytes; the result may be empty.

        Raises:
            ValueError: the stream is malformed.
        """
        first, *lines = chunk.split(b"\n")
        self._rest += first
        if not lines:
            if len(self._rest) > MOST_BYTES:
                raise ValueError("an endless line")
            return b""
        last = lines.pop()
        out = self._read(bytes(self._rest), *lines)
        self._rest = bytearray(last)
        return out

    def finish(self) -> bytes:
        """The events at the end of the stream; empty: it ended too early.

        Raises:
            ValueError: as `feed`.
        """
        out = [self._read(bytes(self._rest), b"")]
        self._rest.clear()
        if self._ended is None and self._calls and all(call.arguments.whole for call in self._calls):
            # Some hosts end a stream of tool calls without a reason and without `[DONE]`: NVIDIA's for GLM 5.1
            # (https://github.com/earendil-works/pi/pull/6225, July 2026).
            self._ended = Choice()
        if self._ended is not None and not self.done and not self.broken:
            self._complete(out)
        return b"".join(out)

    def whole(self, read: Completion) -> bytes:
        """The events for an answer that arrived in one piece.

        Raises:
            ValueError: the completion has no answer.
        """
        out: list[bytes] = []
        self._take(read, out)
        if not self.done:
            self._complete(out)
        return b"".join(out)

    def _read(self, *lines: bytes) -> bytes:
        """Translate lines. The events before a malformed line are sent, wherever the bytes are cut."""
        out: list[bytes] = []
        try:
            for line in lines:
                self._line(line, out)
        except ValueError as error:
            self.broken, self.empty = True, isinstance(error, completion.Nothing)
            if not out:
                raise
        return b"".join(out)

    def _line(self, line: bytes, out: list[bytes]) -> None:
        line = line.removeprefix(BOM).rstrip(b"\r")
        if not (self._started or self._data) and line.startswith((b"{", b"[{")):
            # An error, sent as bare JSON.
            line = b"data:" + line
        if self.done or not (self._data or line.startswith(b"data:")):
            # A comment or another field.
            self._event = line[6:].strip() if line.startswith(b"event:") else self._event
            return
        if self._data:
            self._lines(line, out)
            return
        data = line[5:].strip()
        if data.strip(b'"').upper() == DONE:
            self._complete(out)
        elif data:
            try:
                read = completion.read(data)
            except ValueError:
                # The data may have more lines, up to an empty one, although no provider is known to send such.
                self._data += data
            else:
                self._take(read, out)

    def _lines(self, line: bytes, out: list[bytes]) -> None:
        if line.startswith(b"data:"):
            self._data += b"\n" + line[5:]
            if len(self._data) > MOST_BYTES:
                raise ValueError("data without an end")
        elif not line:
            data = bytes(self._data)
            self._data.clear()
            if data.startswith((b"{", b"[")):
                self._take(completion.read(data), out)
            elif self._event == b"error":
                self._fail(data.decode("utf-8", "replace"), out)
            # Other words, or a null, only keep the connection alive.

    def _take(self, read: Completion, out: list[bytes]) -> None:
        if (error := completion.error(read)) is not None:
            self._fail(error, out)
            return
        if completion.reported(read):
            # Reports are cumulative, but some vendors' last one has zeros, or only a part.
            self._usage = overlaid(self._usage, completion.usage(read))
            self._doubtful |= completion.doubtful(read)
        self._tier = completion.served(read) or self._tier
        for choice in read.choices or ():
            if not self._started:
                self._choice = choice.index
                self._start(read, out)
            # The request asks for one choice only. Some providers sometimes omit the index.
            if not self.done and (choice.index or 0) == (self._choice or 0):
                self._answer(choice, out)

    def _answer(self, choice: Choice, out: list[bytes]) -> None:
        self._deltas = self._deltas or choice.delta is not None
        if (delta := choice.delta if self._deltas else choice.message) is not None:
            if delta.refusal:
                self._refused = True
            for kind, text in completion.said(delta):
                self.begun = True
                self._say_all(self._thoughts.take(kind, self._halves.joined(kind, text)), out)
            if calls := completion.calls(delta):
                self.begun = True
                self._say_all(self._thoughts.tool(), out)
                self._send_rest(out)
                for call in calls if self._cut.found is None else ():
                    self._call(call, out)
        if why := completion.broke(choice):
            self._fail(why, out)
        elif completion.finish(choice) and (self._ended is None or not completion.is_plain_stop(choice)):
            # A plain `stop` doesn't take back an earlier reason.
            self._ended = choice

    def _start(self, read: Completion, out: list[bytes]) -> None:
        self._started = True
        none = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0}
        self._sent_tier = self._tier
        started: dict[str, Any] = {
            "id": answer.name(read),
            "type": "message",
            "role": "assistant",
            "model": read.model if isinstance(read.model, str) and read.model else self.expected.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": none | completion.tier(self._tier),
        }
        out.append(event("message_start", message=started))

    def _say_all(self, pieces: Iterable[Piece], out: list[bytes]) -> None:
        for piece in pieces:
            self._say(piece, out)

    def _say(self, piece: Piece, out: list[bytes]) -> None:
        """Say a piece, up to a stop sequence."""
        self._spoke = self._spoke or piece[0] == "text"
        for one in self._cut.take(piece) if self.expected.cuts else (piece,):
            self._send(one, out)

    def _send_rest(self, out: list[bytes]) -> None:
        for piece in self._cut.rest():
            self._send(piece, out)

    def _send(self, piece: Piece, out: list[bytes]) -> None:
        kind, text = piece
        if self._writing is not None or self._later:
            self._later.append(piece)
            self._keep(PIECE_BYTES + len(text))
            return
        if kind == "thinking" and not self.expected.shows_thinking:
            self._delivered += len(text)
            return
        if self._open != kind:
            signed = {"signature": ""} if kind == "thinking" else {}
            self._begin(kind, {"type": kind, kind: "", **signed}, out)
        self._delta(text, out)

    def _keep(self, size: int) -> None:
        self._kept += size
        if self._kept > MOST_BYTES:
            raise ValueError("too much waits to be sent")

    def _say_later(self, out: list[bytes]) -> None:
        later, self._later = self._later, []
        self._kept -= sum(PIECE_BYTES + len(text) for _, text in later)
        for piece in later:
            self._send(piece, out)

    def _delta(self, text: str, out: list[bytes]) -> None:
        written = encode(text)
        self._delivered += len(written) - 2
        out.append(b"%b%b}}\n\n" % (self._head, written))

    def _begin(self, kind: str, block: dict[str, Any], out: list[bytes]) -> None:
        self._end(out)
        self._index += 1
        self._open = kind
        self._head = (
            b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":%b'
            % (
                self._index,
                DELTAS[kind],
            )
        )
        out.append(event("content_block_start", index=self._index, content_block=block))
        if self._index == 0:
            out.append(PING)

    def _end(self, out: list[bytes]) -> None:
        if self._open:
            if self._open == "thinking":
                delta = {"type": "signature_delta", "signature": minted.signature()}
                out.append(event("content_block_delta", index=self._index, delta=delta))
            out.append(event("content_block_stop", index=self._index))
            self._open = ""
        if self._writing is not None:
            self._writing.closed = True
            self._writing = None

    # Tools

    def _call(self, part: ToolCall, out: list[bytes]) -> None:
        call = self._find(part)
        name = part.function.name if part.function is not None else None
        # The name may arrive in pieces, or be repeated with each fragment.
        if isinstance(name, str) and name != call.name and not call.arguments.begun:
            call.name += name
        before = call.arguments.length
        call.arguments.take(self._halves.joined(call, completion.arguments(part.function)))
        self._keep(call.arguments.length - before)
        self._advance(out)

    def _advance(self, out: list[bytes]) -> None:
        """Send what is known of the first unfinished call, and go on with the next one if it is complete."""
        for call in self._calls:
            if call.closed:
                continue
            if not call.ready:
                return
            self._write(call, out)
            if not call.arguments.over:
                return
            self._end(out)
        self._say_later(out)

    def _find(self, part: ToolCall) -> StreamedToolCall:
        """The call that a fragment belongs to. Gemini gives no indexes, or the same one to all calls."""
        index = part.index if isinstance(part.index, int | float | str) else None
        given = part.id if isinstance(part.id, str) else ""
        former = self._by_index.get(index) if index is not None else self._unnumbered(part, given)
        call = former
        if call is None or (names(part) and is_another(call, part, given)):
            call = StreamedToolCall()
            self._calls.append(call)
            self._keep(CALL_BYTES)
            if index is not None and former is not None and former.arguments.whole:
                # No later fragment can belong to it.
                former.arguments.finish()
        call.id = call.id or given
        if index is not None:
            self._by_index[index] = call
        return call

    def _unnumbered(self, part: ToolCall, given: str) -> StreamedToolCall | None:
        """The call of a fragment without an index: the one with its id, or else the last one if the fragment continues
        that. None: a new call."""
        named = next((call for call in reversed(self._calls) if given and call.id == given), None)
        if named is not None or not self._calls:
            return named
        last = self._calls[-1]
        if not names(part) or (not given and last.arguments.is_repeated_in(completion.arguments(part.function))):
            return last
        return None

    def _write(self, call: StreamedToolCall, out: list[bytes]) -> None:
        if call is not self._writing:
            unique = call_ids.for_client(call.id, self._ids)
            name = own(call.name, self.expected.own_names)
            self._begin("tool", {"type": "tool_use", "id": unique, "name": name, "input": {}}, out)
            self._writing = call
        if text := call.arguments.new():
            self._delta(text, out)

    # The end

    def _complete(self, out: list[bytes]) -> None:
        if not self._started:
            raise completion.Nothing("an empty stream")
        ended = self._ended or Choice()
        if left := self._halves.rest("text"):
            self._say_all(self._thoughts.take("text", left), out)
        alone = not (self._spoke or self._calls)
        shown = self.expected.shows_thinking
        self._say_all(self._thoughts.finish(cut=completion.is_cut(ended), alone=alone, shown=shown), out)
        self._send_rest(out)
        for call in self._calls:
            self._finish_call(call, out)
        self._say_later(out)
        self._end(out)
        cut = any(call.arguments.cut for call in self._calls)
        called = bool(self._calls)
        reason, sequence = completion.stop(ended, self.expected.stops, called=called, refused=self._refused, cut=cut)
        if self._cut.found is not None:
            reason, sequence = "stop_sequence", self._cut.found
        if not self.begun:
            completion.check_empty(reason, self._usage)
        delta: dict[str, Any] = {"stop_reason": reason, "stop_sequence": sequence}
        if details := completion.stop_details(reason):
            delta["stop_details"] = details
        used = (self._usage or completion.guessed(self._delivered)) | self._doubtful
        if self._tier != self._sent_tier:
            used = used | completion.tier(self._tier)
        out.append(event("message_delta", delta=delta, usage=used))
        out.append(event("message_stop"))
        self.done = True

    def _finish_call(self, call: StreamedToolCall, out: list[bytes]) -> None:
        if not call.name:
            raise ValueError("a tool call without a name")
        if call.closed:
            return
        call.arguments.finish()
        self._write(call, out)
        if call.arguments.odd:
            self._delta(encode(as_object(call.arguments.loose)).decode(), out)
        self._end(out)

    def _fail(self, error: Any, out: list[bytes]) -> None:
        out.append(faults.of_stream(error, self.expected.model))
        self.error = error
        self.done = self.failed = True


def event(kind: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, **members}))
