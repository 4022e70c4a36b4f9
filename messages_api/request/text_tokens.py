"""The most tokens of a text, by the kinds of its bytes. Pure.

The weights are half as high again as measured in recorded prompts, over several generations of tokenisers. They hold
for models up to Claude 4.6: estimates.py has the factor for newer ones.
"""

from __future__ import annotations

import re
from zlib import adler32

# Thousandths of a token per byte: small letters and spaces, capitals (text with many of them is dense: base64), digits,
# other ASCII, and characters beyond ASCII.
SMALL, CAPITAL, DIGIT, SIGN, BEYOND = 320, 800, 950, 700, 850

# Text that is no language is denser: single letters between spaces take a token each, and so do letters that no
# language puts together. So there is a second sum, in twentieths of a token, with weights that are lower for usual
# letters and higher for spaces and rare letters; the higher sum counts. Measured with Anthropic's tokeniser for Claude
# 2, the only one that it has published.
USUAL, SELDOM, APART = 3, 7, 16
RARE = {"q": 40, "x": 30, "z": 30, "j": 30, "v": 20, "k": 20}
TWENTIETH = 50
# Tokenisers take some characters apart (NFKC): Arabic ligatures, squares of katakana, letters of Tibetan, notes. What
# each weighs more than its bytes; one of the ligatures has eighteen letters.
APART_AGAIN, LIGATURE, OF_LIGATURE = 6_500, b"\xef\xb7\xba", 6_000
# By their first bytes: beginnings of these characters, for a quick search, and all of them.
TAKEN_APART = {
    b"\xef": ((b"\xef",), re.compile(rb"\xef[\xb0-\xb7]")),
    b"\xe3": ((b"\xe3\x8c", b"\xe3\x8d"), re.compile(rb"\xe3[\x8c\x8d]")),
    b"\xe2": ((b"\xe2",), re.compile(rb"\xe2(?:\xa8\x8c|\x80[\xb4\xb7]|\x88[\xac\xad\xaf\xb0])")),
    b"\xe0": (
        (b"\xe0\xbd", b"\xe0\xbe"),
        re.compile(
            rb"\xe0(?:\xbd[\x83\x8d\x92\x97\x9c\xa9\xb3\xb5-\xb9]|\xbe[\x81\x93\x9d\xa2\xa7\xac\xb9])",
        ),
    ),
    b"\xf0": ((b"\xf0\x9d",), re.compile(rb"\xf0\x9d[\x85\x86]")),
}
# Where there are more of such bytes, counting each of these, one by one, takes a tenth of the time of finding them all.
FOR_FINDING = 20_000
ONE_BY_ONE = {
    b"\xef": [b"\xef%c" % byte for byte in b"\xb0\xb1\xb2\xb3\xb4\xb5\xb6\xb7"],
    b"\xe3": [b"\xe3\x8c", b"\xe3\x8d"],
    b"\xe2": [b"\xe2%b" % ends for ends in (b"\xa8\x8c", b"\x80\xb4", b"\x80\xb7")]
    + [b"\xe2\x88%c" % byte for byte in b"\xac\xad\xaf\xb0"],
    b"\xe0": [b"\xe0\xbd%c" % byte for byte in b"\x83\x8d\x92\x97\x9c\xa9\xb3\xb5\xb6\xb7\xb8\xb9"]
    + [b"\xe0\xbe%c" % byte for byte in b"\x81\x93\x9d\xa2\xa7\xac\xb9"],
    b"\xf0": [b"\xf0\x9d\x85", b"\xf0\x9d\x86"],
}
ASCII = bytes(range(128))

# How much more than a small letter each byte weighs, in units of ten thousandths of a token; and of how many bytes
# Adler-32 knows the sum exactly.
UNIT = 10
LIGHT = b"abcdefghijklmnopqrstuvwxyz "
WEIGHTS = {
    **dict.fromkeys(LIGHT, SMALL),
    **dict.fromkeys(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", CAPITAL),
    **dict.fromkeys(b"0123456789", DIGIT),
    **dict.fromkeys(range(128, 256), BEYOND),
}
EXTRAS = bytes((WEIGHTS.get(byte, SIGN) - SMALL) // UNIT for byte in range(256))
SUMMED = 65_520 // max(EXTRAS)
DENSE_WEIGHTS = {
    **{byte: weight // TWENTIETH for byte, weight in WEIGHTS.items()},
    **dict.fromkeys(LIGHT, USUAL),
    **dict.fromkeys(b"gpbwy", SELDOM),
    **{ord(letter): weight for letter, weight in RARE.items()},
    ord(" "): APART,
}
DENSE = bytes(DENSE_WEIGHTS.get(byte, SIGN // TWENTIETH) for byte in range(256))
DENSELY_SUMMED = 65_520 // max(DENSE)
# The usual letters, and the other light bytes.
USUAL_LETTERS = bytes(byte for byte in LIGHT if DENSE[byte] == USUAL)
OTHERS = bytes(set(LIGHT) - set(USUAL_LETTERS))


def tokens_of_text(text: bytes) -> int:
    """The most tokens of JSON for an older model."""
    # Most text is usual letters, which are only counted.
    rest = text.translate(None, USUAL_LETTERS)
    weight = len(text) * SMALL + added_up(rest.translate(EXTRAS, OTHERS), SUMMED) * UNIT
    dense = (len(text) - len(rest)) * USUAL + added_up(rest.translate(DENSE), DENSELY_SUMMED)
    dense = min(dense * TWENTIETH, len(text) * 1000)
    if dense > weight:
        # A row of spaces takes few tokens, however long: count about half of it.
        weight = max(weight, dense - text.count(b"  ") * APART * TWENTIETH)
    return -(-(weight + expanded(rest)) // 1000)


def added_up(numbers: bytes, summed: int) -> int:
    """The sum of these bytes.

    Args:
        summed: of how many of them Adler-32 knows the sum exactly.
    """
    # The fastest sum of bytes in the standard library is a part of Adler-32, modulo 65,521.
    view = memoryview(numbers)
    return sum(adler32(view[at : at + summed], 0) & 0xFFFF for at in range(0, len(view), summed))


def expanded(text: bytes) -> int:
    """What the characters that tokenisers take apart weigh more than their bytes, in thousandths of a token. None of
    them is ASCII, so the text may lack any ASCII characters."""
    if text.isascii():
        return 0
    # Characters stay whole, and most text has few that aren't ASCII: a search among these alone is short.
    beyond = text.translate(None, ASCII)
    found = 0
    for first, (quick, all_of_them) in TAKEN_APART.items():
        if first in beyond and any(beginning in beyond for beginning in quick):
            if beyond.count(first) > FOR_FINDING:
                found += sum(map(beyond.count, ONE_BY_ONE[first]))
            else:
                found += len(all_of_them.findall(beyond))
    return found * APART_AGAIN + (beyond.count(LIGATURE) * OF_LIGATURE if found else 0)
