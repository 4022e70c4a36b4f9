"""Finds what a request carries that may be bound to one account of a provider, in its plain spelling. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Literal

import msgspec

from messages_api.json_text.byte_edits import elements_of
from messages_api.request.plain import Plain
from messages_api.server import errors

# The most files that a request may name.
MOST_FILES = 1000
# How many of a body's last members of this name are examined; a tool may have such a member, too.
SIGNATURES = 4

# The form of providers' ids; an id of another form can't have been stored.
ID = re.compile(r"[!-~]{1,200}")

# Quotes within strings are escaped, so this only matches a member with its value.
FILE = re.compile(rb'"(?<!\\")file_id":("(?:[^"\\]++|\\.)*+")')
THINKING, SEALED = b'"signature"', b'"redacted_thinking"'

StateKind = Literal["container", "file", "signature", "thread"]
# A kind, and an id or (for a signature) a digest.
Name = tuple[StateKind, str]


class Container(msgspec.Struct):
    """A container by its id, with the skills to load into it."""

    id: msgspec.Raw = msgspec.Raw(b"null")


class Thread(msgspec.Struct):
    """A conversation that the provider stores, by its last answer."""

    previous_message_id: msgspec.Raw = msgspec.Raw(b"null")


class Thought(msgspec.Struct):
    """The members of a block that matter if it is signed or encrypted thinking."""

    type: str = ""
    signature: str = ""
    data: str = ""


class Turn(msgspec.Struct):
    """The members of a turn that may have thinking."""

    content: list[msgspec.Raw] = []


_string = msgspec.json.Decoder(str)
_container = msgspec.json.Decoder(Container)
_thread = msgspec.json.Decoder(Thread)
_turn = msgspec.json.Decoder(Turn)
_thought = msgspec.json.Decoder(Thought)


def carried(said: Plain, *, signatures: bool) -> list[Name]:
    """What a request carries that may be bound: containers, threads, files, then signatures, the last signature first.

    Args:
        signatures: whether to include them.

    Raises:
        GatewayError: 400, it names too many files.
    """
    names: list[Name] = []
    if "container" in said.names and (container := container_of(said)):
        names.append(("container", container))
    if "thread" in said.names and (thread := thread_of(said)):
        names.append(("thread", thread))
    if said.has(b"file_id"):
        files = {name for found in FILE.finditer(said.text) if ID.fullmatch(name := string(found[1]))}
        if len(files) > MOST_FILES:
            raise errors.invalid_request(f"The request names more than {MOST_FILES} files.")
        names += (("file", name) for name in sorted(files))
    if signatures and (said.has(b"signature") or said.has(b"redacted_thinking")):
        names += (("signature", digest(name)) for name in last_signatures(said))
    return names


def container_of(said: Plain) -> str:
    """The id of the container that a request names; empty without one, or if its form is not a provider's."""
    container = bytes(said.members.get("container", b""))
    if container.startswith(b"{"):
        container = bytes(_container.decode(container).id)
    name = string(container)
    return name if ID.fullmatch(name) else ""


def thread_of(said: Plain) -> str:
    """The id of the answer from which a request continues the provider's conversation; empty without one."""
    thread = bytes(said.members.get("thread", b""))
    name = string(bytes(_thread.decode(thread).previous_message_id)) if thread.startswith(b"{") else ""
    return name if ID.fullmatch(name) else ""


def last_signatures(said: Plain) -> list[str]:
    """The last few signatures of a request, the last one first, and its last encrypted thinking."""
    signed, sealed = list[str](), list[str]()
    for turn in reversed(elements_of.decode(said.members["messages"])):
        written = bytes(turn)
        if THINKING not in written and SEALED not in written:
            continue
        for thought in thoughts(written):
            if thought.type == "thinking" and thought.signature:
                signed.append(thought.signature)
            elif thought.type == "redacted_thinking" and thought.data:
                sealed.append(thought.data)
        if sealed and len(signed) >= SIGNATURES:
            break
    return signed[:SIGNATURES] + sealed[:1]


def thoughts(turn: bytes) -> Iterator[Thought]:
    """The blocks of a turn that may be thinking, the last one first."""
    try:
        blocks = _turn.decode(turn).content
    except msgspec.ValidationError:  # a text
        return
    for block in reversed(blocks):
        try:
            yield _thought.decode(block)
        except msgspec.ValidationError:
            continue


def string(written: bytes) -> str:
    """A string in JSON; empty for any other value."""
    try:
        return _string.decode(written)
    except ValueError:
        return ""


def digest(signature: str) -> str:
    """The digest that a signature is stored under: SHA-256, in hexadecimal digits."""
    return sha256(signature.encode("utf-8", "surrogatepass")).hexdigest()
