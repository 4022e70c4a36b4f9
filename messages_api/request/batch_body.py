"""The body of a message batch, checked request by request, with an estimate of what each may cost.

Checking 256 MB of JSON takes seconds. A separate process reads a long body
(`python -m messages_api.request.batch_body`, with the body as its standard input), so that no other call waits. It
reads one request after the other: a whole body would take sixteen times its size in memory, and the memory is bounded.
"""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
import re
import resource
import sys
from codecs import BOM_UTF8
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Annotated, NoReturn

import msgspec
from msgspec import Meta, Raw, Struct, ValidationError

from messages_api.json_text import byte_edits
from messages_api.json_text.byte_edits import Edit
from messages_api.request import checks, estimates, markers, minted, pdf, plain, schema
from messages_api.request.cache_writes import CacheWrites
from messages_api.request.carried import Name, carried
from messages_api.request.plain import Plain
from messages_api.request.spooled_body import Editing, SpooledBody
from messages_api.server.errors import GatewayError, invalid_request, unavailable

# Anthropic's limit: https://docs.claude.com/en/docs/build-with-claude/batch-processing.
MOST_REQUESTS = 100_000
# Bytes of the longest body that is read in this process.
SHORT = 128 << 10
# The most different models in a batch, with those that its requests name besides their own: each needs a price.
MOST_MODELS = 100
# Requests in one line of the reading process's output.
PORTION = 500
# The most seconds for the whole reading, and for each megabyte of it: one that is built to be slow keeps others waiting
# by its length. Clients' real batches take a tenth of it.
SECONDS, SECONDS_PER_MEGABYTE = 60, 1
# Bytes of the longest body that each of the reading processes takes that may run at once.
PLACES = (16 << 20, None)
# The most files, containers and signatures that a batch may name.
MOST_CARRIED = 5000
# The most bytes that a body may have beside its requests, and those of a member's name.
MOST_BESIDE = 1 << 20
NAME_LENGTH = 200
SIGNATURES = "--signatures"
REAL = "--real"
MEMORY = "--memory"

# A member's name with the space and the colon around it. Possessive quantifiers avoid backtracking.
HEAD = re.compile(rb'[ \t\n\r]*+("(?:[^"\\]|\\.){0,%d}+")[ \t\n\r]*+:[ \t\n\r]*+' % NAME_LENGTH)
SPACE = re.compile(rb"[ \t\n\r]*+")

Buffer = bytes | mmap.mmap


class BatchBody(Struct):
    requests: Annotated[list[Raw], Meta(min_length=1, max_length=MOST_REQUESTS)]


class BatchRequest(Struct):
    custom_id: Annotated[str, Meta(min_length=1, max_length=64)]
    params: Raw


class BatchedRequest(Struct, array_like=True):
    """The basis for the most that one request may cost. `max_tokens_in` is the member that asks for the most tokens."""

    model: str
    max_tokens: int
    estimate: estimates.Estimate
    extras: estimates.Extras
    max_tokens_in: str = "max_tokens"
    cache_writes: CacheWrites = "5m"


@dataclass(frozen=True, slots=True)
class BatchContents:
    """A batch that was checked.

    `custom_ids` is the SHA-256 of its sorted custom ids, a line each; `carried` is what may be bound to an account.
    """

    custom_ids: str
    carried: list[Name]
    asked: list[BatchedRequest]

    @property
    def models(self) -> list[str]:
        """The models of the requests, without duplicates."""
        return list(dict.fromkeys(asked.model for asked in self.asked))

    @property
    def other_models(self) -> estimates.Extras:
        """The models that may run besides the requests' own."""
        extras = [asked.extras for asked in self.asked if asked.extras.models or asked.extras.default_fallbacks]
        return estimates.Extras(
            models=tuple(dict.fromkeys(model for each in extras for model in each.models)),
            default_fallbacks=any(each.default_fallbacks for each in extras),
        )


KNOWN = frozenset(BatchBody.__struct_fields__)
KNOWN_OF_REQUEST = frozenset(BatchRequest.__struct_fields__)
batch_body = msgspec.json.Decoder(BatchBody)
batch_request = msgspec.json.Decoder(BatchRequest)


def read(body: Buffer, edited: int, *, signatures: bool, real: Collection[str] = ()) -> BatchContents:
    """Check a batch's body, and each request in it as a Messages request.

    Args:
        edited: a file that gets the body for the provider, if that differs.
        signatures: include signatures in `carried`.
        real: names of real models that end like a name with a client's marker.

    Raises:
        GatewayError: 400, naming the request and its field.
    """
    spans, requests = requests_of(body)
    custom_ids: dict[str, int] = {}
    names: dict[Name, None] = {}
    models: set[str] = set()
    asked, editing, steps = [], Editing(body, edited), pdf.Steps(len(body))
    for index, (raw, begin) in enumerate(zip(requests, spans, strict=True)):
        try:
            params = params_of(bytes(raw), index, custom_ids)
            said = plain_of(params)
            asked.append(read_params(said, real, steps))
            models.update((asked[-1].model, *asked[-1].extras.models))
            names |= dict.fromkeys(carried(said, signatures=signatures))
            if edits := sorted([*minted.cuts(params), *markers.edits(params, real)]):
                at = begin + place_of_params(bytes(raw))
                for edit in edits:
                    editing.edit(Edit(at + edit.begin, at + edit.end, edit.instead))
        except GatewayError as error:
            raise invalid_request(under(f"requests.{index}", error.message), reason=error.reason) from None
        if len(models) > MOST_MODELS:
            raise invalid_request(f"requests: They name more than {MOST_MODELS} models: split them into batches.")
    editing.end()
    if len(names) > MOST_CARRIED:
        raise invalid_request(
            f"requests: They name more than {MOST_CARRIED} files and containers: split them into batches."
        )
    return BatchContents(digest(custom_ids), list(names), asked)


