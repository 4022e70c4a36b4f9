"""An independent fake provider, in a process of its own: it writes down each call that it got, by the call's id.

`python -m reliability.provider ADDRESS PORT SEEN MODE` listens there. For each call that arrived whole, it
appends a line with the call's id, and the seconds that its answer takes, to the file SEEN before it answers. It answers
as the file MODE says at that moment.
"""

from __future__ import annotations

import os
import random
import re
import signal
import sys
from collections import Counter
from pathlib import Path

from attacks import provider
from reliability.network import Space
from reliability.program import Program
from tests.support.fake_provider import Answer, End, Seen, Upstream, broken, head, whole

# What it does with calls. A healthy answer takes a moment, so that calls are open when something breaks.
HEALTHY, HANGING, RESETTING, GARBAGE = "healthy", "hanging", "resetting", "garbage"
LIMITING, FAILING = "limiting", "failing"
SECONDS_TO_ANSWER = (0.05, 0.4)
LONG_SECONDS = 3600.0
ID = re.compile(rb"call ([0-9a-z-]+)")
# An id stands within this many bytes of the body.
NEAR = 600


class Provider:
    """The process, at the namespace's address if it has one, else `at`."""

    def __init__(
        self, folder: Path, port: int, space: Space | None = None, name: str = "provider", at: str = "127.0.0.1"
    ) -> None:
        self.seen, self.mode = folder / f"{name}.seen", folder / f"{name}.mode"
        address = space.address if space else at
        self.url = f"http://{address}:{port}"
        self.seen.touch()
        self.behave(HEALTHY)
        command: list[str | Path] = [
            sys.executable,
            "-m",
            "reliability.provider",
            address,
            str(port),
            self.seen,
            self.mode,
        ]
        log = folder / f"{name}.log"
        self.program = Program("The fake provider", command, log, space=space.name if space else "")

    def start(self) -> None:
        self.program.start()
        self.program.wait_until(lambda: "listens" in self.program.said(), 60)

    def behave(self, mode: str) -> None:
        """Answer all calls that arrive from now on in this way."""
        part = self.mode.with_suffix(".part")
        part.write_text(mode)
        part.replace(self.mode)

    def calls(self) -> Counter[str]:
        """How often each call has arrived, by its id."""
        return Counter(line.split()[0] for line in self.seen.read_text().splitlines())

    def seconds(self) -> dict[str, float]:
        """How long the provider took for each call, by its id. It is part of what the client waited."""
        return {call: float(took) for call, took in (line.split() for line in self.seen.read_text().splitlines())}


def id_of(body: bytes) -> str:
    """The id in the question of a call; "": none."""
    found = ID.search(body[:NEAR])
    return found[1].decode() if found else ""


def answer(seen: Seen, mode: str, seconds: float) -> Answer:
    """The steps of an answer; a healthy one takes this long."""
    if seen.method == "GET" or mode == HEALTHY:
        return [seconds, *provider.answer(seen)]
    if mode == HANGING:
        return [LONG_SECONDS]
    if mode == LIMITING:
        return provider.error(429, "rate_limit_error", ("retry-after", "60"))
    if mode == FAILING:
        return provider.error(500, "api_error")
    if mode == RESETTING:
        return random.choice([[End.RESET], broken(start_of_stream(), End.RESET), broken(start_of_stream())])
    return random.choice(
        [
            whole(200, os.urandom(300)),
            [os.urandom(200), End.CLOSE],
            whole(200, b'{"type":"message","usage":'),
            whole(500, b"<html>no</html>", ("content-type", "text/html")),
            [head(200, [(b"content-type", b"text/event-stream")]) + b"data: {]\n\nevent: nothing\n\n", End.CLOSE],
        ]
    )


def start_of_stream() -> list[bytes]:
    start: dict[str, object] = provider.MESSAGE | {
        "content": [],
        "stop_reason": None,
        "usage": provider.USAGE | {"output_tokens": 1},
    }
    return [provider.event("message_start", message=start)]


def main(address: str, port: str, seen_file: str, mode_file: str) -> None:
    written = os.open(seen_file, os.O_WRONLY | os.O_APPEND)
    with Upstream(address=(address, int(port))) as upstream:

        def note_and_answer(seen: Seen) -> Answer:
            upstream.seen.clear()
            seconds = random.uniform(*SECONDS_TO_ANSWER)
            if seen.method == "POST" and (call := id_of(seen.body)):
                os.write(written, f"{call} {seconds:.4f}\n".encode())
            return answer(seen, Path(mode_file).read_text(), seconds)

        upstream.answer = note_and_answer
        print("listens", flush=True)
        signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
