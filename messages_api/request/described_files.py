"""The most tokens of a file that a request only names, by its size as the provider described it at its upload. Pure."""

from __future__ import annotations

import msgspec
from msgspec import Struct

# Thousandths of a token for each byte. Text counts as letters for a newer model (text_tokens.py). A PDF counts by the
# bytes of its pictures, as one in a request does: how much text it has compressed is unknown.
TEXT, PDF = 464, 267
# Models read no more than this, whatever the file.
MOST = 1_000_000
# What isn't text, whatever the uploader calls it, can be read as an image only, which the allowance covers.
IMAGE = "image/"


class Described(Struct):
    """What a provider's answer to an upload says: https://docs.claude.com/en/api/files-create"""

    size_bytes: int = 0
    mime_type: str = ""


described = msgspec.json.Decoder(Described)


def tokens(written: str) -> int:
    """The most tokens of a file with this description; 0 if it doesn't say how long the file is, or it is an image.

    Args:
        written: the provider's answer, or an empty text.
    """
    try:
        file = described.decode(written)
    except (ValueError, RecursionError):
        return 0
    kind = file.mime_type.lower()
    if kind.startswith(IMAGE) or file.size_bytes <= 0:
        return 0
    weight = PDF if kind == "application/pdf" else TEXT
    return min(file.size_bytes * weight // 1000, MOST)
