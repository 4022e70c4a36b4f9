"""Claude on Amazon Bedrock: InvokeModel and its event stream, whose events are Anthropic's own.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModelWithResponseStream.html
"""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterator
from functools import lru_cache
from struct import error as StructError
from typing import Any
from urllib.parse import quote

import msgspec

from keys.directory import KnownProviderKey
from keys.provider_kinds import check_object
from messages_api import errors, headers, schema
from messages_api.metering import decode, mapping
from messages_api.providers import refusals
from messages_api.providers.base import COUNT_TOKENS, JSON, Outgoing, Provider, Whole, named, passed, speaks
from messages_api.upstream import Answer, Headers, UpstreamError, plain

VERSION = b'"anthropic_version":"bedrock-2023-05-31"'
EVENTS = (b"content-type", b"text/event-stream; charset=utf-8")
REQUEST_IDS = (b"x-amzn-requestid",)
# What says the same in the body of an InvokeModel, or in its address.
MOVED = frozenset(("model", "stream", "anthropic_version", "anthropic_beta"))
# CountTokens knows models, and no inference profiles.
PROFILE = re.compile(r"^(?:.*/)?(?:[a-z-]+\.)?(?=anthropic\.)")
# An ARN, and the region of an inference profile: in the price list, all but `global.` are one.
IN_A_REGION = re.compile(r"^(?:.*/)?(?:(?!global\.)[a-z-]+\.)?(?=(?:global\.)?anthropic\.)")
VENDOR = re.compile(r"^(?:.*/)?(?:[a-z-]+\.)?anthropic\.")
# The statuses of exceptions in a stream.
EXCEPTIONS = {"throttlingException": 429, "validationException": 400, "modelTimeoutException": 408}
# Of Amazon's headers, what isn't about the answer's own framing.
HIDDEN = (b"content-type", b"content-length", b"transfer-encoding")


@speaks
class Bedrock(Provider):
    """Re-frames requests and streams; what is in them stays as it is."""

    name = "bedrock"
    label = "Amazon Bedrock"
    takes_region = True
    # Nobody knows which inference profiles a region has.
    sells_claude = False
    price_lists = ("aws",)
    guesses = ("anthropic",)
    regional_lists = ("aws",)

    @classmethod
    def check_secret(cls, secret: str) -> None:
        if secret.startswith("{"):
            check_object(secret, ("access_key_id", "secret_access_key"), ("session_token",))
        else:
            super().check_secret(secret)

    @classmethod
    def sold_as(cls, region: str, asked: str, answered: str) -> str:
        """Answers leave out the inference profile that was asked for."""
        name = super().sold_as(region, asked, answered)
        if not name.startswith("claude"):
            return name
        profile, vendor, _ = asked.rpartition("anthropic.")
        return f"{profile}{vendor}{name}"

    @classmethod
    def listed(cls, sold: str) -> tuple[str, str, bool]:
        name = IN_A_REGION.sub("", sold.lower())
        return name, VENDOR.sub("", name), not name.startswith("global.")

    async def send(self, call: Outgoing) -> Answer:
        body = call.body if isinstance(call.body, bytes) else await call.body.read()
        members = schema.members_of.decode(body)
        model, action = call.model, "invoke"
        if call.path == COUNT_TOKENS:
            model, action = PROFILE.sub("", model), "count-tokens"
            body = counting(body, members, call.headers)
        else:
            if bytes(members.get("stream", b"")) == b"true":
                action = "invoke-with-response-stream"
            body = invoking(body, members, call.headers)
        url = f"{address(call.provider_key)}/model/{quote(model, safe='-_.~')}/{action}"
        # Its import takes a tenth of a second, and is for this provider only.
        if "botocore.eventstream" not in sys.modules or "botocore.auth" not in sys.modules:
            await asyncio.to_thread(loaded)
        sent = [(name, value) for name, value in passed(call.headers) if not name.startswith(b"anthropic-")]
        sent += [JSON, *authorization(call.provider_key, url, body)]
        answer = named(
            plain(await self.client.send("POST", url, sent, body, call.on_write, call.timeouts)), REQUEST_IDS
        )
        if answer.status >= 400:
            return await refusals.reshaped(answer, call)
        if action == "count-tokens":
            return await counted(answer, call)
        if headers.value_of(answer.headers, b"content-type").startswith("application/vnd.amazon.eventstream"):
            return Events(answer)
        return answer


def address(key: KnownProviderKey) -> str:
    """Where the region's models are called."""
    domain = "amazonaws.com.cn" if key.region.startswith("cn-") else "amazonaws.com"
    return key.base_url or f"https://bedrock-runtime.{key.region}.{domain}"


