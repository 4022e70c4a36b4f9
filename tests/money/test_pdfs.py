"""A call with a PDF is held for what its pages and their text can cost, however the file is written."""

from __future__ import annotations

import base64
import json
import tempfile
import time
import zlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api.process import long_bodies
from messages_api.request import batch_body, estimates, pdf, plain
from tests.support.gateway import ask
from tests.support.pdfs import file, objects, packed, stream, written
from tests.support.reckoned import contents

PAGE = pdf.PAGE_TOKENS


def tokens(data: bytes) -> int:
    return pdf.tokens(data, pdf.Steps())


MANY = 90


def held(encoded: str) -> int:
    """Tokens that a request is held for because of this document."""
    source = {"type": "base64", "media_type": "application/pdf", "data": encoded}
    shown: int = contents(ask([{"type": "document", "source": source}])).newer_shown
    return shown


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize("pages", [1, 3, 100])
def test_an_ordinary_file_is_held_by_its_pages(pages):
    assert held(encoded(written(pages))) == pages * PAGE
    assert held(encoded(file(packed(objects(pages))))) == pages * PAGE


def test_a_tree_of_pages_is_held_by_all_of_them():
    tree = objects(0) | {
        2: b"<< /Kids [5 0 R 6 0 R] >>",
        5: b"<< /Kids [3 0 R 3 0 R] >>",
        6: b"<< /Kids [5 0 R 5 0 R 3 0 R] >>",
    }
    assert tokens(file(tree)) == 7 * PAGE


def test_fields_of_a_form_and_an_index_of_names_are_no_pages():
    others = {7: b"<< /Fields [8 0 R] >>", 8: b"<< /Kids [" + b"10 0 R " * 50 + b"] >>", 10: b"<< /FT /Btn >>"}
    assert tokens(file(objects(2) | others)) == 2 * PAGE


def test_a_file_that_was_updated_is_held_by_the_larger_of_its_versions():
    assert tokens(written(2) + written(30)) == 30 * PAGE
    assert tokens(written(30) + written(2)) == 30 * PAGE


KIDS = b"[" + b"3 0 R " * MANY + b"]"
HIDDEN = {
    "escaped names": {2: b"<< /Ki#64s " + KIDS + b" /C#6funt 1 >>"},
    "escaped names of the catalog": {1: b"<< /Type /Catalog /P#61ges 2 0 R >>"},
    "no types": {1: b"<< /Pages 2 0 R >>", 2: b"<< /Kids " + KIDS + b" >>", 3: b"<< >>"},
    "pages elsewhere": {2: b"<< /Kids 5 0 R >>", 5: KIDS},
    "comments": {2: b"<< /Kids %]\n" + KIDS.replace(b"0 R", b"0 %x\n R") + b" >>"},
    "a tree that repeats its branches": {2: b"<< /Kids [5 0 R 5 0 R 5 0 R] >>", 5: b"<< /Kids " + KIDS[:181] + b"] >>"},
    "an object in a string": {6: b"(2 0 obj << /Kids " + KIDS + b" >> endobj)", 2: b"<< /Kids [3 0 R] >>"},
    "pages that aren't there": {2: b"<< /Kids " + KIDS.replace(b"3", b"77") + b" >>"},
    "a loop": {2: b"<< /Kids [2 0 R 3 0 R] >>"},
    "no tree": {2: b"<< /Type /Pages >>", 1: b"<< >>"},
    "a member twice": {2: b"<< /Kids [3 0 R] /Kids " + KIDS + b" >>"},
    "a list in a list": {2: b"<< /Kids [" + KIDS + b"] >>"},
}


@pytest.mark.parametrize("changed", HIDDEN.values(), ids=HIDDEN)
def test_no_way_to_write_the_pages_hides_them(changed):
    assert tokens(file(objects(MANY) | changed)) >= MANY * PAGE


@pytest.mark.parametrize(
    ("about", "pack"),
    [
        (b"", zlib.compress),
        (b"/DecodeParms << /Predictor 12 >>", zlib.compress),
        (b"", lambda data: b"not packed like that"),
        (b"", lambda data: zlib.compress(data)[:-9]),
    ],
    ids=["packed", "predicted", "encrypted", "cut"],
)
def test_pages_in_an_object_stream_are_counted_or_taken_for_the_most(about, pack):
    hidden = packed(objects(MANY), pack, about)
    assert tokens(file(hidden)) >= MANY * PAGE
    without_type = {number: value.replace(b"/Type /ObjStm", b"") for number, value in hidden.items()}
    assert tokens(file(without_type)) >= MANY * PAGE


