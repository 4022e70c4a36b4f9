"""The arguments of a tool call, assembled from the fragments of a stream. No I/O.

OpenAI's fragments continue each other. Other providers repeat all of the arguments in each chunk (DeepSeek at Baidu,
some builds of llama.cpp and vLLM), or send `{}` first and the real arguments later (Gemini); reports of 2025 and 2026:
https://github.com/NousResearch/hermes-agent/pull/35718, https://github.com/microsoft/autogen/pull/7549,
https://github.com/anomalyco/opencode/pull/17339. The reading that makes JSON of the fragments wins, so that new text
that happens to look like a repetition is not lost. While both readings do so, only the text that they share is sent.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from messages_api.json_text.outline import is_many

# The characters that decide where an object ends; and those that some models write after it.
SIGNS = re.compile(r'["\\{}\[\]]')
STRAY = " \t\r\n}]"
# The end of an object that a provider may repeat with more members.
CLOSERS = '"]} \t\r\n'
# An unfinished number at the end: the decoder calls it invalid instead of truncated.
NUMBER = re.compile(r"[-+.0-9eE]+\Z")
TRUNCATED = "truncated"
# Arguments that mean that there are no arguments.
NO_INPUT = frozenset(("", "null", "[]"))
# The most readings of the fragments that are kept, until one of them has MOST_DOUBTED characters.
MOST_READINGS = 4
MOST_DOUBTED = 4096

_check = msgspec.json.Decoder(msgspec.Raw).decode
_object = msgspec.json.Decoder(dict[str, Any]).decode
_string = msgspec.json.Decoder(str).decode


class Interpretation:
    """One way to read the fragments.

    Attributes:
        length: in characters.
        whole: the object is complete.
        stray: superfluous characters followed the object.
    """

    def __init__(self, text: str = "") -> None:
        self.length = 0
        self.whole = self.stray = False
        self._parts: list[str] = []
        self._depth = 0
        self._quoted = False
        self._skipped = 0
        if text:
            self.add(text)

    @property
    def text(self) -> str:
        if len(self._parts) > 1:
            self._parts = ["".join(self._parts)]
        return self._parts[0] if self._parts else ""

    def since(self, start: int, end: int) -> str:
        """The characters from `start` to `end`."""
        at, found = self.length, list[str]()
        for part in reversed(self._parts):
            at -= len(part)
            if at < end:
                found.append(part[max(0, start - at) : end - at])
            if at <= start:
                break
        return "".join(reversed(found))

    def add(self, text: str) -> None:
        """Append text.

        Raises:
            ValueError: the object is complete, and the text is more than superfluous brackets.
        """
        end = 0 if self.whole else self._end(text)
        if end < len(text):
            if text[end:].strip(STRAY):
                raise ValueError("text after a complete tool call")
            self.stray = True
        if end:
            self._parts.append(text[:end])
            self.length += end

    def _end(self, text: str) -> int:
        """The position in the text where the object ends, or the length of the text."""
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


class Arguments:
    """The arguments of one call.

    Attributes:
        begun: there is a fragment that isn't empty.
        odd: the arguments aren't an object: they are sent wrapped, once they are complete.
    """

    def __init__(self) -> None:
        self.begun = self.odd = False
        self.sent = 0
        # The fragments are known to continue each other: a complete object is not repeated with more members.
        self._pieces = False
        self._readings: list[Interpretation] = []
        self._loose: list[str] = []
        self._loose_length = 0

    @property
    def whole(self) -> bool:
        """Whether the object is complete in all readings of the fragments."""
        return self.begun and not self.odd and all(reading.whole for reading in self._readings)

    @property
    def over(self) -> bool:
        """Whether the arguments are complete and can't be repeated with more members."""
        return self._pieces and self.whole

    @property
    def length(self) -> int:
        """The number of characters that are kept."""
        return self._readings[0].length if self._readings else self._loose_length

    @property
    def empty(self) -> bool:
        """Whether the arguments are an object without members, up to now."""
        return self.whole and not self._readings[0].text.strip("{} \t\r\n")

    @property
    def cut(self) -> bool:
        """Whether the arguments end in the middle of their object."""
        return bool(self._readings) and is_cut(self._readings[0].text)

    def take(self, fragment: str) -> None:
        """Add the next fragment.

        Raises:
            ValueError: the fragment can't belong to this call.
        """
        again = fragment.lstrip()
        if not self.begun:
            self._begin(again)
        elif self.odd:
            self._loosely(fragment, again)
        elif fragment:
            [reading] = self._readings if len(self._readings) == 1 else [None]
            # Only a fragment that is as long as the text before it can be a repetition.
            if reading is None or (again[:1] == "{" and (reading.whole or len(again) >= reading.length)):
                self._weigh(fragment, again)
            else:
                before = reading.length
                reading.add(fragment)
                self._pieces = self._pieces or reading.length > before

    def is_repeated_in(self, fragment: str) -> bool:
        """Whether a fragment repeats all of an incomplete object, and maybe continues it."""
        again = fragment.lstrip()
        return (
            self.begun and not self.odd and not self.whole and any(again.startswith(one.text) for one in self._readings)
        )

    def may_be(self, fragment: str) -> bool:
        """Whether a fragment repeats this object, with or without more members."""
        again = fragment.lstrip()
        return any(self._again(reading, again) is not None for reading in self._readings)

    def new(self) -> str:
        """The text that is certain by now and was not returned before."""
        if self.odd or not self._readings:
            return ""
        reading = self._readings[0]
        if len(self._readings) > 1:
            end = agreement([one.text for one in self._readings])
        else:
            end = reading.length if self._pieces or not reading.whole else len(reading.text.rstrip(CLOSERS))
        found = reading.since(self.sent, end) if end > self.sent else ""
        self.sent += len(found)
        return found

    def finish(self) -> None:
        """End the arguments: the most likely reading is final."""
        if self._readings:
            self._readings = [min(self._readings, key=lambda reading: not reading.whole)]
            self._pieces = True

    @property
    def loose(self) -> str:
        """The text of arguments that aren't an object."""
        return "".join(self._loose)

    def _begin(self, text: str) -> None:
        self.begun = bool(text)
        self.odd = self.begun and not text.startswith("{")
        if self.odd:
            self._loose, self._loose_length = [text], len(text)
        elif text:
            self._loose, self._readings = [], [Interpretation(text)]

    def _loosely(self, fragment: str, again: str) -> None:
        """Add to arguments that aren't an object. If an object follows a `null` and the like, it replaces that."""
        if len(self._loose) == 1 and self._loose[0].strip() in NO_INPUT:
            if again.startswith("{"):
                self._begin(again)
                return
            if again.strip() == self._loose[0].strip():
                return
        self._loose.append(fragment)
        self._loose_length += len(fragment)

    def _weigh(self, fragment: str, again: str) -> None:
        """Read a fragment both as a continuation and as a repetition, and keep the readings that make JSON."""
        more = [one for reading in self._readings if (one := longer(reading, fragment)) is not None]
        repeated = [one for reading in self._readings if (one := self._again(reading, again)) is not None]
        # A model's JSON may be broken. Then a repetition is more likely than a continuation that looks like one.
        found = [one for one in (*more, *repeated) if may_be_json(one.text)] or repeated or more
        if not found:
            raise ValueError("text after a complete tool call")
        if not all(one.stray for one in found):
            found = [one for one in found if not one.stray]
        texts = {one.text: one for one in reversed(found)}
        self._pieces = self._pieces or not any(one.text in texts for one in repeated)
        kept = [one for one in found if texts[one.text] is one][:MOST_READINGS]
        self._readings = kept if all(one.length < MOST_DOUBTED for one in kept) else kept[:1]

    def _again(self, reading: Interpretation, again: str) -> Interpretation | None:
        """The reading in which the fragment repeats the object; None: it can't. It must contain all sent text."""
        text = reading.text
        more = reading.whole and not self._pieces and again.startswith(text.rstrip(CLOSERS))
        if more or again.startswith(text):
            try:
                return Interpretation(again)
            except ValueError:
                return None
        return reading if reading.whole and same(text, again) else None


