"""The canonical form of a document, over which its hash is made. The JSON file is this form, so that
`sha256sum ACME-00001.json` prints the hash.

It is one JSON object as UTF-8, without spaces, with sorted keys. Amounts are texts without trailing zeros, times are in
UTC. Its member `previous` has the hash of the issuer's document before.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from billing.models import Statement, StatementLine
from keys.csv_lines import money
from usage import moments

FORMAT = "bursar-statement-1"
NOTE = "Internal statement, not a tax invoice."
LINE_FIELDS = tuple(
    each.attname for each in StatementLine._meta.concrete_fields if each.attname not in ("id", "statement_id")
)


def canonical(value: Any) -> bytes:
    """A value in canonical form."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()


def plain(value: Any) -> Any:
    """A value as canonical JSON writes it."""
    if isinstance(value, Decimal):
        return money(value)
    if isinstance(value, datetime):
        return moments.show(value)
    return value.isoformat() if isinstance(value, date) else value


def line_of(line: Any) -> dict[str, Any]:
    """A line as documents have it."""
    return {name: plain(getattr(line, name)) for name in LINE_FIELDS}


def encode(content: Mapping[str, Any], lines: Iterable[Any]) -> bytes:
    """A whole document."""
    return canonical({**content, "lines": [line_of(line) for line in lines]})


def digest(document: bytes) -> str:
    """The hash of a document."""
    return hashlib.sha256(document).hexdigest()


def stored(statement: Statement) -> bytes:
    """A document from its stored rows."""
    return encode(json.loads(statement.content), statement.lines.order_by("position"))


def said(statement: Statement) -> dict[str, Any]:
    """What a document says besides its lines."""
    content: dict[str, Any] = json.loads(statement.content)
    return content
