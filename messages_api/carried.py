"""What a request carries that may be bound to one account of a provider, found in its bytes. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256

import msgspec

from messages_api import errors
from messages_api.metering import StateKind

# Files that a request may name.
MOST_FILES = 1000
# How many of a body's last members of this name are looked at; a tool may have one of its own.
SIGNATURES = 4

# An id as providers make them; what looks otherwise can't have been kept.
ID = re.compile(r"[!-~]{1,200}")

# A quote within a string is escaped, so these can only be a member and its value, wherever they are in a body.
STRING = rb'("(?:[^"\\]++|\\.)*+")'
FILE = re.compile(rb'(?<!\\)"file_id"\s*:\s*' + STRING)
CONTAINER_ID = re.compile(rb'(?<!\\)"id"\s*:\s*' + STRING)
SIGNATURE = re.compile(rb'(?<!\\)"signature"\s*:\s*' + STRING)
SEALED = re.compile(rb'(?<!\\)"redacted_thinking"\s*,\s*"data"\s*:\s*' + STRING)
SEALED_FIRST = re.compile(rb'(?<!\\)"data"\s*:\s*' + STRING + rb'\s*,\s*"type"\s*:\s*"redacted_thinking"')
# Small letters and the underscore: nobody escapes these, except to hide a member's name.
ESCAPED = re.compile(rb"\\u00(5[fF]|[67][0-9a-fA-F])")

# A kind, and an id or (of a signature) a digest.
Name = tuple[StateKind, str]


class Carrying(msgspec.Struct):
    """The member of a request that names a container."""

    container: msgspec.Raw = msgspec.Raw(b"null")


_carrying = msgspec.json.Decoder(Carrying)
_string = msgspec.json.Decoder(str)


def carried(body: bytes, *, signatures: bool) -> list[Name]:
    """What a request carries that may be bound: containers, files, then signatures, the last one first.

    Args:
        body: a request that was checked (schema.py).
        signatures: whether these are of interest.

    Raises:
        GatewayError: 400, more files than anybody needs.
    """
    names: list[Name] = []
    written = body
    if b"\\u00" in body:
        body = unescaped(body)
    if b'"container"' in body:
        names += (("container", name) for name in containers(written))
    if b'"file_id"' in body:
        files = {name for found in FILE.finditer(body) if (name := string(found[1])) and ID.fullmatch(name)}
        if len(files) > MOST_FILES:
            raise errors.invalid_request(f"The request names more than {MOST_FILES} files.")
        names += (("file", name) for name in sorted(files))
    if signatures:
        names += (("signature", digest(name)) for name in last_signatures(body))
    return names


def unescaped(body: bytes) -> bytes:
    """The same with plain letters in the names of members; it may no longer be JSON."""
    return ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), body)


def containers(body: bytes) -> Iterator[str]:
    """The container that a request names; two, should it name two."""
    container = unescaped(bytes(_carrying.decode(body).container))
    found = [container] if container.startswith(b'"') else [each[1] for each in CONTAINER_ID.finditer(container)]
    yield from (name for name in map(string, found) if ID.fullmatch(name))


def last_signatures(body: bytes) -> Iterator[str]:
    """The last few signatures of a request, the last one first, and its last sealed thought."""
    at = len(body)
    for _ in range(SIGNATURES):
        at = body.rfind(b'"signature"', 0, at)
        if at < 0:
            break
        if (found := SIGNATURE.match(body, at)) and (name := string(found[1])):
            yield name
    at = body.rfind(b'"redacted_thinking"')
    if at >= 0:
        found = SEALED.match(body, at) or SEALED_FIRST.match(body, max(0, body.rfind(b'"data"', 0, at)))
        if found and (name := string(found[1])):
            yield name


def string(written: bytes) -> str:
    """A string in JSON; empty where it is none."""
    try:
        return _string.decode(written)
    except ValueError:
        return ""


def digest(signature: str) -> str:
    """What a signature is known by: SHA-256, in hexadecimal digits."""
    return sha256(signature.encode("utf-8", "surrogatepass")).hexdigest()
