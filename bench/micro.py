"""Measures the gateway's own steps on the path of a call, in microseconds: `make bench-micro`. It only prints figures.

It needs neither database nor network. Each figure is the median of several rounds; the spread shows how busy the
machine was. The process stays on one core.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import timeit
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

ROUNDS = 9
ROUND_SECONDS = 0.05
MODEL = "claude-opus-5-5"
EVENTS = 56


def prepare() -> None:
    """Set up Django with settings of a fictitious deployment, which importing the apps requires."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    os.environ.update(
        ENV_FILE=os.devnull,
        DJANGO_SETTINGS_MODULE="gateway_project.settings",
        DATABASE_URL="postgresql://unused@127.0.0.1/unused",
    )
    import django

    with tempfile.TemporaryDirectory() as folder:
        os.environ["VAR_DIR"] = folder
        django.setup()


def request(size: int) -> bytes:
    """A Messages request of about `size` bytes, in turns of 200 characters."""
    turn = "Alice asks whether “Bob” has read §7.\n" * 5
    turns = [{"role": ("user", "assistant")[n % 2], "content": turn} for n in range(max(1, size // 230))]
    return json.dumps(
        {"model": MODEL, "max_tokens": 1024, "stream": True, "messages": turns}, ensure_ascii=False
    ).encode()


def shapes() -> dict[str, bytes]:
    """Requests of one megabyte in different shapes: the time to read a request depends on its shape."""
    said, quoted = "Alice asks Bob what he read. " * 6, "Alice asks whether “Bob” has read §7.\n" * 5
    tool = {"name": "search", "description": "Searches for things. " * 20, "input_schema": {"type": "object"}}
    schema: dict[str, object] = {"type": "string"}
    for _ in range(100):
        schema = {"type": "object", "properties": {"a": schema}}
    use = {"type": "tool_use", "id": "toolu_01A09q90qw90lq917835lq9", "name": "search", "input": {"q": "x", "n": 7}}
    found = {"type": "tool_result", "tool_use_id": use["id"], "content": [{"type": "text", "text": "found in a file"}]}
    unknown = {"type": "hologram", "text": "abcdefgh" * 4, "depth": 3}
    image = {"type": "base64", "media_type": "image/png", "data": "iVBORw0K" * 125_000}

    def dump(escaped: bool = False, indent: int | None = None, **members: object) -> bytes:
        body = {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}], **members}
        return json.dumps(body, ensure_ascii=escaped, indent=indent).encode()

    def one(content: object) -> list[dict[str, object]]:
        return [{"role": "user", "content": content}]

    def turns(asked: object, answered: object, size: int = 1_000_000) -> list[dict[str, object]]:
        pair: list[dict[str, object]] = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        return pair * (size // len(json.dumps(pair, ensure_ascii=False).encode()))

    def text(said: str) -> list[dict[str, str]]:
        return [{"type": "text", "text": said}]

    return {
        "a long string": dump(messages=one("a" * 1_000_000)),
        "a long string, CJK": dump(messages=one("日本" * 160_000)),
        "a long string, emoji escaped": dump(escaped=True, messages=one("👋" * 83_000)),
        "a long string, code": dump(messages=one('if "x" == y:\n\treturn 7\n' * 35_000)),
        "turns of 170 letters": dump(messages=turns(said, said)),
        "turns of 200 letters, quotes": dump(messages=turns(quoted, quoted)),
        "turns of 2 letters": dump(messages=turns("Hi", "Hi")),
        "blocks of 170 letters": dump(messages=turns(text(said), text(said))),
        "blocks of 200 letters, quotes": dump(messages=turns(text(quoted), text(quoted))),
        "blocks of 2 letters": dump(messages=turns(text("Hi") * 8, text("Hi") * 8)),
        "tool uses and results": dump(messages=turns([found], [use])),
        "1,600 tools": dump(tools=[tool] * 1_600),
        "250 tools of deep schemas": dump(tools=[tool | {"input_schema": schema}] * 250),
        "an image": dump(messages=one([{"type": "image", "source": image}])),
        "unknown blocks": dump(messages=turns([unknown], [unknown])),
        "indented by 8": dump(messages=turns(text(said), text(said), size=700_000), indent=8),
        "spaces": dump()[:-1] + b" " * 1_000_000 + b"}",
        "numbers": dump(messages=one([use | {"input": {"numbers": list(range(140_000))}}])),
        "empty objects": dump(novelty=[{}] * 250_000),
    }


def usage(output: int) -> dict[str, object]:
    return {
        "input_tokens": 2_000,
        "cache_creation_input_tokens": 300,
        "cache_read_input_tokens": 10_000,
        "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
        "output_tokens": output,
        "service_tier": "standard",
    }


def event(kind: str, **members: object) -> bytes:
    """An event as Anthropic frames it."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def delta(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


START = event("message_start", message={"id": "msg_1", "model": MODEL, "content": [], "usage": usage(1)})
DELTA = delta("Bob has read it, ")
END = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 400})


def cases() -> Iterator[tuple[str, Callable[[], object]]]:
    """The measured calls, with their names."""
    from keys import credentials
    from keys.directory import KnownKey, KnownProviderKey
    from keys.models import CredentialKind
    from messages_api.answer import settlement
    from messages_api.answer.events import StreamMeter
    from messages_api.answer.metering import JsonMeter
    from messages_api.callers import authentication
    from messages_api.relay import routing
    from messages_api.request import conversation, estimates, pdf, plain, reading
    from usage import pricing

    def meant(body: bytes) -> object:
        return reading.read(body, betas="", counting=False, signatures=False, opening=False)

    bodies = {"2 kB": request(2_000), "100 kB": request(100_000), "1 MB": request(1_000_000)}
    for size, body in bodies.items():
        yield f"reading.read, {size}", lambda body=body: meant(body)  # type: ignore[misc]
    for size, body in bodies.items():
        yield f"of that, plain.of, {size}", lambda body=body: plain.of(body)  # type: ignore[misc]
        said = plain.of(body)
        yield f"of that, estimates.contents, {size}", lambda said=said: estimates.contents(said, pdf.Steps())  # type: ignore[misc]

    for shape, body in shapes().items():
        yield f"reading.read, 1 MB: {shape}", lambda body=body: meant(body)  # type: ignore[misc]

    secret = credentials.make(CredentialKind.VIRTUAL_KEY).encode()
    headers = [(b"host", b"gateway"), (b"user-agent", b"bench"), (b"authorization", b"Bearer " + secret)]
    yield "authentication.present", lambda: authentication.present(headers)

    routes = tuple((KnownProviderKey(n, f"key {n}", "anthropic", "", "", ("claude-*",)), 1) for n in range(3))
    for count in (1, 3):
        key = KnownKey(1, 1, "alice", 1, 1, ("claude-*",), ("*-mythos-*",), False, routes[:count])
        name = f"routing.plan, {count} provider key{'s'[: count > 1]}"
        yield name, lambda key=key: routing.plan(key, [MODEL], {"anthropic": None}, str)  # type: ignore[misc]
    for size, body in bodies.items():
        said = plain.of(body)
        yield f"conversation.opening, {size}", lambda said=said: conversation.opening(said)  # type: ignore[misc]

    book, now = pricing.build([]), datetime.now(UTC)
    price = book.price("anthropic", MODEL, now)
    yield "PriceBook.price, known", lambda: book.price("anthropic", MODEL, now)

    meter = StreamMeter()
    for name, chunk in (
        ("message_start", START),
        ("a text delta", DELTA),
        ("message_delta", END),
        (f"a chunk of {EVENTS} deltas", DELTA * EVENTS),
    ):
        yield f"StreamMeter.feed, {name}", lambda chunk=chunk: meter.feed(chunk)  # type: ignore[misc]

    def feed_in_two() -> None:
        meter.feed(DELTA[:50])
        meter.feed(DELTA[50:])

    yield "StreamMeter.feed, a text delta in two", feed_in_two

    answer = {"model": MODEL, "stop_reason": "end_turn", "usage": usage(400)}
    for size, length in (("2 kB", 1_700), ("100 kB", 99_700)):
        whole = json.dumps(answer | {"content": [{"type": "text", "text": "a" * length}]}).encode()
        yield f"JsonMeter.read, {size}", lambda whole=whole: JsonMeter().read(whole)  # type: ignore[misc]

    read = JsonMeter()
    read.read(json.dumps(answer).encode())
    yield (
        "settlement.bill",
        lambda: settlement.bill(
            read.reading.iterations(),
            read.reading,
            provider="anthropic",
            model=MODEL,
            at=now,
            asked=price,
            prices=book.price,
        ),
    )


def measure(call: Callable[[], object]) -> list[float]:
    """Microseconds per call of each round, sorted."""
    timer = timeit.Timer(call)
    number, seconds = timer.autorange(lambda *_: None)
    number = max(1, round(number * ROUND_SECONDS / seconds))
    return sorted(taken / number * 1e6 for taken in timer.repeat(ROUNDS, number))


def main() -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    prepare()
    print(f"{'microseconds a call':<52}{'median':>10}{'least':>10}{'most':>10}")
    for name, call in cases():
        rounds = measure(call)
        print(f"{name:<52}{statistics.median(rounds):>10.2f}{rounds[0]:>10.2f}{rounds[-1]:>10.2f}", flush=True)


if __name__ == "__main__":
    main()
