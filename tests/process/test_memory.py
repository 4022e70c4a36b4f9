"""A process gives memory back after many long bodies, and looks for it only now and then."""

from __future__ import annotations

import time

from messages_api.process.memory import GROWTH, Trimmer, resident

BODY, BODIES = 100 << 10, 1000


def fragmented() -> list[bytes]:
    """What stays of many bodies that were freed: small pieces between them."""
    held, pieces = [], []
    for number in range(BODIES):
        held.append(bytearray(b"x" * BODY))
        pieces.append(b"%d" % number * 300)
    return pieces


async def test_memory_between_pieces_in_use_is_given_back() -> None:
    trimmer = Trimmer()
    trimmer.least = resident()
    pieces = fragmented()
    before = resident()
    await trimmer.step()
    assert before - resident() > BODY * BODIES // 2
    assert len(pieces) == BODIES


async def test_a_process_that_has_not_grown_is_not_trimmed_and_one_that_has_only_once_in_a_while() -> None:
    trims: list[int] = []
    trimmer = Trimmer()

    def trim(pad: int) -> int:
        trims.append(pad)
        return 1

    trimmer.trim = trim
    trimmer.least = resident()
    await trimmer.step()
    assert not trims
    trimmer.next, trimmer.least = 0.0, resident() - 2 * GROWTH
    await trimmer.step()
    assert len(trims) == 1
    trimmer.least = 0
    await trimmer.step()
    assert len(trims) == 1
    assert trimmer.next > time.monotonic()
