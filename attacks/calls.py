"""Attacks by a key's holder, and by a provider: points 6 to 11."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from statistics import median

from attacks import provider, wire
from attacks.provider import MODEL
from attacks.scene import Scene, at_once, attack, counted, for_seconds

MEBIBYTE = 1 << 20
# The largest body by default (MAX_BODY_BYTES), less a kilobyte for the rest of it.
LONGEST = 32 * MEBIBYTE - 1000
COUNT = "/v1/messages/count_tokens"
BATCHES = "/v1/messages/batches"


def counting(text: str) -> bytes:
    return json.dumps({"model": MODEL, "messages": [{"role": "user", "content": text}]}).encode()


def filled(before: bytes, unit: bytes, after: bytes, size: int = LONGEST) -> bytes:
    """A body of this size that mostly repeats one unit."""
    return before + unit * ((size - len(before) - len(after)) // len(unit)) + after


@attack(6, "429 to count_tokens")
async def limit_counting(scene: Scene) -> str:
    """Key R counts tokens twice a second for 5 s; the provider answers 429 with `retry-after: 6`"""
    body = counting(provider.RATE_LIMIT)
    first = wire.call(scene.cast.r, COUNT, len(body))
    return counted(await twice_a_second(scene, first, body))


async def twice_a_second(scene: Scene, first: bytes, body: bytes) -> list[str]:
    """Send this for 5 s, the next one half a second after the last answer; all answers."""

    async def once() -> str:
        heard = await wire.say(scene.address, first, [body])
        await asyncio.sleep(0.5)
        return heard

    return await for_seconds(5, 1, once)


@attack(6, "a flood of count_tokens", rows=300)
async def flood_counting(scene: Scene) -> str:
    """Key R counts tokens over 8 connections for 6 s, as fast as it gets answers"""
    body = counting("Hello")
    first = wire.call(scene.cast.r, COUNT, len(body))
    heard = await for_seconds(6, 8, lambda: wire.say(scene.address, first, [body]))
    return counted(heard)


@attack(6, "403 for one caller's beta")
async def provoke_403(scene: Scene) -> str:
    """For 5 s, a paying key sends a beta twice a second, which the provider answers with 403"""
    body = wire.ask()
    first = wire.call(scene.cast.buyer, length=len(body), anthropic_beta=provider.FORBIDDEN_BETA)
    return counted(await twice_a_second(scene, first, body))


async def one_body(scene: Scene, body: bytes) -> str:
    """Send a body with a paying key for 3 s, over two connections, so that it can reach each process."""
    first = wire.call(scene.cast.other, length=len(body))
    heard = await for_seconds(3, 2, lambda: wire.say(scene.address, first, wire.in_parts(body), seconds=14))
    scene.expect(wire.NO_ANSWER not in heard, "a body of 32 MiB wasn't answered within 14 s")
    return counted(heard)


@attack(7, "a member's name of 32 MB", memory=400)
async def long_name(scene: Scene) -> str:
    """Bodies with a member whose name has 32 MB, and Bursar's `fallbacks`, for 3 s over 2 connections"""
    after = b'": 1, ' + wire.ask(fallbacks=["claude-haiku-4-5"])[1:]
    return await one_body(scene, filled(b'{"', b"a", after))


@attack(7, "odd blocks", memory=400)
async def odd_blocks(scene: Scene) -> str:
    """Bodies of 32 MB full of blocks of an unknown type, for 3 s over 2 connections"""
    before = b'{"model":"%b","max_tokens":64,"messages":[{"role":"user","content":[' % MODEL.encode()
    block = b'{"type":"an odd one"},'
    return await one_body(scene, filled(before, block, b'{"type":"text","text":"a"}]}]}'))


@attack(7, "escapes", memory=400)
async def escapes(scene: Scene) -> str:
    """Bodies whose text is `\\u0061` × 5 million, for 3 s over 2 connections"""
    before, after = wire.ask("|").split(b"|")
    return await one_body(scene, before + b"\\u0061" * 5_000_000 + after)


@attack(8, "20 bodies of 32 MiB")
async def long_bodies(scene: Scene) -> str:
    """Key R sends 20 bodies of 32 MiB at once"""
    before, after = wire.ask("|").split(b"|")
    body = filled(before, b"a", after)
    first = wire.call(scene.cast.r, length=len(body))
    return counted(await at_once(20, lambda _: wire.say(scene.address, first, wire.in_parts(body), seconds=14)))


