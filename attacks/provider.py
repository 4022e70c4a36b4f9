"""A fake provider in a process of its own, so that sending costs the measuring customer no time.

It prints its address, and exits when its standard input ends. Words in the request choose its answer.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

from tests.support.fake_provider import LAST_CHUNK, Answer, Seen, Step, Upstream, chunk, head, pieces, whole

ROOT = Path(__file__).resolve().parent.parent
MODEL = "claude-opus-5-5"
USAGE = {"input_tokens": 11, "output_tokens": 7}
MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "stop_sequence": None}
MEGABYTE = 1_000_000

# Words that choose something other than a normal answer, and the beta that this provider doesn't allow.
RATE_LIMIT, LONG_JSON, BOMB, LONG_LINE = "limit the rate", "a long JSON", "a gzip bomb", "a long line"
FORBIDDEN_BETA = "forbidden-beta-2026-01-01"
RETRY_AFTER = 6

# Megabytes of each.
LONG_JSON_SIZE, BOMB_SIZE, LONG_LINE_SIZE = 600, 800, 300


def event(kind: str, **members: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def error(status: int, kind: str, *headers: tuple[str, str]) -> Answer:
    body = {"type": "error", "error": {"type": kind, "message": "This provider says no."}}
    return whole(status, json.dumps(body).encode(), *headers)


def message() -> Answer:
    content = [{"type": "text", "text": "Bob has read it."}]
    return whole(200, json.dumps(MESSAGE | {"content": content, "stop_reason": "end_turn", "usage": USAGE}).encode())


def stream() -> Answer:
    start: dict[str, object] = MESSAGE | {"content": [], "stop_reason": None, "usage": USAGE | {"output_tokens": 1}}
    return pieces(
        200,
        [
            event("message_start", message=start),
            event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Bob has "}),
            event("content_block_delta", index=0, delta={"type": "text_delta", "text": "read it."}),
            event("content_block_stop", index=0),
            event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7}),
            event("message_stop"),
        ],
    )


def long_json() -> Answer:
    """A message with a very long text, sent a megabyte at a time."""
    before, after = whole_message_around()
    size = len(before) + LONG_JSON_SIZE * MEGABYTE + len(after)
    first = head(200, [(b"content-type", b"application/json"), (b"content-length", b"%d" % size)])
    return [first + before, *[b"a" * MEGABYTE] * LONG_JSON_SIZE, after]


def bomb() -> Answer:
    """The same in gzip: one self-contained block, repeated."""
    before, after = whole_message_around()
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(before) + packer.flush(zlib.Z_FULL_FLUSH)
    block = b"a" * MEGABYTE
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    last = packer.compress(after) + packer.flush()
    sum_of_all = zlib.crc32(before)
    for _ in range(BOMB_SIZE):
        sum_of_all = zlib.crc32(block, sum_of_all)
    size = len(before) + BOMB_SIZE * MEGABYTE + len(after)
    trailer = zlib.crc32(after, sum_of_all).to_bytes(4, "little") + (size % 2**32).to_bytes(4, "little")
    gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff" + first + packed * BOMB_SIZE + last + trailer
    return whole(200, gzip, ("content-encoding", "gzip"))


def long_line() -> Answer:
    """A stream with one very long event."""
    first = head(200, [(b"content-type", b"text/event-stream"), (b"transfer-encoding", b"chunked")])
    begun = b'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"'
    return [first, chunk(begun), *[chunk(b"a" * MEGABYTE)] * LONG_LINE_SIZE, chunk(b'"}}\n\n'), LAST_CHUNK]


def whole_message_around() -> tuple[bytes, bytes]:
    """A message's bytes before and after its text."""
    answer = MESSAGE | {"content": [{"type": "text", "text": "|"}], "stop_reason": "end_turn", "usage": USAGE}
    before, _, after = json.dumps(answer).encode().partition(b"|")
    return before, after


def answer(seen: Seen) -> Sequence[Step]:
    """The answer that this request asks for."""
    if seen.method == "GET":
        return whole(200, b'{"data":[],"has_more":false,"first_id":null,"last_id":null}')
    if FORBIDDEN_BETA in ",".join(seen.values("anthropic-beta")):
        return error(403, "permission_error")
    # A request that wants something else says so within this many bytes.
    said = seen.body[:2000].decode("latin-1")
    if RATE_LIMIT in said:
        return error(429, "rate_limit_error", ("retry-after", str(RETRY_AFTER)))
    if LONG_JSON in said:
        return long_json()
    if BOMB in said:
        return bomb()
    if LONG_LINE in said:
        return long_line()
    if seen.target.partition("?")[0].endswith("/count_tokens"):
        return whole(200, b'{"input_tokens":11}')
    if seen.target.partition("?")[0].endswith("/batches"):
        return error(400, "invalid_request_error")
    return stream() if '"stream":true' in said.replace(" ", "") else message()


class Provider:
    """The process of a fake provider."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "attacks.provider"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().strip()

    def stop(self) -> None:
        self.process.communicate()


def main() -> None:
    with Upstream() as upstream:

        def answer_and_forget(seen: Seen) -> Sequence[Step]:
            upstream.seen.clear()
            return answer(seen)

        upstream.answer = answer_and_forget
        print(upstream.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
