"""The hold of an image depends on what a model reads of it, not on its bytes."""

from __future__ import annotations

import base64
import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api.request import estimates, images, pdf, plain
from messages_api.request.estimates import NO_EXTRAS, estimate
from tests.support.gateway import ask
from tests.support.pdfs import written
from tests.support.reckoned import ALLOWANCES, OPUS, contents


def picture(kind, width, height):
    """The beginning of an image file."""
    match kind:
        case "png":
            return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\x02\0\0\0"
        case "gif":
            comment = b"!\xfe\x03abc\x02,,\0"
            screen = b"GIF89a" + struct.pack("<HH", width, height) + b"\x81\0\0" + b"\0" * 12
            return screen + comment + b"," + struct.pack("<HHHH", 0, 0, width, height)
        case "jpeg":
            thumbnail = b"\xff\xe1" + struct.pack(">H", 1002) + b"\xff\xc0" * 500
            frame = b"\xff\xc2" + struct.pack(">HBHHB", 17, 8, height, width, 3)
            return b"\xff\xd8" + thumbnail + b"\xff" + frame
        case "VP8X":
            sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
            return b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + sizes
        case "VP8L":
            bits = (width - 1) | (height - 1) << 14
            return b"RIFF\0\0\0\0WEBPVP8L\0\0\0\0\x2f" + bits.to_bytes(4, "little")
    return b"RIFF\0\0\0\0WEBPVP8 " + b"\0" * 10 + struct.pack("<HH", width, height)


PICTURES = ["png", "gif", "jpeg", "VP8X", "VP8L", "VP8 "]


@given(st.sampled_from(PICTURES), st.integers(1, 16_000), st.integers(1, 16_000))
def test_an_image_is_held_by_its_size(kind, width, height):
    data = picture(kind, width, height)
    assert images.size(data) == (width, height)
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(data).decode()}
    seen = contents(ask([{"type": "image", "source": source}])).newer_shown
    assert width * height / 750 <= seen <= width * height / 750 + 21 or seen == estimates.NEWER_IMAGE_TOKENS


def test_only_what_is_shown_is_held_as_a_picture():
    """The same letters cost what text costs where a model reads them."""
    data = base64.b64encode(picture("png", 100, 100) + b"x" * 60_000).decode()
    source = {"type": "base64", "media_type": "image/png", "data": data}
    image = {"type": "image", "source": source}
    result = {"type": "tool_result", "tool_use_id": "a", "content": [image]}
    report = {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(written(3)).decode()}
    fetched = {"type": "web_fetch_result", "content": {"type": "document", "source": report}}
    nested = {"type": "document", "source": {"type": "content", "content": [image]}}
    page = {"type": "web_fetch_tool_result", "tool_use_id": "a", "content": fetched}
    for shown, most in ((image, 2_000), (result, 2_000), (nested, 2_000), (page, 20_000)):
        assert estimate(contents(ask([shown])), OPUS).ceiling < most, shown["type"]
    for read in (
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": data}},
        {"type": "tool_use", "id": "a", "name": "b", "input": image},
        {"type": "tool_use", "id": "a", "name": "b", "input": {"content": [image]}},
        {"type": "redacted_thinking", "data": data},
    ):
        small = estimate(contents(ask([image])), OPUS).ceiling
        assert estimate(contents(ask([image, read])), OPUS).ceiling > small + len(data) / 3, read["type"]


def test_a_jpeg_is_as_large_as_decoders_find_it():
    """Markers without a length hide no other size behind them."""
    false = b"\xff\xfe" + struct.pack(">H", 12) + b"\xff\xc0" + b"\0" * 8
    true = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, 1568, 1568, 3)
    data = b"\xff\xd8" + b"\xff\xd0" + false + true
    assert images.size(data + b"x" * 600) == (1568, 1568)


def false_sizes():
    """Files that say first that they are small, and are not."""
    size = struct.pack(">II", 1, 1)
    yield b"\x89PNG\r\n\x1a\n\0\0\0\x08tEXt" + size + b"\0\0\0\0" + picture("png", 1500, 1500)[8:], (0, 0)
    frame = b"," + struct.pack("<HHHH", 10, 20, 1500, 1400)
    yield b"GIF89a" + struct.pack("<HH", 1, 1) + b"\0\0\0" + frame, (1510, 1420)
    yield b"GIF89a" + struct.pack("<HH", 1, 1) + b"\0\0\0" + b"x" + frame, (0, 0)
    true, false = (b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, size, size, 3) + b"\0" * 9 for size in (1500, 1))
    hidden = true + b"\xff\xfe" + struct.pack(">H", 2 + len(false)) + false
    yield b"\xff\xd8\xff\0" + struct.pack(">H", 2 + len(true) + 4) + hidden, (0, 0)