def requests_of(body: Buffer) -> tuple[Iterator[int], list[Raw]]:
    """The position of each request of a batch, and the requests. All of the body but the requests is checked here.

    Raises:
        GatewayError: 400, the body isn't strict JSON, or not a batch.
    """
    if body[:3] == BOM_UTF8:
        plain.refuse("The request body is not valid JSON: it begins with a byte order mark.")
    try:
        requests = batch_body.decode(body).requests
        members = byte_edits.members_of.decode(body)
    except ValidationError as error:
        plain.refuse(checks.in_words(str(error)))
    except (ValueError, RecursionError):
        no_json()
    checks.check_names(members, KNOWN)
    beside, size, place = list[bytes](), 0, 0
    for name, head, value in heads(body, members):
        if name == "requests":
            place = head.end()
            continue
        size += len(head[0]) + len(value)
        if size > MOST_BESIDE:
            plain.refuse(f"The request body has more than {MOST_BESIDE} bytes beside its requests.")
        beside.append(head[0] + value)
    plain.check(b"{%b}" % b",".join(beside))
    return begins(body, place + 1, requests), requests


def heads(body: Buffer, members: dict[str, Raw]) -> Iterator[tuple[str, re.Match[bytes], memoryview]]:
    """Each member at the top of a JSON body: its name, the match of its name in the body, and its value.

    Of duplicate members, `members` has only the last one: its value differs from that at the first one's position.

    Raises:
        GatewayError: 400, a member occurs twice, or has a very long name.
    """
    all_of_it, seen = memoryview(body), set[str]()
    at = SPACE.match(body).end()  # type: ignore[union-attr]
    while body[at : at + 1] in (b"{", b","):
        head = HEAD.match(body, at + 1)
        if head is None:
            if not members:
                return
            plain.refuse(f"The request body has a member with a name of more than {NAME_LENGTH} characters.")
        name = msgspec.json.decode(head[1], type=str)
        value = memoryview(members[name])
        end = head.end() + len(value)
        following = SPACE.match(body, end).end()  # type: ignore[union-attr]
        if name in seen or all_of_it[head.end() : end] != value or body[following : following + 1] not in (b",", b"}"):
            plain.refuse(f"{name[:60]}: the request body has this member twice")
        seen.add(name)
        yield name, head, value
        at = following


def begins(body: Buffer, at: int, items: list[Raw]) -> Iterator[int]:
    """The position of each item of an array. The first one is at `at`, or after the space there."""
    for item in items:
        begin = SPACE.match(body, at).end()  # type: ignore[union-attr]
        yield begin
        at = SPACE.match(body, begin + len(memoryview(item))).end() + 1  # type: ignore[union-attr]


def no_json() -> NoReturn:
    plain.refuse("The request body is not valid JSON.")


def params_of(raw: bytes, index: int, custom_ids: dict[str, int]) -> bytes:
    """Check one request of a batch, and return the Messages request in it.

    Args:
        custom_ids: those of the requests before, with their indexes; this one's is added.

    Raises:
        GatewayError: 400, naming the field.
    """
    if not raw.startswith(b"{"):
        raise invalid_request("Expected object")
    plain.check(raw)
    try:
        request = batch_request.decode(raw)
    except ValidationError as error:
        plain.refuse(checks.in_words(str(error)))
    checks.check_names(plain.split(raw), KNOWN_OF_REQUEST)
    if not request.custom_id.isprintable():
        raise invalid_request("custom_id: It contains a character that can't be printed")
    if custom_ids.setdefault(request.custom_id, index) != index:
        raise invalid_request(f"custom_id: Requests {custom_ids[request.custom_id]} and {index} have the same one")
    return bytes(request.params)


def place_of_params(raw: bytes) -> int:
    """The position of the Messages request in a request of a batch."""
    return dict(byte_edits.places(raw, byte_edits.members_of.decode(raw)))["params"].value


def plain_of(params: bytes) -> Plain:
    """A Messages request of a batch in its plain spelling.

    Raises:
        GatewayError: 400, naming the field.
    """
    try:
        return plain.of(params)
    except GatewayError as error:
        raise invalid_request(under("params", error.message)) from None