def batch(megabytes: int) -> Iterator[bytes]:
    """A batch of this size with requests of 2 kB each, in HTTP chunks; it is generated while it is sent."""
    text = "a" * 1950
    params = json.dumps({"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": text}]})
    yield from in_chunks(b'{"requests":[')
    for number in range(megabytes):
        part = ",".join(f'{{"custom_id":"{number}-{each}","params":{params}}}' for each in range(480))
        yield from in_chunks((b"," if number else b"") + part.encode())
    yield from in_chunks(b"]}")
    yield b"0\r\n\r\n"


def in_chunks(part: bytes) -> Iterator[bytes]:
    yield b"%x\r\n%b\r\n" % (len(part), part)


@attack(8, "4 batches of 200 MB", memory=640)
async def long_batches(scene: Scene) -> str:
    """Key R creates 4 batches of 200 MB at once"""
    about = {"x-api-key": scene.cast.r, "anthropic-version": "2023-06-01", "transfer-encoding": "chunked"}
    first = wire.head("POST", BATCHES, about)
    return counted(await at_once(4, lambda _: wire.say(scene.address, first, batch(200), seconds=15)))


@attack(8, "bodies that drip", memory=64)
async def dripping_bodies(scene: Scene) -> str:
    """Key R begins 100 bodies of 30 MB with 2 MB each, and continues at 2 bytes a second for 8 s"""
    first = wire.call(scene.cast.r, length=30_000_000) + b'{"model":"' + b"a" * 2_000_000
    heard = await at_once(100, lambda _: wire.held(scene.address, first, b"a", 0.5, 8))
    return f"{counted(heard)} after 8 s"


async def hostile_answer(scene: Scene, words: str, count: int = 2, **members: object) -> str:
    """Ask the other provider for an endless answer, and read it as it arrives."""
    body = wire.ask(words, **members)
    first = wire.call(scene.cast.other, length=len(body))
    return counted(await at_once(count, lambda _: wire.say(scene.address, first, [body], seconds=14)))


@attack(9, "600 MB of JSON")
async def long_json(scene: Scene) -> str:
    """A provider answers 2 calls with 600 MB of JSON each"""
    return await hostile_answer(scene, provider.LONG_JSON)


@attack(9, "a gzip bomb")
async def bomb(scene: Scene) -> str:
    """A provider answers 2 calls with gzip of 0.8 MB that unpacks to 800 MB"""
    return await hostile_answer(scene, provider.BOMB)


@attack(9, "an event of 300 MB")
async def long_line(scene: Scene) -> str:
    """A provider streams 2 events of 300 MB, each in one line"""
    return await hostile_answer(scene, provider.LONG_LINE, stream=True)


@attack(10, "stars and dashes")
async def stars(scene: Scene) -> str:
    """4 calls of a model of 200 dashes by a key that may use `*-*-*-*-*-x`"""
    body = json.dumps(json.loads(wire.ask()) | {"model": "-" * 200}).encode()
    first = wire.call(scene.cast.starred, length=len(body))
    heard = await at_once(4, lambda _: wire.say(scene.address, first, [body], seconds=14))
    scene.expect(wire.NO_ANSWER not in heard, "a call wasn't answered within 14 s")
    return counted(heard)


@attack(11, "990 keys")
async def many_keys(scene: Scene) -> str:
    """30 calls with 990 well-formed, unknown keys in `x-bf-vk` each, and 30 with one"""
    body = wire.ask()
    taken: dict[int, list[float]] = {1: [], 990: []}
    heard = []
    for _ in range(30):
        for count, seconds in taken.items():
            keys = [("x-bf-vk", key) for key in scene.cast.unknown[:count]]
            first = wire.head("POST", "/v1/messages", [*keys, ("content-length", str(len(body)))])
            begun = time.monotonic()
            heard.append(await wire.say(scene.address, first, [body]))
            seconds.append(time.monotonic() - begun)
    ratio = median(taken[990]) / median(taken[1])
    scene.expect(ratio < 10, f"990 keys took {ratio:.0f} times as long as one")
    return f"{counted(heard)}; with 990 it took {ratio:.1f} times as long as with one"