@pytest.mark.parametrize("filters", [b"/LZWDecode", b"[/FlateDecode /LZWDecode]", b"8 0 R", b"/Unknown"])
def test_text_that_can_not_be_unpacked_counts_at_the_most(filters):
    assert tokens(file(objects(1) | {4: stream(b"x", b"/Filter " + filters), 8: b"/LZWDecode"})) == pdf.MOST_TOKENS


LONG = b"word " * 40_000
TEXTS = {
    "packed": objects(1, text=b"(" + LONG + b")"),
    "in hexadecimal": objects(1, text=b"<" + LONG.hex().encode() + b">"),
    "with brackets": objects(1, text=b"(" + LONG + b"(x)" + b")"),
    "in another form": objects(1)
    | {4: stream(b"<" + (b"(" + LONG + b") Tj").hex().encode(), b"/Filter /ASCIIHexDecode")},
    "in a part that is drawn often": objects(1)
    | {
        3: b"<< /Contents 4 0 R /Resources << /XObject << /Fm 5 0 R >> >> >>",
        4: stream(b"/Fm Do " * 1000),
        5: stream(b"(" + LONG[:500] + b") Tj", b"/Subtype /Form"),
    },
    "beside the pages": objects(1) | {8: b"<< /ActualText (" + LONG + b") >>"},
}


@pytest.mark.parametrize("dense", TEXTS.values(), ids=TEXTS)
def test_a_page_full_of_text_is_held_by_its_text(dense):
    assert tokens(file(dense)) >= 40_000


def test_an_image_is_no_text_and_is_not_unpacked():
    """Scanned pages are large, and cost what a page costs."""
    image = stream(b"\xff\xd8 (not text)" * 10_000, b"/Subtype /Image /Filter /DCTDecode")
    scanned = objects(1) | {
        3: b"<< /Contents 4 0 R /Resources << /XObject << /Im 5 0 R >> >> >>",
        4: stream(b"/Im Do"),
        5: image,
    }
    assert tokens(file(scanned)) == PAGE


@pytest.mark.parametrize(
    "spelled",
    [
        lambda text: text[:40] + "=" + text[40:],
        lambda text: text[:41] + "==" + text[41:],
        lambda text: text.replace("A", "-", 1),
        lambda text: text[:-2],
    ],
    ids=["a sign of its end", "two of them", "a letter of another alphabet", "cut"],
)
def test_base64_that_readers_may_take_differently_counts_at_the_most(spelled):
    assert held(spelled(encoded(written(MANY)))) >= MANY * PAGE


def test_base64_in_lines_is_what_it_is_without_them():
    text = base64.encodebytes(written(3)).decode()
    assert 3 * PAGE <= held(text) < 4 * PAGE


def test_a_file_of_a_few_bytes_is_a_document_too():
    data = b"1 0 obj<</Pages 2 0 R>>2 0 obj<</Kids[" + b"3 0 R " * 20 + b"]>>3 0 obj<<>>"
    assert len(data) < 200
    assert held(encoded(data)) >= 20 * PAGE


@given(st.binary(max_size=400), st.integers(0, 400), st.booleans())
def test_any_file_counts_as_one_page_at_least_and_the_most_pages_at_most(noise, at, replace):
    data = written(2)
    changed = data[:at] + noise + data[at + len(noise) * replace :]
    assert PAGE <= tokens(changed) <= pdf.MOST_TOKENS
    assert PAGE <= tokens(noise) <= pdf.MOST_TOKENS


