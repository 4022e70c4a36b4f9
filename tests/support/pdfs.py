"""PDFs as producers write them, and PDFs that are made to look small."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

Objects = dict[int, bytes]


def objects(pages: int, *, kids: bytes = b"", text: bytes = b"(Hello)") -> Objects:
    """A catalog (1), a page tree (2), a page (3) that is listed as often as there are pages, and its text (4)."""
    content = zlib.compress(b"BT /F1 12 Tf " + text + b" Tj ET")
    return {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: b"<< /Type /Pages /Count %d /Kids %b >>" % (pages, kids or b"[" + b" 3 0 R" * pages + b" ]"),
        3: b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /MediaBox [0 0 595 842] >>",
        4: stream(content, b"/Filter /FlateDecode"),
    }


def stream(data: bytes, about: bytes = b"") -> bytes:
    return b"<< /Length %d %b >>\nstream\n%b\nendstream" % (len(data), about, data)


def file(objects: Mapping[int, bytes]) -> bytes:
    """A file of these objects. No reader of ours looks at the table at its end."""
    body = b"".join(b"%d 0 obj\n%b\nendobj\n" % one for one in objects.items())
    return b"%PDF-1.7\n" + body + b"trailer << /Root 1 0 R >>\n%%EOF"


def packed(objects: Objects, pack: Callable[[bytes], bytes] = zlib.compress, about: bytes = b"") -> Objects:
    """The same objects, those that are no streams in an object stream (ISO 32000-1, 7.5.7)."""
    inside = {number: value for number, value in objects.items() if b"stream" not in value}
    head, body = b"", b""
    for number, value in inside.items():
        head += b"%d %d " % (number, len(body))
        body += value + b" "
    about = b"/Type /ObjStm /N %d /First %d /Filter /FlateDecode %b" % (len(inside), len(head), about)
    kept = {number: value for number, value in objects.items() if number not in inside}
    return kept | {9: stream(pack(head + body), about)}


def written(pages: int) -> bytes:
    """An ordinary file of this number of pages."""
    return file(objects(pages))