def invoking(body: bytes, members: dict[str, msgspec.Raw], given: Headers, *more: bytes) -> bytes:
    """The body of an InvokeModel: the betas, which Anthropic takes in a header, are in it."""
    first = [VERSION, *more]
    betas = [beta.strip() for beta in headers.betas(given).split(",") if beta.strip()]
    if betas:
        first.append(b'"anthropic_beta":' + msgspec.json.encode(betas))
    elif "anthropic_beta" in members:
        first.append(b'"anthropic_beta":' + bytes(members["anthropic_beta"]))
    return schema.edited(body, members, without=MOVED, first=b",".join(first))


def counting(body: bytes, members: dict[str, msgspec.Raw], given: Headers) -> bytes:
    """The body of a CountTokens, which wants that of an InvokeModel: one that could be made, with `max_tokens`."""
    more = [] if "max_tokens" in members else [b'"max_tokens":1']
    return b'{"input":{"invokeModel":{"body":"%b"}}}' % b64encode(invoking(body, members, given, *more))


async def counted(answer: Answer, call: Outgoing) -> Whole:
    """The answer of a CountTokens in Anthropic's words.

    Raises:
        UpstreamError: it is none.
    """
    told = mapping(decode(await refusals.read(answer, call.timeouts.between_bytes)))
    if type(told.get("inputTokens")) is not int:
        raise UpstreamError("bad_answer", sent=True)
    kept = [header for header in answer.headers if header[0] not in HIDDEN]
    return Whole(200, [*kept, JSON], b'{"input_tokens":%d}' % told["inputTokens"])


def authorization(key: KnownProviderKey, url: str, body: bytes) -> Headers:
    """The headers that carry the provider key's secret: an API key, or else the request's signature."""
    if not key.secret.startswith("{"):
        return [(b"authorization", b"Bearer " + key.secret.encode())]
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest

    # What the signature covers besides host, date and body.
    request = AWSRequest("POST", url, {"content-type": "application/json"}, body)
    SigV4Auth(credentials(key.secret), "bedrock", key.region).add_auth(request)
    return [
        (name.lower().encode(), value.encode())
        for name, value in request.headers.items()
        if name.lower() != "content-type"
    ]


@lru_cache(maxsize=64)
def credentials(secret: str) -> Any:
    """The access key in a secret, as botocore wants it."""
    from botocore.credentials import ReadOnlyCredentials

    members = json.loads(secret)
    return ReadOnlyCredentials(
        members["access_key_id"], members["secret_access_key"], members.get("session_token"), None
    )


def loaded() -> None:
    """Import what a call needs of botocore."""
    for name in ("auth", "awsrequest", "credentials", "eventstream"):
        importlib.import_module(f"botocore.{name}")


class Events:
    """An event stream of Amazon's as Anthropic's server-sent events."""

    status = 200

    def __init__(self, answer: Answer) -> None:
        from botocore.eventstream import EventStreamBuffer

        self.answer = answer
        self.headers: Headers = [*(header for header in answer.headers if header[0] not in HIDDEN), EVENTS]
        self.frames = EventStreamBuffer()
        self.failed = False
        self.garbled = False

    async def read(self) -> bytes:
        while not self.failed:
            if self.garbled:
                raise UpstreamError("bad_answer", sent=True)
            chunk = await self.answer.read()
            if not chunk:
                return b""
            self.frames.add_data(chunk)
            if out := b"".join(self._events()):
                return out
        return b""

    def _events(self) -> Iterator[bytes]:
        """What has come in whole, as far as it can be read."""
        from botocore.eventstream import ParserError

        frames = iter(self.frames)
        while not self.failed:
            try:
                frame = next(frames)
                yield self._event(frame.headers, frame.payload)
            except StopIteration:
                return
            except (ParserError, StructError, KeyError, ValueError):
                self.garbled = True
                return

    def _event(self, about: dict[str, Any], payload: bytes) -> bytes:
        """A frame as an event; ValueError: it can't be."""
        kind = about.get(":message-type")
        if kind == "event":
            return event(payload) if about.get(":event-type") == "chunk" else b""
        self.failed = True
        name = str(about.get(":exception-type") or about.get(":error-code") or "")
        message = refusals.words(payload) or str(about.get(":error-message") or "The provider broke off.")
        error = errors.kind_of(EXCEPTIONS.get(name, 500))
        return b"event: error\ndata: " + refusals.in_shape(error, message) + b"\n\n"

    def close(self) -> None:
        self.answer.close()


class Chunk(msgspec.Struct):
    """The payload of a frame, its padding left out."""

    bytes: str


class Named(msgspec.Struct):
    """An event of Anthropic's, as far as its framing needs it."""

    type: str


chunk_of = msgspec.json.Decoder(Chunk)
name_of = msgspec.json.Decoder(Named)


def event(payload: bytes) -> bytes:
    """The event in a chunk's payload; ValueError: there is none."""
    data = b64decode(chunk_of.decode(payload).bytes, validate=True)
    name = name_of.decode(data).type.encode()
    if b"\n" in name or b"\r" in name:
        raise ValueError("an event's name of several lines")
    return b"event: " + name + b"\ndata: " + b"\ndata: ".join(data.splitlines()) + b"\n\n"
