"""The format of credentials, and the digest under which they are stored.

A credential is `sk-bf-` (a virtual key) or `gt-bf-` (a gateway token), then 43 letters and digits (256 random bits),
then 6 that encode the CRC-32 of everything before them. The checksum tells a typo from a revoked key without a query.
It is no proof, because anyone can compute it. No `-` or `_` follows the prefix, so a double click selects the rest.
"""

from __future__ import annotations

import hmac
import secrets
import string
import zlib

from keys.models import CredentialKind

ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
RANDOM_LENGTH = 43
CHECKSUM_LENGTH = 6
PREFIX_LENGTH = 6
LENGTH = PREFIX_LENGTH + RANDOM_LENGTH + CHECKSUM_LENGTH

PREFIXES = {CredentialKind.VIRTUAL_KEY: "sk-bf-", CredentialKind.GATEWAY_TOKEN: "gt-bf-"}
OURS = tuple(PREFIXES.values())

# The value of each byte as a digit of a checksum.
NO_DIGIT = 0xFF
DIGITS = bytes(ALPHABET.index(chr(byte)) if chr(byte) in ALPHABET else NO_DIGIT for byte in range(256))


def make(kind: CredentialKind) -> str:
    """Create a credential of this kind in plain text. Show it once, and store only its digest."""
    return make_secret(PREFIXES[kind])


def make_secret(prefix: str) -> str:
    """Create a secret of this form with a prefix of `PREFIX_LENGTH` characters."""
    start = prefix + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_LENGTH))
    return start + checksum(start)


def checksum(start: str) -> str:
    value = zlib.crc32(start.encode())
    digits = []
    for _ in range(CHECKSUM_LENGTH):
        value, digit = divmod(value, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def is_ours(text: str) -> bool:
    """Whether a text has the prefix of a credential of this gateway. It may still be mistyped."""
    return text.startswith(OURS)


def is_intact(text: str, prefixes: tuple[str, ...] = OURS) -> bool:
    """Whether a text has one of these prefixes, and the length and checksum of a credential of this gateway."""
    return len(text) == LENGTH and text.startswith(prefixes) and text.isascii() and has_checksum(text.encode())


def has_checksum(text: bytes) -> bool:
    """Whether a text of the right length ends with its checksum. This is asked for every call, so the checksum is read,
    not made: that takes a third of the time.
    """
    digits = text[-CHECKSUM_LENGTH:].translate(DIGITS)
    value = 0
    for digit in digits:
        value = value * len(ALPHABET) + digit
    return NO_DIGIT not in digits and value == zlib.crc32(text[:-CHECKSUM_LENGTH])


def digest(text: str, pepper: bytes) -> bytes:
    """The digest that is stored for a credential: its HMAC-SHA-256 under a pepper, 32 bytes."""
    return hmac.digest(pepper, text.encode(), "sha256")


def ends(text: str) -> tuple[str, str]:
    """The first and last characters, by which people recognise a credential: `("sk-bf-Ab3", "9xYz")`."""
    return text[: PREFIX_LENGTH + 3], text[-4:]
