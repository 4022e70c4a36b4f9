"""What Amazon Bedrock sends: event streams in their binary framing, and how it checks a signature."""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from base64 import b64encode
from binascii import crc32
from urllib.parse import quote

from tests.support.fake_provider import Seen, Step, pieces

STRING = 7


def frame(payload: bytes, **about: str) -> bytes:
    """A message: prelude and its checksum, headers, payload, and the checksum of all.

    https://smithy.io/2.0/aws/amazon-eventstream.html
    """
    named = b"".join(
        struct.pack("!B", len(name) + 1)
        + b":"
        + name.replace("_", "-").encode()
        + struct.pack("!BH", STRING, len(value))
        + value.encode()
        for name, value in about.items()
    )
    prelude = struct.pack("!II", len(named) + len(payload) + 16, len(named))
    prelude += struct.pack("!I", crc32(prelude))
    return prelude + named + payload + struct.pack("!I", crc32(prelude + named + payload))


def chunk_frame(data: bytes) -> bytes:
    """An event of Anthropic's in a message."""
    payload = json.dumps({"bytes": b64encode(data).decode(), "p": "abcdefgh"[: len(data) % 8]}).encode()
    return frame(payload, event_type="chunk", content_type="application/json", message_type="event")


def exception_frame(kind: str, message: str) -> bytes:
    """An exception in the middle of a stream."""
    payload = json.dumps({"message": message}).encode()
    return frame(payload, exception_type=kind, content_type="application/json", message_type="exception")


def data_of(event: bytes) -> bytes:
    """The JSON of a server-sent event."""
    return event.split(b"\ndata: ", 1)[1].removesuffix(b"\n\n")


def frames(events: list[bytes]) -> bytes:
    """Events as a stream of Bedrock's."""
    return b"".join(chunk_frame(data_of(event)) for event in events)


def streamed(parts: list[bytes]) -> list[Step]:
    """An answer that is an event stream."""
    return pieces(200, parts, ("content-type", "application/vnd.amazon.eventstream"), ("x-amzn-requestid", "amazon-1"))


def is_signed(seen: Seen, region: str, access_key: str, secret: str) -> bool:
    """Whether the request was signed with this access key, as AWS finds out: from what arrived, each part of the path
    encoded once more.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    (given,) = seen.values("authorization")
    scheme, _, rest = given.partition(" ")
    said = dict(part.strip().split("=", 1) for part in rest.split(","))
    (moment,) = seen.values("x-amz-date")
    scope = f"{moment[:8]}/{region}/bedrock/aws4_request"
    if (scheme, said["Credential"]) != ("AWS4-HMAC-SHA256", f"{access_key}/{scope}"):
        return False
    names = said["SignedHeaders"].split(";")
    assert {"host", "x-amz-date"} <= set(names)
    canonical = "\n".join(
        [
            seen.method,
            quote(seen.target, safe="/-_.~"),
            "",
            *(f"{name}:{','.join(seen.values(name))}" for name in names),
            "",
            said["SignedHeaders"],
            hashlib.sha256(seen.body).hexdigest(),
        ]
    )
    key = f"AWS4{secret}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    told = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
    return hmac.compare_digest(hmac.digest(key, told.encode(), "sha256").hex(), said["Signature"])
