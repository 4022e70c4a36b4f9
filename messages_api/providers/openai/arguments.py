"""The arguments of a tool call, put together from the fragments of a stream. No I/O.

OpenAI sends what is new. Others send all of it again with every chunk (DeepSeek at Baidu, some builds of llama.cpp and
vLLM), or say `{}` first and the real arguments later (Gemini); reports of 2025 and 2026:
https://github.com/NousResearch/hermes-agent/pull/35718, https://github.com/microsoft/autogen/pull/7549,
https://github.com/anomalyco/opencode/pull/17339. Which it is, is decided by what makes JSON of the fragments, so that
new text that only looks like the old is not lost. Where both do, only what both agree on goes out.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from messages_api.outline import is_many

# What tells in JSON where an object ends; and what some models write after it.
SIGNS = re.compile(r'["\\{}\[\]]')
STRAY = " \t\r\n}]"
# What may end an object that is said again with more in it.
CLOSERS = '"]} \t\r\n'
# A number that isn't finished, which the decoder takes for a broken one.
NUMBER = re.compile(r"[-+.0-9eE]+\Z")
TRUNCATED = "truncated"
# Arguments that say that there are none.
NO_INPUT = frozenset(("", "null", "[]"))
# At most this many ways to read the fragments are kept, until one of them has this many characters.
MOST_READINGS = 4
MOST_DOUBTED = 4096

_check = msgspec.json.Decoder(msgspec.Raw).decode
_object = msgspec.json.Decoder(dict[str, Any]).decode


class Reading:
    """One way to read the fragments.

    Attributes:
        length: in characters.
        whole: the object has ended, so that no more of it can come.
        stray: something followed its end.
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
        """All of it."""
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
        """Go on with more text.

        Raises:
            ValueError: the object had ended, and this is more than a bracket too many.
        """
        end = 0 if self.whole else self._end(text)
        if end < len(text):
            if text[end:].strip(STRAY):
                raise ValueError("more of a tool call that was whole")
            self.stray = True
        if end:
            self._parts.append(text[:end])
            self.length += end

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