@pytest.mark.parametrize(("data", "size"), list(false_sizes()), ids=["png", "gif", "odd gif", "jpeg"])
def test_no_image_is_held_as_a_smaller_one_than_decoders_find(data, size):
    """A size of zeros is unknown, so the maximum is held."""
    assert images.size(data + b"x" * 600) == size


@given(st.binary(max_size=100), st.sampled_from(PICTURES), st.integers(0, 40))
def test_an_image_of_unknown_size_is_held_at_the_most(noise, kind, cut):
    data = picture(kind, 100, 100)[:cut] + noise
    width, height = images.size(data + b"x" * 600)
    assert min(width, height) >= 0
    assert estimates.tokens_of_data(b"????" * 200, "image", pdf.Steps())[:2] == (1_640, 4_800)


@pytest.mark.parametrize(
    ("before", "found"),
    [
        (b"\xff" * 100_000, True),
        (b"\xff\xd0" * 300, True),
        (b"\xff\xd0" * 500, False),
        (b"\xff\xe0\x00\x02" * 500, False),
    ],
    ids=["filled", "a few marks", "many marks", "many parts"],
)
def test_a_jpeg_of_more_parts_than_cameras_write_has_an_unknown_size(before, found):
    data = picture("jpeg", 320, 200)
    assert images.size(data[:2] + before + data[2:]) == ((320, 200) if found else (0, 0))


@pytest.mark.parametrize(
    ("extensions", "found"),
    [
        (b"!\xfe\x03abc\0" * 100, True),
        (b"!\xfe\0" * 500, False),
        (b"!\xfe" + b"\x01a" * 500 + b"\0", False),
    ],
    ids=["comments", "many extensions", "many blocks"],
)
def test_a_gif_of_more_parts_than_editors_write_has_an_unknown_size(extensions, found):
    screen = b"GIF89a" + struct.pack("<HH", 320, 200) + b"\0\0\0"
    frame = b"," + struct.pack("<HHHH", 0, 0, 320, 200)
    assert images.size(screen + extensions + frame) == ((320, 200) if found else (0, 0))


@given(st.lists(st.sampled_from(["url", "file_id", "1h", "x", "a" * 200, "\\"]), max_size=40), st.integers(0, 400))
def test_a_search_for_several_words_finds_what_a_search_for_each_finds(words, blanks):
    said = plain.of(json.dumps({"a": [" " * blanks * 10, *words]}).encode())
    wanted = (b"url", b"file_id", b"1h")
    assert said.those_in(wanted) == {word for word in wanted if said.has(word)}


# Models, sizes and tokens from OpenAI's and Google's own pages, or reckoned by their rules.
CHARGED = [
    ("gpt-4o", 1, 1, 255),
    ("gpt-4o", 1024, 1024, 765),
    ("gpt-4o", 2048, 4096, 1105),
    ("openai/gpt-4o-mini", 1, 1, 8_500),
    ("gpt-4o-mini-2024-07-18", 2048, 4096, 2833 + 6 * 5667),
    ("gpt-4.1-mini", 1024, 1024, 1024 * 162 // 100),
    ("gpt-5-nano", 1200, 1200, 1444 * 246 // 100),
    ("gemini-2.5-flash", 10, 10, 258),
    ("google/gemini-2.5-pro", 960, 540, 6 * 258),
    ("google/gemini-2.5-pro", 4096, 4096, 36 * 258),
    ("gemini-3-pro", 10, 10, 1_120),
]


@pytest.mark.parametrize(("model", "width", "height", "charged"), CHARGED)
@pytest.mark.parametrize("fallback", [False, True])
def test_an_image_is_held_by_what_a_model_of_another_vendor_charges(model, width, height, charged, fallback):
    data = base64.b64encode(picture("png", width, height)).decode()
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    one, two = (contents(ask([image] * count)) for count in (1, 2))
    asked, others = (OPUS, [model]) if fallback else (model, [])
    assert estimate(two, asked, others=others).ceiling - estimate(one, asked, others=others).ceiling >= charged


@pytest.mark.parametrize(
    "source", [{"type": "url", "url": "https://example.com/a.png"}, {"type": "file", "file_id": "f"}]
)
def test_an_image_that_is_only_named_is_held_by_the_dearest_size_of_its_model(source):
    """2,833 tokens for each image and 5,667 for each of at most 8 tiles, by OpenAI's rules for gpt-4o-mini."""
    one, two = (contents(ask([{"type": "image", "source": source}] * count)) for count in (1, 2))
    asked = [estimate(each, "gpt-4o-mini").prompt(1, NO_EXTRAS, ALLOWANCES).tokens for each in (one, two)]
    assert asked[1] - asked[0] >= 2833 + 8 * 5667


def test_an_image_for_claude_is_held_by_claudes_own_rule():
    data = base64.b64encode(picture("png", 100, 100)).decode()
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    for model in (OPUS, "us.anthropic.claude-opus-4-5-20251101-v1:0", "anthropic/Claude-Opus-4.5"):
        assert estimate(contents(ask([image])), model).ceiling < 400, model
