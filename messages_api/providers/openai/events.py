"""A streamed chat completion as Anthropic's events, chunk by chunk as it comes. No I/O.

A tool's input goes out as it arrives. Anthropic's blocks come one after another, while chunks may mix the inputs of
several tools, and text with them: the first input that is not whole yet goes out, and what else comes meanwhile waits.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from messages_api import minted
from messages_api.providers.openai import answer, completion, faults
from messages_api.providers.openai.completion import Choice, Completion, Kind, ToolCall, names
from messages_api.providers.openai.expected import Expected
from messages_api.stream import PING

encode = msgspec.json.Encoder().encode
DONE = b"[DONE]"
BOM = b"\xef\xbb\xbf"
# The longest line, or data in several of them, that is waited for.
MOST_LINE = 64 * 1024 * 1024
# What tells in JSON where an object ends; and what some models write after it.
SIGNS = re.compile(r'["\\{}\[\]]')
STRAY = " \t\r\n}]"
DELTAS = {
    "text": b'"text_delta","text":',
    "thinking": b'"thinking_delta","thinking":',
    "tool": b'"input_json_delta","partial_json":',
}


class Call:
    """A tool call under way.

    Attributes:
        parts: its input, of which so many went out.
        whole: the input's object has ended, so that no more of it can come.
        odd: the input is no object, and has to be wrapped when it is all there.
        closed: all of it went out.
    """

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.parts: list[str] = []
        self.sent = 0
        self.whole = self.odd = self.closed = False
        self._depth = 0
        self._quoted = False
        self._skipped = 0

    @property
    def ready(self) -> bool:
        """Whether it can go out: more of its name may come until its input begins."""
        return bool(self.name and self.parts) and not self.odd

    def take(self, text: str) -> None:
        """Take in more of its input.

        Raises:
            ValueError: there was all of it already.
        """
        if not self.parts:
            text = text.lstrip()
            self.odd = bool(text) and not text.startswith("{")
        if text and self.odd:
            self.parts.append(text)
        elif text:
            end = 0 if self.whole else self._end(text)
            rest = text[end:].strip(STRAY)
            # Some say all of a call again when it ends.
            if rest and text.strip() != "".join(self.parts):
                raise ValueError("more of a tool call that was whole")
            if end:
                self.parts.append(text[:end])

    def _end(self, text: str) -> int:
        """How much of a text belongs to the object."""
        skipped = self._skipped
        for sign in SIGNS.finditer(text):
            at = sign.start()
            if at < skipped:
                continue
            match sign[0]:
                case "\\" if self._quoted:
                    skipped = at + 2
                case '"':
                    self._quoted = not self._quoted
                case "{" | "[" if not self._quoted:
                    self._depth += 1
                case "}" | "]" if not self._quoted:
                    self._depth -= 1
                    if not self._depth:
                        self.whole = True
                        return at + 1
        self._skipped = max(0, skipped - len(text))
        return len(text)


class Events:
    """Turns the bytes of a stream into Anthropic's, cut at any byte.

    `done`: the last event is out. `failed`: it was an error. `broken`: what followed is no such stream.
    """

    def __init__(self, expected: Expected) -> None:
        self.expected = expected
        self.done = False
        self.failed = False
        self.broken = False
        self._rest = bytearray()
        self._data = bytearray()
        self._started = False
        self._choice: Any = None
        self._index = -1
        self._open = ""
        self._head = b""
        self._calls: list[Call] = []
        self._by_index: dict[int | float | str, Call] = {}
        self._writing: Call | None = None
        self._later: list[tuple[Kind, str]] = []
        self._ids = set[str]()
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
        out = self._read(bytes(self._rest), *lines)
        self._rest = bytearray(last)
        return out

    def finish(self) -> bytes:
        """The stream has ended; what remains to go out. Nothing, where it ended before its time.

        Raises:
            ValueError: as `feed`.
        """
        out = [self._read(bytes(self._rest), b"")]
        self._rest.clear()
        if self._ended is not None and not self.done and not self.broken:
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

    def _read(self, *lines: bytes) -> bytes:
        """What goes out for these lines. What came before nonsense is good, wherever the bytes were cut."""
        out: list[bytes] = []
        try:
            for line in lines:
                self._line(line, out)
        except ValueError:
            self.broken = True
            if not out:
                raise
        return b"".join(out)

    def _line(self, line: bytes, out: list[bytes]) -> None:
        line = line.removeprefix(BOM).rstrip(b"\r")
        if self.done or not (self._data or line.startswith(b"data:")):
            # Comments and other fields say nothing.
            return
        if self._data:
            self._lines(line, out)
            return
        data = line[5:].strip()
        if data == DONE:
            self._complete(out)
        elif data:
            try:
                read = completion.read(data)
            except ValueError:
                # There may be more lines of it, up to an empty one, though nobody is known to send them.
                self._data += data
            else:
                self._take(read, out)

    def _lines(self, line: bytes, out: list[bytes]) -> None:
        if line.startswith(b"data:"):
            self._data += b"\n" + line[5:]
            if len(self._data) > MOST_LINE:
                raise ValueError("data without an end")
        elif not line:
            data = bytes(self._data)
            self._data.clear()
            self._take(completion.read(data), out)

    def _take(self, read: Completion, out: list[bytes]) -> None:
        if (error := completion.error(read)) is not None:
            self._fail(error, out)
            return
        if (read.usage is not None or read.x_groq is not None) and (used := completion.usage(read)):
            self._usage = used
        for choice in read.choices or ():
            if not self._started:
                self._choice = choice.index
                self._start(read, out)
            # Nobody asked for several; some leave the index out at times.
            if not self.done and (choice.index or 0) == (self._choice or 0):
                self._answer(choice, out)

    def _answer(self, choice: Choice, out: list[bytes]) -> None:
        if (delta := choice.delta or choice.message) is not None:
            if delta.refusal:
                self._refused = True
            for kind, text in completion.said(delta):
                self._say(kind, text, out)
            for call in completion.calls(delta):
                self._call(call, out)
        if why := completion.broke(choice):
            self._fail(why, out)
        elif completion.finish(choice):
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

    def _say(self, kind: Kind, text: str, out: list[bytes]) -> None:
        if self._writing is not None or self._later:
            self._later.append((kind, text))
            return
        if kind == "thinking" and not self.expected.shows_thinking:
            self._delivered += len(text)
            return
        if self._open != kind:
            signed = {"signature": ""} if kind == "thinking" else {}
            self._begin(kind, {"type": kind, kind: "", **signed}, out)
        self._delta(text, out)

    def _say_later(self, out: list[bytes]) -> None:
        later, self._later = self._later, []
        for kind, text in later:
            self._say(kind, text, out)

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
        # It may come in pieces, and be said again with every part.
        if isinstance(name, str) and name != call.name and not call.parts:
            call.name += name
        call.take(completion.arguments(part.function))
        self._advance(out)

    def _advance(self, out: list[bytes]) -> None:
        """Send what is known of the first call that isn't out, and go on with the next where it is whole."""
        for call in self._calls:
            if call.closed:
                continue
            if not call.ready:
                return
            self._write(call, out)
            if not call.whole:
                return
            self._end(out)
        self._say_later(out)

    def _find(self, part: ToolCall) -> Call:
        """The call that this is a part of. Gemini gives none of them an index, or all of them the same."""
        index = part.index if isinstance(part.index, int | float | str) else None
        given = part.id if isinstance(part.id, str) else ""
        call = self._by_index.get(index) if index is not None else self._unnumbered(part, given)
        if call is None or (names(part) and begins_anew(call, part, given)):
            call = Call()
            self._calls.append(call)
        call.id = call.id or given
        if index is not None:
            self._by_index[index] = call
        return call

    def _unnumbered(self, part: ToolCall, given: str) -> Call | None:
        """The call of a part without an index: the one of its id, or the last one."""
        named = next((call for call in reversed(self._calls) if given and call.id == given), None)
        return named or (self._calls[-1] if self._calls and not names(part) else None)

    def _write(self, call: Call, out: list[bytes]) -> None:
        if call is not self._writing:
            told = answer.tool_id(call.id, self._ids)
            self._begin("tool", {"type": "tool_use", "id": told, "name": call.name, "input": {}}, out)
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
            if call.odd:
                call.parts = [encode(completion.tool_input("".join(call.parts))).decode()]
            if not call.closed:
                self._write(call, out)
                self._end(out)
        self._say_later(out)
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


def begins_anew(call: Call, part: ToolCall, given: str) -> bool:
    """Whether a part that names a tool begins another call than the one at its place."""
    if given != call.id and given and call.id:
        return True
    return call.whole and not (given and completion.arguments(part.function).strip() in ("", "".join(call.parts)))


def event(kind: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), encode({"type": kind, **members}))
