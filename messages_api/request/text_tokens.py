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
# each weighs more than its bytes, by their beginning.
ALL_ASCII = bytes(range(128))
TAKEN_APART = {
    **{b"\xef" + bytes((second,)): 6_500 for second in range(0xB0, 0xB8)},
    b"\xef\xb7\xba": 6_000,  # eighteen letters
    **dict.fromkeys((b"\xe3\x8c", b"\xe3\x8d", b"\xf0\x9d\x85", b"\xf0\x9d\x86"), 6_500),
    **dict.fromkeys((b"\xe2\xa8\x8c", b"\xe2\x80\xb4", b"\xe2\x80\xb7"), 6_500),
    **{b"\xe2\x88" + bytes((third,)): 6_500 for third in b"\xac\xad\xaf\xb0"},
}
TIBETAN = re.compile(
    rb"\xe0(?:\xbd[\x83\x8d\x92\x97\x9c\xa9\xb3\xb5-\xb9]|\xbe[\x81\x93\x9d\xa2\xa7\xac\xb9])",
)
OF_TIBETAN = 6_500

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


def tokens_of_text(text: bytes) -> int:
    """The most tokens of JSON for an older model."""
    # Most text is small letters, which weigh nothing more and are left out.
    weight = len(text) * SMALL + added_up(text.translate(EXTRAS, LIGHT), SUMMED) * UNIT
    dense = min(added_up(text.translate(DENSE), DENSELY_SUMMED) * TWENTIETH, len(text) * 1000)
    if dense > weight:
        # A row of spaces takes few tokens, however long: count about half of it.
        weight = max(weight, dense - text.count(b"  ") * APART * TWENTIETH)
    return -(-(weight + expanded(text)) // 1000)


def added_up(numbers: bytes, summed: int) -> int:
    """The sum of these bytes.

    Args:
        summed: of how many of them Adler-32 knows the sum exactly.
    """
    # The fastest sum of bytes in the standard library is a part of Adler-32, modulo 65,521.
    view = memoryview(numbers)
    return sum(adler32(view[at : at + summed], 0) & 0xFFFF for at in range(0, len(view), summed))


def expanded(text: bytes) -> int:
    """What the characters that tokenisers take apart weigh more than their bytes, in thousandths of a token."""
    if text.isascii():
        return 0
    beyond = text.translate(None, ALL_ASCII)
    weight = sum(beyond.count(beginning) * weight for beginning, weight in TAKEN_APART.items())
    if b"\xe0\xbd" in beyond or b"\xe0\xbe" in beyond:
        weight += len(TIBETAN.findall(beyond)) * OF_TIBETAN
    return weight