def longer(reading: Interpretation, fragment: str) -> Interpretation | None:
    """The reading with a fragment appended; None: its object is already complete."""
    try:
        return Interpretation(reading.text + fragment)
    except ValueError:
        return None


def agreement(texts: list[str]) -> int:
    """The number of characters at the start that all texts share."""
    places = enumerate(zip(*texts, strict=False))
    return next((at for at, signs in places if len(set(signs)) > 1), min(map(len, texts)))


def may_be_json(text: str) -> bool:
    """Whether a text is JSON, or the beginning of some."""
    for tried in (text, NUMBER.sub("", text)):
        try:
            _check(tried.encode("utf-8", "replace"))
        except RecursionError:
            return False
        except ValueError as error:
            if TRUNCATED not in str(error):
                continue
        return True
    return False


def is_cut(written: str) -> bool:
    """Whether the arguments of a call end in the middle of their object, as if the model had no tokens left."""
    text = written.lstrip()
    if not text.startswith("{"):
        return False
    try:
        _check(text.encode("utf-8", "replace"))
    except RecursionError:
        return False
    except ValueError:
        return may_be_json(text)
    return False


def same(one: str, other: str) -> bool:
    """Whether two texts are JSON of the same object."""
    if is_many(one.encode("utf-8", "replace")) or is_many(other.encode("utf-8", "replace")):
        return one == other
    try:
        return _object(one) == _object(other)
    except (ValueError, RecursionError):
        return False


def unwrapped(written: str) -> str:
    """The arguments without the JSON string that some servers put around their JSON.

    https://github.com/vllm-project/vllm/pull/54964 (September 2026), https://github.com/ollama/ollama/pull/12413

    Raises:
        ValueError: they are an invalid string.
    """
    return _string(written) if written.lstrip()[:1] == '"' else written


def as_object(written: str) -> dict[str, Any] | msgspec.Raw:
    """The arguments as an object, or unparsed if they have many parts. Others are wrapped, as Anthropic recommends:
    https://docs.claude.com/en/docs/agents-and-tools/tool-use/fine-grained-tool-streaming"""
    if written.strip() in NO_INPUT:
        return {}
    try:
        if written.lstrip()[:1] == "{" and is_many(data := written.encode()):
            return _check(data)
        return _object(unwrapped(written))
    except (ValueError, RecursionError):
        return {"INVALID_JSON": written}
