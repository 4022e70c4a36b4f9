"""The most tokens that a provider can find in a PDF.

A provider charges a page for its picture and for its text. Ordinary files say how many pages they have and what is on
them. A file that is made to look small doesn't: its page tree lists a page a hundred times, its names are escaped, or
its text is compressed several times. This reader understands those parts of ISO 32000-1 that producers use, takes the
largest of several meanings, and counts a file that it does not understand as `MOST_PAGES`. A library would report
only one of the meanings, and run native code on a client's bytes. Pure.
"""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

# A page is up to 3,000 tokens of text plus an image. Anthropic accepts up to 600 pages and no encrypted files
# (https://docs.claude.com/en/docs/build-with-claude/pdf-support).
PAGE_TOKENS, IMAGE_TOKENS, MOST_PAGES = 4_600, 1_600, 600
MOST_TOKENS = MOST_PAGES * PAGE_TOKENS
# Thousandths of a token for each byte of text on a page.
TEXT = 500
# How much of one file is read: steps (a million take two seconds), and bytes that are unpacked.
MOST_STEPS, MOST_UNPACKED = 1_000_000, 32 << 20
# How many steps are taken for all files of one body, and for how many bytes of a longer body as many again: a body may
# have thousands of files.
STEPS_OF_BODY, BODY = 2_000_000, 32 << 20
# The most bytes that zlib unpacks from one byte.
MOST_RATIO = 1032
# Bytes that are handled in the time of one step.
STEP = 64
# How deep objects, page trees and forms may be nested.
MOST_DEPTH = 20
# Hexadecimal digits of the letters that one character code may stand for, as for a ligature.
LETTERS = 16

# White space and comments between two tokens, the end of a token, and one token.
GAP = rb"(?:[ \t\r\n\f\0]|%[^\r\n]*+)"
END = rb"(?=[ \t\r\n\f\0()<>\[\]{}/%]|\Z)"
HEX = rb"<[0-9A-Fa-f \t\r\n\f\0]*+>"
LITERAL = rb"\((?:[^()\\]|\\.)*+\)"
NAME = rb"/[^ \t\r\n\f\0()<>\[\]{}/%]*+"
REGULAR = rb"[^ \t\r\n\f\0()<>\[\]{}/%]++"
TOKEN = re.compile(GAP + rb"*+(%b|<<|>>|%b|[\[\]]|%b|%b|.)" % (LITERAL, HEX, NAME, REGULAR), re.DOTALL)
OBJECT = re.compile(rb"([0-9]{1,10})%b++[0-9]++%b++obj|trailer" % (GAP, GAP))
REFERRED = re.compile(rb"%b++[0-9]++%b++R%b" % (GAP, GAP, END))
STREAM = re.compile(GAP + rb"*+stream(?:\r\n|\r|\n)")
ESCAPE = re.compile(rb"#([0-9A-Fa-f]{2})")
STRING = re.compile(rb"(%b)|(%b)" % (LITERAL, HEX), re.DOTALL)
# A string with brackets in it, which `STRING` doesn't see as a whole.
NESTED = re.compile(rb"\((?:[^()\\]|\\.)*+\(", re.DOTALL)
CODE = re.compile(rb"\\(?:[0-7]{1,3}|.)", re.DOTALL)
BRACKET = re.compile(rb"\\.|[()]", re.DOTALL)
DRAWN = re.compile(rb"(%b)%b*+Do%b" % (NAME, GAP, END))
SPOKEN = (b"/ActualText", b"/Alt", b"/E")
ABBREVIATED = {b"/Fl": b"/FlateDecode", b"/A85": b"/ASCII85Decode", b"/AHx": b"/ASCIIHexDecode"}


class Odd(Exception):
    """The file differs from those that usual producers write."""


class Reference(NamedTuple):
    number: int


class Stream(NamedTuple):
    about: dict[bytes, Any]
    data: memoryview