def hostile(size: int) -> dict[str, bytes]:
    bomb = zlib.compress(b"(" * (pdf.MOST_UNPACKED + 1))
    one = b"<< /Length %d /First 9 /Type /ObjStm /Filter /FlateDecode >> stream\n" % size
    return {
        "streams of objects": b"/Type /ObjStm /First 1 " * (size // 23),
        "objects": b"1 0 obj " * (size // 8),
        "objects in each other": b"1 0 obj [ " * (size // 10),
        "lists": b"1 0 obj" + b"[" * size,
        "dictionaries": b"1 0 obj" + b"<</a" * (size // 4),
        "brackets": b"1 0 obj " + b"(" * size,
        "strings": (b"1 0 obj " + b"(" * 100 + b" ") * (size // 109),
        "comments": b"1 0 obj" + b"%" * size + b"\n%" * 1000,
        "many comments": (b"1 %\n" * (size // 5)),
        "spaces": (b"1" + b" " * 1000) * (size // 1001),
        "numbers": b"1" * size,
        "names": b"1 0 obj /" + b"#41" * (size // 3),
        "many bombs": b"".join(b"%d 0 obj " % number + one + bomb + b"endstream " for number in range(300)),
        "streams as long as the file": b"".join(
            b"%d 0 obj " % n + one + zlib.compress(b"1") for n in range(size // 100)
        ),
        "pages that draw": file(
            objects(600)
            | {
                3: b"<< /Contents 4 0 R /Resources << /XObject << /a 5 0 R >> >> >>",
                4: stream(b"/a Do " * 100_000),
                5: stream(b"/a Do " * 100_000),
            }
        ),
    }


def cpu(data: bytes) -> float:
    """Seconds of this process's own."""
    before = time.process_time()
    tokens(data)
    return time.process_time() - before


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> float:
    """A tenth of all allowances; how long a file takes that uses up its steps, in seconds of CPU."""
    for name in ("MOST_STEPS", "MOST_UNPACKED", "STEPS_OF_BODY"):
        monkeypatch.setattr(pdf, name, getattr(pdf, name) // 10)
    return cpu(b"1 0 obj [" + b"1 " * pdf.MOST_STEPS)


@pytest.mark.parametrize("name", hostile(0))
def test_no_file_takes_longer_than_the_steps_that_are_allowed(name, few_steps):
    assert cpu(hostile(400_000)[name]) < 10 * few_steps


def documents(*files: bytes) -> dict[str, Any]:
    def source(data: bytes) -> dict[str, str]:
        return {"type": "base64", "media_type": "application/pdf", "data": encoded(data)}

    return ask([{"type": "document", "source": source(data)} for data in files])


DEAR = {
    "lists": lambda: b"1 0 obj [" + b"1 " * (pdf.MOST_STEPS // 20),
    "damaged bombs": lambda: (
        b"1 0 obj << /First 9 /Filter /FlateDecode >> stream\n" + zlib.compress(b"(" * pdf.MOST_UNPACKED)[:-9]
    ),
    "bombs with a wrong sum": lambda: (
        b"1 0 obj << /First 9 /Filter /FlateDecode >> stream\n"
        + zlib.compress(b"(" * pdf.MOST_UNPACKED)[:-4]
        + b"sum.endstream"
    ),
    "blanks": lambda: b" " * 20_000,
}


@pytest.mark.parametrize("name", DEAR)
@pytest.mark.parametrize("batch", [False, True])
def test_many_files_in_one_body_take_no_longer_than_the_steps_of_a_body(name, batch, few_steps):
    file = DEAR[name]()
    files = [file + b" " * number for number in range(150)]
    body = documents(*files)
    if batch:
        requests = [{"custom_id": str(number), "params": documents(each)} for number, each in enumerate(files)]
        body = {"requests": requests}
    written = json.dumps(body).encode()
    began = time.process_time()
    if batch:
        with tempfile.TemporaryFile() as edited:
            batch_body.read(written, edited.fileno(), signatures=False)
    else:
        plain_text = plain.of(written)
        before = time.process_time()
        estimates.contents(plain_text, pdf.Steps())
        began += before - began
    assert time.process_time() - began < 5 * few_steps


def test_a_file_counts_at_the_most_once_the_steps_of_its_body_are_used_up():
    steps = pdf.Steps()
    assert pdf.tokens(written(3), steps) == 3 * PAGE
    assert steps.left > 0
    steps.left = 10
    assert pdf.tokens(written(3), steps) == pdf.tokens(written(3), steps) == pdf.MOST_TOKENS


def test_a_long_batch_has_more_steps_than_a_request():
    assert pdf.Steps(8 * pdf.BODY).left == 8 * pdf.Steps(pdf.BODY).left == 8 * pdf.Steps().left


def test_a_request_with_a_document_is_read_where_others_need_not_wait():
    source = {"type": "base64", "media_type": "application/pdf", "data": encoded(written(1) + b" " * 20_000)}
    body = json.dumps(ask([{"type": "document", "source": source}])).encode()
    assert long_bodies.is_long(body)
    assert long_bodies.is_long(body.replace(b'"document"', b'"d\\u006fcument"'))
    assert not long_bodies.is_long(json.dumps(ask("a document, " * 1_500)).encode())
