"""Attacks without any credential, mostly on pages: points 12 to 16."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

from attacks import wire
from attacks.scene import Scene, at_once, attack, counted, for_seconds

LOGIN = "/admin/login/"
FORM = {"content-type": "application/x-www-form-urlencoded"}
# The token in the cookie and in the form may be made up, if both are the same.
TOKEN = "a" * 32
COOKIE = {"cookie": f"csrftoken={TOKEN}"}
TOKEN_FIELD = f"csrfmiddlewaretoken={TOKEN}&".encode()


def form(filled: bytes, about: dict[str, str] = FORM) -> bytes:
    """The head of this form, as the sign-in page sends it."""
    return wire.head("POST", LOGIN, COOKIE | about | {"content-length": str(len(filled))})


@attack(12, "CONNECT")
async def connect(scene: Scene) -> str:
    """For 6 s, 16 connections send `CONNECT / HTTP/1.1`, followed by bytes that look like another head"""
    first = wire.head("CONNECT", "/", {"content-length": "0"}) + wire.head("CONNECT", "/") * 20
    heard = await for_seconds(6, 16, lambda: wire.say(scene.address, first))
    scene.expect(set(heard) <= {"405", "400", wire.CLOSED}, f"CONNECT was answered {counted(heard)}")
    return counted(heard)


@attack(12, "doubtful heads")
async def doubtful_heads(scene: Scene) -> str:
    """Two `Host` headers, none, and `transfer-encoding: gzip, chunked`, 20 times each"""
    heads = {
        "two hosts": (wire.head("GET", "/healthz", [("host", "other")]), "400"),
        "no host": (b"GET /healthz HTTP/1.1\r\nconnection: close\r\n\r\n", "400"),
        "gzip, chunked": (wire.head("POST", "/v1/messages", {"transfer-encoding": "gzip, chunked"}), "501"),
    }
    said = []
    for name, (first, expected) in heads.items():
        heard = [await wire.say(scene.address, first) for _ in range(20)]
        scene.expect(set(heard) == {expected}, f"{name} was answered {counted(heard)}, not {expected}")
        said.append(f"{name}: {counted(heard)}")
    return "; ".join(said)


def megabytes(count: int) -> Iterator[bytes]:
    for _ in range(count * 4):
        yield b"a" * 250_000


@attack(13, "300 MB to a page", memory=64)
async def long_form(scene: Scene) -> str:
    """Two bodies of 300 MB to `/admin/login/`"""
    first = wire.head("POST", LOGIN, FORM | {"content-length": "300000000"})
    heard = await at_once(2, lambda _: wire.say(scene.address, first, megabytes(300), seconds=12))
    return counted(heard)


@attack(13, "forms that drip", memory=64)
async def dripping_forms(scene: Scene) -> str:
    """100 bodies of 2 MB to `/admin/login/`: half of each at once, the rest at 2 bytes a second, for 8 s"""
    first = wire.head("POST", LOGIN, FORM | {"content-length": "2000000"}) + b"a" * 1_000_000
    heard = await at_once(100, lambda _: wire.held(scene.address, first, b"a", 0.5, 8))
    return f"{counted(heard)} after 8 s"


@attack(13, "GET with a body", memory=64)
async def get_with_body(scene: Scene) -> str:
    """4 `GET /admin/login/` with bodies of 50 MB"""
    first = wire.head("GET", LOGIN, {"content-length": "50000000"})
    heard = await at_once(4, lambda _: wire.say(scene.address, first, megabytes(50)))
    scene.expect("200" not in heard, "a GET with a body of 50 MB was served")
    return counted(heard)


async def guessing(scene: Scene, seconds: float) -> str:
    """20 clients guess the passwords of users, one after the other, for this time; what they heard."""
    number = itertools.count()

    async def once() -> str:
        guessed = TOKEN_FIELD + b"username=admin&password=guess-%d" % next(number)
        heard = await wire.say(scene.address, form(guessed), [guessed])
        if heard != "200":
            # It was slowed or refused: a machine would retry at once, but that would show nothing new.
            await asyncio.sleep(0.2)
        return heard

    return counted(await for_seconds(seconds, 20, once))


@attack(14, "guessing passwords", memory=450, logged=200)
async def guess(scene: Scene) -> str:
    """20 clients guess the passwords of users, one after the other, for 8 s"""
    return await guessing(scene, 8)


@attack(15, "900 made-up sessions", logged=200)
async def made_up_sessions(scene: Scene) -> str:
    """900 `GET /admin/` at once, each with a made-up session"""

    async def once(number: int) -> str:
        cookie = {"cookie": f"sessionid={'made0up' * 4}{number:04}"}
        return await wire.say(scene.address, wire.head("GET", "/admin/", cookie), seconds=14)

    return counted(await at_once(900, once))


@attack(16, "pages that fail", logged=60)
async def failing_pages(scene: Scene) -> str:
    """200 requests to pages that fail: unknown hosts, 1001 form fields, broken multipart, a NUL in a path"""
    fields = TOKEN_FIELD + b"&".join(b"a%d=1" % number for number in range(1001))
    broken = {"content-type": "multipart/form-data; boundary=" + "x" * 300}
    requests = [
        (wire.head("GET", "/admin/", host="evil.example"), b""),
        (form(fields), fields),
        (form(b"abcd", broken), b"abcd"),
        (wire.head("GET", "/static/%00"), b""),
    ]
    heard = []
    for first, body in requests * 50:
        heard.append(await wire.say(scene.address, first, [body]))
    return counted(heard)


@attack(16, "heads that are held", memory=64)
async def held_heads(scene: Scene) -> str:
    """400 heads of 250 kB that never end, held for 8 s"""
    first = b"GET /admin/ HTTP/1.1\r\nhost: localhost\r\n" + b"x-a: " + b"a" * 250_000
    heard = await at_once(400, lambda _: wire.held(scene.address, first, b"a", 0.5, 8))
    return f"{counted(heard)} after 8 s"