class Steps:
    """The steps that are left for the files of one body.

    Args:
        size: bytes of the body.
    """

    def __init__(self, size: int = 0) -> None:
        self.left = STEPS_OF_BODY * max(1, -(-size // BODY))


def tokens(data: bytes, steps: Steps) -> int:
    """The most tokens of a PDF; those of `MOST_PAGES` pages where it isn't an ordinary file, and where the body's steps
    are used up.
    """
    if steps.left < 0:
        return MOST_TOKENS
    try:
        return min(PdfFile(data, steps).tokens(), MOST_TOKENS)
    except (Odd, RecursionError):
        return MOST_TOKENS


class PdfFile:
    """The objects of a PDF by their numbers. If two objects have the same number, readers differ in which of them they
    take. So each number has all the values that the file gives it anywhere.

    Raises:
        Odd: the file isn't an ordinary one (so do all methods).
    """

    def __init__(self, data: bytes, of_body: Steps) -> None:
        self.steps, self.unpacked = MOST_STEPS, MOST_UNPACKED
        self.of_body = of_body
        self.objects: dict[int, list[Any]] = {}
        self._counted: dict[int, int | None] = {}
        self._texts: dict[int, int | None] = {}
        whole = memoryview(data)
        self._step(len(data))
        for found in OBJECT.finditer(data):
            value, end = self._value(data, found.end())
            if isinstance(value, dict) and (begin := STREAM.match(data, end)):
                value = Stream(value, whole[begin.end() : self._end(data, begin.end(), value)])
            self.objects.setdefault(int(found[1] or -1), []).append(value)
        for value in [value for values in self.objects.values() for value in values]:
            if isinstance(value, Stream) and (b"/First" in value.about or value.about.get(b"/Type") == b"/ObjStm"):
                self._unpack_objects(value)
        self.dictionaries = list(self._all_dictionaries())
        self.drawings = self._all_drawings()

    def tokens(self) -> int:
        """Tokens of all pages, and of the texts in the structure tree."""
        trees = [self._pages(each[b"/Pages"], 0) for each in self.dictionaries if b"/Pages" in each]
        if not trees:
            raise Odd
        spoken = sum(
            len(value) for each in self.dictionaries for key in SPOKEN if isinstance(value := each.get(key), bytes)
        )
        return max(trees) + spoken * TEXT // 1000

    # Pages and their text

    def _pages(self, node: Any, depth: int) -> int:
        """Tokens of all pages at or below a node of the page tree."""
        if isinstance(node, Reference):
            if node.number not in self._counted:
                self._counted[node.number] = None
                values = self.objects.get(node.number, [{}])
                self._counted[node.number] = max(self._pages(value, depth) for value in values)
            return certain(self._counted[node.number])
        self._step()
        if not isinstance(node, dict) or depth > MOST_DEPTH:
            raise Odd
        if b"/Kids" in node:
            return max(sum(self._pages(kid, depth + 1) for kid in kids) for kids in self._lists(node[b"/Kids"]))
        text = 0
        if b"/Contents" in node:
            text = max(sum(self._text(part, depth) for part in parts) for parts in self._lists(node[b"/Contents"]))
        return max(PAGE_TOKENS, IMAGE_TOKENS + text * TEXT // 1000)

    def _lists(self, value: Any) -> Iterator[list[Any]]:
        """Each list that a value may mean. An object that isn't a list counts as a list with one element."""
        if isinstance(value, Reference):
            for each in self.objects.get(value.number, ()):
                if isinstance(each, list):
                    yield each
                elif isinstance(each, Reference):
                    raise Odd
                else:
                    yield [value]
            yield []
        elif isinstance(value, list):
            yield value
        else:
            raise Odd

    def _text(self, part: Any, depth: int) -> int:
        """Bytes of text that a stream shows, with the forms that it draws."""
        if not isinstance(part, Reference) or depth > MOST_DEPTH:
            raise Odd
        if part.number not in self._texts:
            self._texts[part.number] = None
            streams = (value for value in self.objects.get(part.number, ()) if isinstance(value, Stream))
            self._texts[part.number] = max((self._shown(stream, depth) for stream in streams), default=0)
        return certain(self._texts[part.number])

    def _shown(self, stream: Stream, depth: int) -> int:
        data = self._unpack(stream)
        strings = sum(
            len(CODE.sub(b".", found[1] or b"")) + len(found[2] or b"") // 2 for found in STRING.finditer(data)
        )
        shown = (len(data) if NESTED.search(data) else strings) * self.letters
        for found in DRAWN.finditer(data):
            self._step()
            shown += max((self._text(form, depth + 1) for form in self.drawings.get(name(found[1]), ())), default=0)
        return shown

    @property
    def letters(self) -> int:
        """How many letters a character code may stand for, beyond those of a ligature."""
        if self._letters is None:
            longest = 0
            for each in self.dictionaries:
                for value in self._values(each.get(b"/ToUnicode")):
                    if isinstance(value, Stream):
                        data = self._unpack(value)
                        if re.search(rb">%b*+\(" % GAP, data):
                            raise Odd
                        longest = max(longest, *(len(found[0]) for found in re.finditer(HEX, data)), 0)
            self._letters = max(1, longest // 4 if longest > LETTERS + 2 else 1)
        return self._letters

    _letters: int | None = None

    def _all_drawings(self) -> dict[bytes, set[Reference]]:
        """The objects that each name may draw on any page. Images are left out, because they have no text."""
        drawings: dict[bytes, set[Reference]] = {}
        for each in self.dictionaries:
            for named in self._values(each.get(b"/XObject")):
                if not isinstance(named, dict):
                    continue
                for key, form in named.items():
                    if isinstance(form, Reference) and not self._is_image(form):
                        drawings.setdefault(key, set()).add(form)
        return drawings

    def _is_image(self, form: Reference) -> bool:
        values = self.objects.get(form.number, ())
        return all(isinstance(value, Stream) and value.about.get(b"/Subtype") == b"/Image" for value in values)

    # Objects

    def _all_dictionaries(self) -> Iterator[dict[bytes, Any]]:
        inside: list[Any] = [value for values in self.objects.values() for value in values]
        while inside:
            match inside.pop():
                case Stream(about=dict() as about):
                    inside.append(about)
                case dict() as each:
                    yield each
                    inside += each.values()
                case list() as values:
                    inside += values

    def _values(self, value: Any) -> list[Any]:
        return self.objects.get(value.number, []) if isinstance(value, Reference) else [value]

    def _value(self, data: bytes, at: int, depth: int = 0) -> tuple[Any, int]:
        """The object at a position, and its end. Dictionaries and lists have their contents; anything but references
        and whole numbers is returned as its bytes."""
        self._step()
        found = TOKEN.match(data, at)
        if not found or depth > MOST_DEPTH:
            raise Odd
        token, at = found[1], found.end()
        if token == b"<<":
            return self._dictionary(data, at, depth)
        if token == b"[":
            values: list[Any] = []
            while True:
                value, at = self._value(data, at, depth + 1)
                if value == b"]":
                    return values, at
                values.append(value)
        if token.startswith(b"/"):
            return name(token), at
        if token.isdigit() and len(token) <= 10:
            if referred := REFERRED.match(data, at):
                return Reference(int(token)), referred.end()
            return int(token), at
        if token == b"(":
            begin, at = at - 1, self._closed(data, at)
            token = data[begin:at]
        self._step(len(token))
        return token, at

    def _closed(self, data: bytes, at: int) -> int:
        """The end of a string that contains brackets."""
        depth = 1
        for found in BRACKET.finditer(data, at):
            self._step(found.end() - at)
            at = found.end()
            depth += (found[0] == b"(") - (found[0] == b")")
            if not depth:
                return at
        raise Odd

    def _dictionary(self, data: bytes, at: int, depth: int) -> tuple[dict[bytes, Any], int]:
        values: dict[bytes, Any] = {}
        while True:
            key, at = self._value(data, at, depth + 1)
            if key == b">>":
                return values, at
            if not isinstance(key, bytes) or not key.startswith(b"/") or key in values:
                raise Odd
            values[key], at = self._value(data, at, depth + 1)

    # Streams

    def _end(self, data: bytes, begin: int, about: dict[bytes, Any]) -> int:
        """The last position at which a stream may end."""
        found = data.find(b"endstream", begin)
        length = about.get(b"/Length")
        end = max(found, begin + length if isinstance(length, int) else begin)
        self._step(end - begin)
        return end

    def _unpack_objects(self, stream: Stream) -> None:
        """Read the objects in an object stream (ISO 32000-1, 7.5.7)."""
        first = stream.about.get(b"/First")
        if not isinstance(first, int):
            raise Odd
        data = self._unpack(stream)
        head = data[:first].split()
        for number, offset in zip(head[::2], head[1::2], strict=False):
            if not number.isdigit() or not offset.isdigit() or len(number + offset) > 20:
                raise Odd
            value, _ = self._value(data, first + int(offset))
            self.objects.setdefault(int(number), []).append(value)

    def _unpack(self, stream: Stream) -> bytes:
        filters, about = stream.about.get(b"/Filter", []), stream.about
        if any(key in about for key in (b"/F", b"/FFilter", b"/DP")) or not self._is_plain(about.get(b"/DecodeParms")):
            raise Odd
        data: bytes | memoryview = stream.data
        for each in filters if isinstance(filters, list) else [filters]:
            match ABBREVIATED.get(each, each) if isinstance(each, bytes) else each:
                case b"/FlateDecode":
                    data = self._inflated(data)
                case b"/ASCII85Decode":
                    self._step(len(data) * STEP // 4)
                    data = ascii85(bytes(data))
                case b"/ASCIIHexDecode":
                    data = hexadecimal(bytes(data))
                case _:
                    raise Odd
        self.unpacked -= len(data)
        if self.unpacked < 0:
            raise Odd
        self._step(len(data))
        return bytes(data)

    def _is_plain(self, parameters: Any) -> bool:
        """Whether the unpacked bytes are the data itself: no predictor changes them."""
        match parameters:
            case list():
                return all(self._is_plain(each) for each in parameters)
            case dict():
                return bool(parameters.get(b"/Predictor", 1) == 1)
            case None | b"null":
                return True
        return False

    def _inflated(self, data: bytes | memoryview) -> bytes:
        inflater = zlib.decompressobj()
        try:
            unpacked = inflater.decompress(data, self.unpacked + 1)
        except zlib.error:
            self._step(min(len(data) * MOST_RATIO, self.unpacked))
            raise Odd from None
        if not inflater.eof:
            self._step(len(unpacked))
            raise Odd
        return unpacked

    def _step(self, size: int = 0) -> None:
        taken = 1 + size // STEP
        self.steps -= taken
        self.of_body.left -= taken
        if self.steps < 0 or self.of_body.left < 0:
            raise Odd


def certain(count: int | None) -> int:
    """
    Raises:
        Odd: it is being counted already, so it contains itself.
    """
    if count is None:
        raise Odd
    return count


def name(token: bytes) -> bytes:
    """A name without its escapes (ISO 32000-1, 7.3.5)."""
    return ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), token) if b"#" in token else token


def ascii85(data: bytes) -> bytes:
    """
    Raises:
        Odd: the data isn't in this form.
    """
    try:
        return base64.a85decode(data.partition(b"~>")[0], ignorechars=b" \t\r\n\f\v\0")
    except ValueError:
        raise Odd from None


def hexadecimal(data: bytes) -> bytes:
    """
    Raises:
        Odd: the data isn't in this form.
    """
    try:
        return bytes.fromhex(data.partition(b">")[0].decode("ascii"))
    except ValueError:
        raise Odd from None
