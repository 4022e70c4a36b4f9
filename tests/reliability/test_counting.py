"""The clients and the fake provider of `make faults` count each call, over real sockets."""

from __future__ import annotations

import sys

import pytest

from attacks.deployment import free_port
from reliability import provider
from reliability.load import BATCH, BIG, HANG_UP, JSON, STREAM, Load
from reliability.program import DoesNotAnswer, Program, within
from reliability.provider import Provider

pytestmark = pytest.mark.long


@pytest.fixture
def upstream(tmp_path):
    made = Provider(tmp_path, free_port())
    made.start()
    yield made
    made.program.stop()


def calls_of(upstream, folder, prefix, kinds, count=10):
    load = Load(folder, [upstream.url], "sk-a-key", prefix, rate=20, kinds=kinds)
    load.start()
    assert within(60, lambda: len(load.calls()) >= count)
    return load.finish()


def test_every_call_is_counted_by_its_id_on_both_sides(upstream, tmp_path):
    calls = calls_of(upstream, tmp_path, "a", [JSON, STREAM, BIG, HANG_UP, BATCH])
    assert not [call for call in calls if call.failed]
    assert dict(upstream.calls()) == {call.id: 1 for call in calls}
    assert {call.kind for call in calls} == {JSON, STREAM, BIG, HANG_UP, BATCH}


@pytest.mark.parametrize("mode", [provider.RESETTING, provider.GARBAGE, provider.LIMITING, provider.FAILING])
def test_a_failing_provider_still_counts_and_its_clients_see_it(upstream, tmp_path, mode):
    upstream.behave(mode)
    calls = calls_of(upstream, tmp_path, "b", [STREAM])
    assert all(call.failed for call in calls)
    assert dict(upstream.calls()) == {call.id: 1 for call in calls}


def test_a_program_that_ends_is_not_waited_for(tmp_path):
    program = Program("It", [sys.executable, "-c", "raise SystemExit('no reason')"], tmp_path / "log")
    program.start()
    with pytest.raises(DoesNotAnswer, match="It doesn't answer: no reason"):
        program.wait_until(lambda: False, 60)
