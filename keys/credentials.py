"""The form of a credential, and the digest that is stored of it.

`sk-bf-` (a virtual key) or `gt-bf-` (a gateway token), then 43 letters and digits (256 bits of randomness), then 6
that are the CRC-32 of all that comes before. The checksum tells a typo from a revoked key without asking anybody; it
proves nothing, for anyone can compute it. No `-` or `_` after the prefix, so that a double click selects it.
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


def make(kind: CredentialKind) -> str:
    """A new credential of this kind, in plain text: show it once, store its digest."""
    start = PREFIXES[kind] + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_LENGTH))
    return start + checksum(start)


def checksum(start: str) -> str:
    value = zlib.crc32(start.encode())
    digits = []
    for _ in range(CHECKSUM_LENGTH):
        value, digit = divmod(value, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def is_ours(text: str) -> bool:
    """Whether it claims to be one of our credentials."""
    return text.startswith(OURS)


def is_intact(text: str) -> bool:
    """Whether it is one of ours with nothing mistyped or cut off."""
    return (
        len(text) == LENGTH
        and text.startswith(OURS)
        and text.isascii()
        and checksum(text[:-CHECKSUM_LENGTH]) == text[-CHECKSUM_LENGTH:]
    )


def digest(text: str, pepper: bytes) -> bytes:
    """What is stored of a credential: its HMAC-SHA-256 under a pepper, 32 bytes."""
    return hmac.digest(pepper, text.encode(), "sha256")


def ends(text: str) -> tuple[str, str]:
    """Its first and last characters, for people to know it by: `("sk-bf-Ab3", "9xYz")`."""
    return text[: PREFIX_LENGTH + 3], text[-4:]
