"""The size of an image, as decoders find it, from the beginning of its file. Pure."""

from __future__ import annotations

import re
import struct

# Bytes that are searched: in a JPEG, the size follows thumbnails and profiles.
HEAD = 128 * 1024

# OpenAI counts tiles of 512 pixels (85 tokens, and 170 for each of at most 8) or, for other models, patches of 32
# pixels (at most 2,500, up to 2.46 tokens each). gpt-4o-mini counts each token of tiles 33.3 times.
# https://platform.openai.com/docs/guides/images-vision (Calculating costs)
TILE, BEFORE_TILES, EACH_TILE, MOST_TILES, MINI = 512, 85, 170, 8, 34
PATCH, MOST_PATCHES, HUNDREDTHS_OF_PATCH = 32, 2_500, 246
# Google counts 258 tokens for each square, whose side is two thirds of the shorter side, from 256 to 768 pixels; for
# Gemini 3 it counts 1,120 tokens for an image.
# https://ai.google.dev/gemini-api/docs/image-understanding, https://ai.google.dev/gemini-api/docs/media-resolution
SQUARE, SIDES, LEAST = 258, (256, 768), 1_120
# Of an image whose size can't be read.
UNKNOWN = 10_000
# The most parts of a file that are looked at: real ones have a few before the size. The size of others is unknown.
MOST_PARTS = 400
FILLED = re.compile(rb"\xff*")


def tokens_elsewhere(width: int, height: int) -> int:
    """The most tokens of an image for a model that isn't Claude."""
    if not (width and height):
        return UNKNOWN
    side = min(max(min(width, height) * 2 // 3, SIDES[0]), SIDES[1])
    patches = min(parts(width, height, PATCH), MOST_PATCHES) * HUNDREDTHS_OF_PATCH
    return max(LEAST, parts(width, height, side) * SQUARE, -(-patches // 100), tokens_of_tiles(width, height))


def tokens_of_tiles(width: int, height: int) -> int:
    """The most tokens of an image that OpenAI counts in tiles."""
    tiles = min(parts(width, height, TILE), MOST_TILES) if width and height else MOST_TILES
    return BEFORE_TILES + EACH_TILE * tiles


def parts(width: int, height: int, side: int) -> int:
    """How many squares with this side cover an image."""
    return -(-width // side) * -(-height // side)


def size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels of a PNG, JPEG, GIF or WebP; zeros if unknown."""
    data = data[:HEAD]
    try:
        if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
            width, height = struct.unpack_from(">II", data, 16)
        elif data.startswith((b"GIF87a", b"GIF89a")):
            width, height = size_of_gif(data)
        elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            width, height = size_of_webp(data)
        elif data.startswith(b"\xff\xd8"):
            width, height = size_of_jpeg(data)
        else:
            return 0, 0
    except (ValueError, struct.error, IndexError):
        return 0, 0
    return width, height


def size_of_gif(data: bytes) -> tuple[int, int]:
    """The size that its screen and its first picture cover together, as in decoders: https://www.w3.org/Graphics/GIF/spec-gif89a.txt

    Raises:
        struct.error, IndexError: it contains no picture.
    """
    colours = 3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0
    at, parts = 13 + colours, 0
    while data[at] == 0x21 and parts < MOST_PARTS:  # an extension: blocks, of which an empty one is the last
        at += 2
        parts += 1
        while (size := data[at]) and parts < MOST_PARTS:
            at += 1 + size
            parts += 1
        at += 1
    if data[at] != 0x2C or parts >= MOST_PARTS:
        return 0, 0
    width, height = struct.unpack_from("<HH", data, 6)
    left, top, wide, high = struct.unpack_from("<HHHH", data, at + 1)
    return max(width, left + wide), max(height, top + high)


def size_of_webp(data: bytes) -> tuple[int, int]:
    """https://developers.google.com/speed/webp/docs/riff_container

    Raises:
        struct.error, IndexError: the data is too short.
    """
    kind = data[12:16]
    if kind == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


def size_of_jpeg(data: bytes) -> tuple[int, int]:
    """The size in the first frame header (ITU T.81, B.2.2).

    Raises:
        struct.error, IndexError: the data has no frame header.
    """
    at = 2
    for _ in range(MOST_PARTS):
        if data[at] != 0xFF:
            return 0, 0
        # Any number of these bytes may fill the space before a marker (B.1.1.2).
        at = FILLED.match(data, at).end() - 1  # type: ignore[union-attr]
        marker = data[at + 1]
        # It has no length (B.1.1.4), or is no marker.
        if marker in (0x00, 0x01) or 0xD0 <= marker <= 0xD7:
            at += 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return 0, 0