class Arguments:
    """What the fragments of one call come to.

    Attributes:
        begun: there is some of it.
        odd: it is no object, and goes out when it is all there, wrapped.
    """

    def __init__(self) -> None:
        self.begun = self.odd = False
        self.sent = 0
        # That it comes piece by piece was seen: an object that has ended is not said again with more in it.
        self._pieces = False
        self._readings: list[Reading] = []
        self._loose: list[str] = []
        self._loose_length = 0

    @property
    def whole(self) -> bool:
        """Whether its object has ended, however the fragments are read."""
        return self.begun and not self.odd and all(reading.whole for reading in self._readings)

    @property
    def over(self) -> bool:
        """Whether no more of it can come."""
        return self._pieces and self.whole

    @property
    def length(self) -> int:
        """Characters that are kept of it."""
        return self._readings[0].length if self._readings else self._loose_length

    @property
    def empty(self) -> bool:
        """Whether it is an object without members, so far."""
        return self.whole and not self._readings[0].text.strip("{} \t\r\n")

    def take(self, fragment: str) -> None:
        """Take in the next fragment.

        Raises:
            ValueError: it can't belong to this call.
        """
        again = fragment.lstrip()
        if not self.begun:
            self._begin(again)
        elif self.odd:
            self._loosely(fragment, again)
        elif fragment:
            [reading] = self._readings if len(self._readings) == 1 else [None]
            # Only what is as long as all before can be all of it again.
            if reading is None or (again[:1] == "{" and (reading.whole or len(again) >= reading.length)):
                self._weigh(fragment, again)
            else:
                before = reading.length
                reading.add(fragment)
                self._pieces = self._pieces or reading.length > before

    def says_again(self, fragment: str) -> bool:
        """Whether a fragment is all that there is of an object that hasn't ended, and maybe more."""
        again = fragment.lstrip()
        return (
            self.begun and not self.odd and not self.whole and any(again.startswith(one.text) for one in self._readings)
        )

    def may_be(self, fragment: str) -> bool:
        """Whether a fragment is this object again, as it is or with more in it."""
        again = fragment.lstrip()
        return any(self._again(reading, again) is not None for reading in self._readings)

    def new(self) -> str:
        """What is sure by now and was not asked for yet."""
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
        """No more of it comes: what is the likeliest is what it is."""
        if self._readings:
            self._readings = [min(self._readings, key=lambda reading: not reading.whole)]
            self._pieces = True

    @property
    def loose(self) -> str:
        """All of what is no object."""
        return "".join(self._loose)

    def _begin(self, text: str) -> None:
        self.begun = bool(text)
        self.odd = self.begun and not text.startswith("{")
        if self.odd:
            self._loose, self._loose_length = [text], len(text)
        elif text:
            self._loose, self._readings = [], [Reading(text)]

    def _loosely(self, fragment: str, again: str) -> None:
        """More of what is no object; a `null` that real arguments follow was said too early."""
        if len(self._loose) == 1 and self._loose[0].strip() in NO_INPUT:
            if again.startswith("{"):
                self._begin(again)
                return
            if again.strip() == self._loose[0].strip():
                return
        self._loose.append(fragment)
        self._loose_length += len(fragment)

    def _weigh(self, fragment: str, again: str) -> None:
        """Read a fragment both as more and as all of it again, and keep what makes JSON."""
        more = [one for reading in self._readings if (one := longer(reading, fragment)) is not None]
        anew = [one for reading in self._readings if (one := self._again(reading, again)) is not None]
        # A model's JSON may be broken: then, to say all of it again by chance is less likely than on purpose.
        found = [one for one in (*more, *anew) if may_be_json(one.text)] or anew or more
        if not found:
            raise ValueError("more of a tool call that was whole")
        if not all(one.stray for one in found):
            found = [one for one in found if not one.stray]
        texts = {one.text: one for one in reversed(found)}
        self._pieces = self._pieces or not any(one.text in texts for one in anew)
        kept = [one for one in found if texts[one.text] is one][:MOST_READINGS]
        self._readings = kept if all(one.length < MOST_DOUBTED for one in kept) else kept[:1]

    def _again(self, reading: Reading, again: str) -> Reading | None:
        """The fragment as the same object again; None where it can't be. What went out must be in it."""
        text = reading.text
        more = reading.whole and not self._pieces and again.startswith(text.rstrip(CLOSERS))
        if more or again.startswith(text):
            try:
                return Reading(again)
            except ValueError:
                return None
        return reading if reading.whole and same(text, again) else None


def longer(reading: Reading, fragment: str) -> Reading | None:
    """The reading with a fragment behind it; None where its object had ended."""
    try:
        return Reading(reading.text + fragment)
    except ValueError:
        return None


def agreement(texts: list[str]) -> int:
    """To how many characters texts are the same."""
    places = enumerate(zip(*texts, strict=False))
    return next((at for at, signs in places if len(set(signs)) > 1), min(map(len, texts)))


def may_be_json(text: str) -> bool:
    """Whether it is JSON, or the beginning of some."""
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


def same(one: str, other: str) -> bool:
    """Whether two texts are the same object."""
    if is_many(one.encode("utf-8", "replace")) or is_many(other.encode("utf-8", "replace")):
        return one == other
    try:
        return _object(one) == _object(other)
    except (ValueError, RecursionError):
        return False


def as_object(written: str) -> dict[str, Any] | msgspec.Raw:
    """The arguments as an object; where it has many parts, as it was written. What isn't one is wrapped as Anthropic
    says to:
    https://docs.claude.com/en/docs/agents-and-tools/tool-use/fine-grained-tool-streaming"""
    if written.strip() in NO_INPUT:
        return {}
    try:
        if written.lstrip()[:1] == "{" and is_many(data := written.encode()):
            return _check(data)
        return _object(written)
    except (ValueError, RecursionError):
        return {"INVALID_JSON": written}