def read_params(said: Plain, real: Collection[str], steps: pdf.Steps) -> BatchedRequest:
    """Check a Messages request of a batch, and estimate its tokens.

    Raises:
        GatewayError: 400, naming the field.
    """
    try:
        message = markers.without(schema.read(said, betas=None, steps=steps), real)
    except GatewayError as error:
        raise invalid_request(under("params", error.message)) from None
    if message.fallbacks:
        raise invalid_request("params.fallbacks: A list of models is the gateway's own form: not supported in batches")
    estimate = estimates.estimate(message.contents, message.model, message.added, message.extras)
    return BatchedRequest(
        message.model, message.max_tokens, estimate, message.extras, message.max_tokens_in, message.cache_writes
    )


def under(path: str, message: str) -> str:
    """An error message with a path before it. The message begins with a field, or is a sentence."""
    return f"{path}: {message}" if message[:1].isupper() else f"{path}.{message}"


def digest(custom_ids: Iterator[str] | dict[str, int]) -> str:
    """The digest by which a batch is recognised from its results."""
    return hashlib.sha256("\n".join(sorted(custom_ids)).encode("utf-8", "replace")).hexdigest()


def seconds(size: int) -> int:
    """How long a body of this many bytes may take to read."""
    return SECONDS + SECONDS_PER_MEGABYTE * (size >> 20)


async def read_spooled(
    body: SpooledBody, *, memory: int, signatures: bool, real: Collection[str] = ()
) -> BatchContents:
    """As `read`, for a body of any length, without delaying other calls.

    Args:
        memory: bytes that the reading process may use.

    Raises:
        GatewayError: as `read`; 413, the body takes more memory; 503, the reading process died.
    """
    if body.size <= SHORT:
        return read(body.read(), body.edited, signatures=signatures, real=real)
    reader = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "messages_api.request.batch_body",
        str(body.edited),
        f"{MEMORY}={memory}",
        *([SIGNATURES] if signatures else []),
        *(f"{REAL}={name}" for name in real),
        pass_fds=(body.edited,),
        stdin=body.file,
        stdout=asyncio.subprocess.PIPE,
        limit=4 << 20,
    )
    try:
        async with asyncio.timeout(seconds(body.size)):
            return await read_report(reader)
    except (TimeoutError, ValueError):
        raise unavailable("The batch could not be read: try again.", reason="batch_reader") from None
    finally:
        if reader.returncode is None:
            reader.kill()
            await reader.wait()


async def read_report(reader: asyncio.subprocess.Process) -> BatchContents:
    """The batch from the output of the reading process, which comes in portions.

    Raises:
        GatewayError: 400 or 413, the process refused the batch.
        ValueError: the process ended early.
    """
    assert reader.stdout is not None
    first = msgspec.json.decode(await reader.stdout.readline())
    if "error" in first:
        raise GatewayError(first["status"], first["type"], first["error"], reason=first["reason"])
    names: list[Name] = [(kind, name) for kind, name in first["carried"]]
    asked: list[BatchedRequest] = []
    while line := await reader.stdout.readline():
        asked += portion.decode(line)
    if len(asked) != first["requests"]:
        raise ValueError("incomplete")
    return BatchContents(first["custom_ids"], names, asked)


portion = msgspec.json.Decoder(list[BatchedRequest])


def main() -> None:
    """Read the body on standard input, and write the result to standard output."""
    out = sys.stdout.buffer
    given = [option.partition("=") for option in sys.argv]
    [memory] = (int(value) for key, _, value in given if key == MEMORY)
    # The limit excludes the body, which is a mapped file.
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    with mmap.mmap(sys.stdin.fileno(), 0, access=mmap.ACCESS_READ) as body:
        try:
            real = {name for key, _, name in given if key == REAL}
            batch = read(body, int(sys.argv[1]), signatures=SIGNATURES in sys.argv, real=real)
        except (GatewayError, MemoryError) as error:
            fault = too_much(memory) if ran_out(error) else error
            assert isinstance(fault, GatewayError)
            refused = {
                "error": fault.message,
                "reason": fault.reason,
                "status": fault.status_code,
                "type": fault.kind,
            }
            out.write(msgspec.json.encode(refused) + b"\n")
            out.flush()
            # Views of the body may still exist, so that closing the map would fail.
            os._exit(0)
    first = {"requests": len(batch.asked), "custom_ids": batch.custom_ids, "carried": batch.carried}
    out.write(msgspec.json.encode(first) + b"\n")
    for start in range(0, len(batch.asked), PORTION):
        out.write(msgspec.json.encode(batch.asked[start : start + PORTION]) + b"\n")


def ran_out(error: BaseException | None) -> bool:
    """Whether an error is a MemoryError, or was raised while one was handled."""
    while error is not None and not isinstance(error, MemoryError):
        error = error.__context__
    return error is not None


def too_much(memory: int) -> GatewayError:
    return GatewayError(
        413,
        "request_too_large",
        f"Reading the batch takes more than {memory} bytes of memory: split it into smaller batches.",
        reason="too_large",
    )


if __name__ == "__main__":
    os.nice(10)
    main()
