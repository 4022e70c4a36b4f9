"""A streamed chat completion as Anthropic's events, chunk by chunk as it comes. No I/O.

A tool's input goes out as it arrives. Anthropic's blocks come one after another, while chunks may mix the inputs of
several tools: the first one that is not whole yet goes out, and what comes of others meanwhile waits.
"""

from __future__ import annotations

from typing import Any

import msgspec

from messages_api.providers.openai import answer, completion, faults
from messages_api.providers.openai.completion import BROKEN, Choice, Completion, ToolCall
from messages_api.providers.openai.expected import Expected
from messages_api.stream import PING

encode = msgspec.json.Encoder().encode
DONE = b"[DONE]"
# The longest line that is waited for.
MOST_LINE = 64 * 1024 * 1024
DELTAS = {
    "text": b'"text_delta","text":',
    "thinking": b'"thinking_delta","thinking":',
    "tool": b'"input_json_delta","partial_json":',
}


class Call:
    """A tool call under way: what came of it, and what of that went out."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.parts: list[str] = []
        self.sent = 0
        self.closed = False

    @property
    def whole(self) -> bool:
        """Whether its input is a whole object, so that no more of it can come."""
        if not self.parts or not "".join(self.parts[-2:]).rstrip().endswith("}"):
            return False
        return "INVALID_JSON" not in completion.tool_input("".join(self.parts))


class Events:
    """Turns the bytes of a stream into Anthropic's, cut at any byte.

    `done`: the last event is out. `failed`: it was an error.
    """

    def __init__(self, expected: Expected) -> None:
        self.expected = expected
        self.done = False
        self.failed = False
        self._rest = bytearray()
        self._started = False
        self._index = -1
        self._open = ""
        self._head = b""
        self._calls: list[Call] = []
        self._by_index: dict[int | str | None, Call] = {}
        self._writing: Call | None = None
        self._ended: Choice | None = None
        self._refused = False
        self._usage: dict[str, Any] = {}
        self._delivered = 0

    def feed(self, chunk: bytes) -> bytes:
        """Take in the next bytes; what goes out for them, which may be nothing.

        Raises:
            ValueError: that is no such stream.
        """
        first, *lines = chunk.split(b"\n")
        self._rest += first
        if not lines:
            if len(self._rest) > MOST_LINE:
                raise ValueError("an endless line")
            return b""
        last = lines.pop()
        out: list[bytes] = []
        self._line(bytes(self._rest), out)
        for line in lines:
            self._line(line, out)
        self._rest = bytearray(last)
        return b"".join(out)

    def finish(self) -> bytes:
        """The stream has ended; what remains to go out. Nothing, where it ended before its time.

        Raises:
            ValueError: as `feed`.
        """
        out: list[bytes] = []
        self._line(bytes(self._rest), out)
        self._rest.clear()
        if self._ended is not None and not self.done:
            self._complete(out)
        return b"".join(out)

    def whole(self, read: Completion) -> bytes:
        """The events for an answer that came in one piece.

        Raises:
            ValueError: there is none in it.
        """
        out: list[bytes] = []
        self._take(read, out)
        if not self.done:
            self._complete(out)
        return b"".join(out)

    def _line(self, line: bytes, out: list[bytes]) -> None:
        # Every event of this protocol has one line of data; comments and other fields say nothing.
        if self.done or not line.startswith(b"data:"):
            return
        data = line[5:].strip()
        if data == DONE:
            self._complete(out)
        elif data:
            self._take(completion.read(data), out)

    def _take(self, read: Completion, out: list[bytes]) -> None:
        if read.error:
            self._fail(read.error, out)
            return
        if (read.usage is not None or read.x_groq is not None) and (used := completion.usage(read)):
            self._usage = used
        choice = read.choices[0] if read.choices else None
        if choice is None:
            return
        if not self._started:
            self._start(read, out)
        if (delta := choice.delta or choice.message) is not None:
            if delta.refusal:
                self._refused = True
            for kind, text in completion.said(delta):
                self._say(kind, text, out)
            for call in completion.calls(delta):
                self._call(call, out)
        ended = completion.finish(choice)
        if ended in BROKEN:
            self._fail({"code": ended}, out)
        elif ended:
            self._ended = choice

    def _start(self, read: Completion, out: list[bytes]) -> None:
        self._started = True
        none = {"input_tokens": 0, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0}
        started: dict[str, Any] = {
            "id": answer.name(read),
            "type": "message",
            "role": "assistant",
            "model": read.model if isinstance(read.model, str) and read.model else self.expected.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": none | {"service_tier": completion.tier(read)},
        }
        out.append(event("message_start", message=started))

    def _say(self, kind: str, text: str, out: list[bytes]) -> None:
        if kind == "thinking" and not self.expected.shows_thinking:
            self._delivered += len(text)
            return
        if self._open != kind:
            signed = {"signature": ""} if kind == "thinking" else {}
            self._begin(kind, {"type": kind, kind: "", **signed}, out)
        self._delta(text, out)

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
                delta = {"type": "signature_delta", "signature": answer.signature()}
                out.append(event("content_block_delta", index=self._index, delta=delta))
            out.append(event("content_block_stop", index=self._index))
            self._open = ""
        if self._writing is not None:
            self._writing.closed = True
            self._writing = None

    # Tools

    def _call(self, part: ToolCall, out: list[bytes]) -> None:
        call = self._find(part)
        if part.function is not None and isinstance(part.function.name, str) and not call.name:
            call.name = part.function.name
        if written := completion.arguments(part.function):
            if call.closed:
                raise ValueError("more of a tool call that was whole")
            call.parts.append(written)
        self._advance(out)

    def _advance(self, out: list[bytes]) -> None:
        """Send what is known of the first call that isn't out, and go on with the next where it is whole."""
        left = [call for call in self._calls if not call.closed]
        for call in left:
            if not call.name:
                return
            self._write(call, out)
            if call is left[-1] or not call.whole:
                return

    def _find(self, part: ToolCall) -> Call:
        """The call that this is a part of. Gemini gives none of them an index, or all of them the same."""
        index = part.index if isinstance(part.index, int | str) else None
        call = self._by_index.get(index)
        if index is None and self._calls and not names(part):
            call = self._calls[-1]
        given = part.id if isinstance(part.id, str) else ""
        if call is None or (given and call.id and given != call.id and names(part)):
            call = Call()
            self._calls.append(call)
        call.id = call.id or given
        if index is not None:
            self._by_index[index] = call
        return call

    def _write(self, call: Call, out: list[bytes]) -> None:
        if call is not self._writing:
            call.id = answer.tool_id(call.id)
            self._begin("tool", {"type": "tool_use", "id": call.id, "name": call.name, "input": {}}, out)
            self._writing = call
        for text in call.parts[call.sent :]:
            self._delta(text, out)
        call.sent = len(call.parts)

    # The end

    def _complete(self, out: list[bytes]) -> None:
        if not self._started:
            raise ValueError("a stream of nothing")
        for call in self._calls:
            if not call.name:
                raise ValueError("a tool call without a name")
            if not call.closed:
                self._write(call, out)
        self._end(out)
        reason, sequence = completion.stop(
            self._ended or Choice(), self.expected.stops, called=bool(self._calls), refused=self._refused
        )
        delta: dict[str, Any] = {"stop_reason": reason, "stop_sequence": sequence}
        if details := completion.stop_details(reason):
            delta["stop_details"] = details
        used = self._usage or completion.guessed(self._delivered)
        out.append(event("message_delta", delta=delta, usage=used))
        out.append(event("message_stop"))
        self.done = True

    def _fail(self, error: Any, out: list[bytes]) -> None:
        out.append(faults.of_stream(error, self.expected.model))
        self.done = self.failed = True


def names(part: ToolCall) -> bool:
    """Whether this part begins a tool call."""
    return part.function is not None and bool(part.function.name)


def event(kind: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, **members}))
