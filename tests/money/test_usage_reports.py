"""Several reports of one call's tokens: the last word counts, and no report of nothing takes back what was read."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api.answer.events import StreamMeter
from messages_api.answer.metering import Reading
from messages_api.answer.usage_reports import MEMBERS, prompt_tokens
from tests.support.fake_provider import broken, pieces, whole
from tests.support.gateway import ask, event, events, message, post, row

END = {"stop_reason": "end_turn", "stop_sequence": None}
WORDS = events("Hello")[1:4]


def start(usage, **members):
    message = {"id": "m", "type": "message", "role": "assistant", "model": "claude-opus-5-5", "content": []}
    return event("message_start", message=message | {"usage": usage} | members)


def delta(usage=None, end=END, **members):
    return event("message_delta", delta=end, **({"usage": usage} if usage is not None else {}), **members)


STOP = event("message_stop")
READ = {"input_tokens": 1200, "cache_read_input_tokens": 5000}
SPLIT = {
    "cache_creation_input_tokens": 300,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200},
}
CACHED_LESS = {"cache_read_input_tokens": 4000}
ZEROS = {"input_tokens": 0, "cache_read_input_tokens": 0}
NO_SPLIT = {
    "cache_creation_input_tokens": 0,
    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
}
OUT = {"output_tokens": 50}
# 4, 0.2 and 20 dollars a million; 5 and 8 to write to a cache.
COST, COST_OF_WRITES = Decimal("0.0068"), Decimal("0.0021")


def counted(entry):
    writes = entry.cache_creation_5m_input_tokens, entry.cache_creation_1h_input_tokens
    return entry.input_tokens, entry.cache_read_input_tokens, writes, entry.output_tokens


def streamed(web, caller, upstream, *parts, **members):
    """The row of a stream of these events."""
    upstream.answer = pieces(200, list(parts))
    assert post(web, caller.key, ask(stream=True, **members)).content == b"".join(parts)
    return row()


@pytest.mark.parametrize(
    "parts",
    [
        [start(READ), *WORDS, delta(ZEROS | OUT), STOP],
        [start(READ), *WORDS, delta({"input_tokens": 0} | OUT), STOP],
        [start(ZEROS | {"output_tokens": 0}), *WORDS, delta(READ | OUT), STOP],
        [start({}), *WORDS, delta(READ | OUT), STOP],
        [start(READ), *WORDS, delta(OUT), delta(ZEROS | {"output_tokens": 0}), STOP],
        [start(READ), *WORDS, delta(OUT), delta(), STOP],
        [start(READ), *WORDS, delta(OUT), delta({}), STOP],
        [start(READ), *WORDS, delta(OUT), event("message_delta", delta=END, usage=None), STOP],
        [start(READ), *WORDS, delta(OUT), delta(end={"stop_reason": None}), STOP],
        [start(READ), *WORDS, delta(OUT), delta(end={}), STOP],
        [start(READ), *WORDS, delta(OUT), event("message_delta"), STOP],
        [start(READ), *WORDS, delta(end={"stop_reason": None}), delta(OUT), STOP],
        [start(READ), *WORDS, delta(OUT, end={}), delta(ZEROS), STOP],
        [start(READ), *WORDS, delta(ZEROS), event("message_stop", usage=ZEROS | OUT)],
        [start(ZEROS), *WORDS, delta(), event("message_stop", usage=READ | OUT)],
        [start(READ), start(ZEROS | {"output_tokens": 1}), *WORDS, delta(ZEROS | OUT), STOP],
        [start(ZEROS), start(READ), *WORDS, delta(OUT), STOP],
        [start(READ), *WORDS, delta(OUT), start(ZEROS | {"output_tokens": 1}, model=""), STOP],
        [start(READ), *WORDS, delta({"input_tokens": "", "cache_read_input_tokens": ""} | OUT), STOP],
        [start(READ), *WORDS, delta(READ | OUT | {"server_tool_use": None, "output_tokens_details": {}}), STOP],
        [start(READ), *WORDS, delta(READ | OUT | {"iterations": []}), STOP],
        # Usage one level too deep or too high: https://github.com/router-for-me/CLIProxyAPI/issues/1365 (January 2026).
        [start({}), *WORDS, delta(end=END | {"usage": READ | OUT}), STOP],
        [start(READ), *WORDS, delta(end=END | {"usage": OUT}), STOP],
        [start({}), *WORDS, delta(message={"usage": READ | OUT}), STOP],
        [start({}), *WORDS, delta(), event("message_stop", message={"usage": READ | OUT})],
        [event("message_start", usage=READ), *WORDS, delta(OUT), STOP],
        [start(READ), *WORDS, delta(READ | OUT | {"iterations": [{"type": "message", **ZEROS}]}), STOP],
    ],
)
def test_a_count_stays_if_a_later_report_leaves_it_out(web, upstream, alice, parts):
    ends = [part for part in parts if b'"end_turn"' in part]
    entry = streamed(web, alice, upstream, *parts)
    assert counted(entry) == (1200, 5000, (0, 0), 50)
    assert (entry.cost, entry.estimated, entry.price_flag) == (COST, False, "")
    assert (entry.status, entry.stop_reason) == ("completed", "end_turn" if ends else "")
    assert entry.model == "claude-opus-5-5"


@pytest.mark.parametrize(
    "later",
    [
        {},
        NO_SPLIT,
        {"cache_creation": {}},
        {"cache_creation": None},
        {"cache_creation": []},
        {"cache_creation": 0},
        {"cache_creation_input_tokens": 0},
        {"cache_creation_input_tokens": 300},
        {"cache_creation": {"ephemeral_5m_input_tokens": 0}},
        {"cache_creation": {"ephemeral_1h_input_tokens": None}},
        SPLIT,
    ],
    ids=repr,
)
@pytest.mark.parametrize("first", ["counts", "nothing"])
def test_the_split_of_cache_writes_stays(web, upstream, alice, later, first):
    reports = [READ | SPLIT, ZEROS | later | OUT]
    if first == "nothing":
        reports = [ZEROS | later, READ | SPLIT | OUT]
    entry = streamed(web, alice, upstream, start(reports[0]), *WORDS, delta(reports[1]), STOP)
    assert counted(entry) == (1200, 5000, (100, 200), 50)
    assert (entry.cost, entry.estimated) == (COST + COST_OF_WRITES, False)


def test_searches_and_iterations_stay(web, upstream, alice):
    step = {"type": "message", "model": "claude-opus-5-5", "input_tokens": 1200, "output_tokens": 50}
    searches = {"server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0}}
    none = {"server_tool_use": {"web_search_requests": 0}, "iterations": []}
    parts = [start(READ), *WORDS, delta(READ | OUT | searches | {"iterations": [step]}), delta(ZEROS | none), STOP]
    entry = streamed(web, alice, upstream, *parts, tools=[{"type": "web_search_20250305", "name": "web_search"}])
    assert (entry.web_search_requests, len(entry.iterations)) == (2, 1)
    assert entry.cost == Decimal("0.0058") + Decimal("0.02")


def test_an_answer_of_no_output_is_one_though_its_beginning_counts_a_token(web, upstream, alice):
    entry = streamed(web, alice, upstream, start(READ | {"output_tokens": 1}), delta({"output_tokens": 0}), STOP)
    assert (entry.output_tokens, entry.estimated) == (0, False)


def test_a_stream_that_reports_output_nowhere_is_an_estimate_as_ever(web, upstream, alice):
    entry = streamed(web, alice, upstream, start(READ | {"output_tokens": 1}), *WORDS, delta(ZEROS), STOP)
    assert (entry.input_tokens, entry.estimated) == (1200, True)


def test_a_stream_that_breaks_off_after_zeros_is_reckoned_by_what_was_read(web, upstream, alice):
    upstream.answer = broken([start(READ), *WORDS, delta(ZEROS | OUT)])
    post(web, alice.key, ask(stream=True))
    entry = row()
    assert (entry.input_tokens, entry.cache_read_input_tokens, entry.estimated) == (1200, 5000, True)


def test_a_later_report_may_divide_the_prompt_differently_but_never_shorten_it():
    assert read_by({"input_tokens": 6200}, READ) == (1200, 5000)
    assert read_by({"input_tokens": 2050}, {"input_tokens": 31_772}) == (31_772, 0)
    assert read_by(READ, {"input_tokens": 900}) == (1200, 5000)
    assert read_by(READ, {"input_tokens": 1300}) == (1300, 5000)


def test_what_was_cached_is_not_added_to_a_length_that_was_estimated_before():
    assert read_by({"input_tokens": 6300}, READ) == (1300, 5000)
    assert read_by({"input_tokens": 6300}, READ, READ) == (1300, 5000)
    assert read_by({"input_tokens": 6600, "cache_read_input_tokens": 0}, READ | SPLIT) == (1300, 5000)
    # What was cached is never taken back for it.
    assert read_by({"input_tokens": 10, "cache_read_input_tokens": 5000}, {"input_tokens": 100, **CACHED_LESS}) == (
        100,
        5000,
    )


WRITES = "cache_creation_input_tokens"


@pytest.mark.parametrize(
    ("told", "counted"),
    [
        ([(463_184, 0, 463_184), (463_184, 463_184, 0)], (0, 463_184)),
        ([(463_184, 463_184, 0), (463_184, 0, 463_184)], (0, 463_184)),
        ([(300, 100, 200), (300, 200, 100)], (100, 200)),
        ([(300, 100, 200), (0, 0, 0)], (100, 200)),
        ([(300, 100, 200), (500, 300, 200)], (300, 200)),
        # One report with the same writes under both.
        ([(500, 500, 500)], (0, 500)),
        ([(500, 400, 200)], (300, 200)),
        # Without a sum, or with one that says less than a part, the parts count.
        ([(0, 500, 500)], (500, 500)),
        ([(100, 0, 500)], (0, 500)),
    ],
)
def test_cache_writes_that_are_assigned_again_count_once(told, counted):
    reading = Reading()
    for written, five, hour in told:
        split = {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour}
        reading.overlay({"input_tokens": 9, WRITES: written, "cache_creation": split, "output_tokens": 1})
    (step,) = reading.iterations()
    assert (step.counts.cache_creation_5m_input_tokens, step.counts.cache_creation_1h_input_tokens) == counted


def read_by(*reports):
    reading = Reading()
    for report in reports:
        reading.overlay(report)
    (step,) = reading.iterations()
    return step.counts.input_tokens, step.counts.cache_read_input_tokens


count = st.integers(0, 5) | st.integers(0, 100_000)
maybe = st.none() | count | st.sampled_from([-1, True, 1.5, "9", [], {}, 1 << 60])
parts_of_split = st.dictionaries(st.sampled_from(["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"]), maybe)
reports = st.fixed_dictionaries(
    {},
    optional={
        "input_tokens": maybe,
        "cache_read_input_tokens": maybe,
        "cache_creation_input_tokens": maybe,
        "output_tokens": maybe,
        "cache_creation": st.none() | parts_of_split,
        "server_tool_use": st.none() | st.dictionaries(st.just("web_search_requests"), maybe),
        "iterations": st.none() | st.just([]),
    },
)


@given(st.lists(reports, max_size=6), st.randoms())
def test_neither_order_nor_repetition_lowers_what_was_read_below_any_report(told, random):
    repeated = told + [random.choice(told) for _ in told]
    random.shuffle(repeated)
    reading, before = Reading(), 0
    for report in repeated:
        reading.overlay(report)
        assert prompt_tokens(reading.usage) >= max(before, prompt_tokens(report))
        before = prompt_tokens(reading.usage)


@given(st.lists(reports, max_size=6))
def test_a_zero_takes_no_positive_counts_place_in_any_order(told):
    reading, seen = Reading(), set()
    for report in told:
        reading.overlay(report)
        seen |= {name for name, value in report.items() if type(value) is int and 0 < value < 1 << 53}
        assert all(reading.usage[name] > 0 for name in seen)


@given(st.lists(reports, min_size=1, max_size=6))
def test_a_report_that_is_repeated_changes_nothing(told):
    once, twice = Reading(), Reading()
    for report in told:
        once.overlay(report)
        twice.overlay(report)
        twice.overlay(report)
    assert once.iterations() == twice.iterations()


def test_new_members_are_kept_up_to_a_number_only():
    meter = StreamMeter()
    for number in range(0, 10_000, 10):
        more = {f"member_{each}": 1 for each in range(number, number + 10)}
        meter.feed(delta(more | {"server_tool_use": more}))
    meter.feed(delta(READ | OUT))
    assert len(meter.reading.usage) <= MEMBERS + 10
    assert len(meter.reading.usage["server_tool_use"]) <= MEMBERS


@pytest.mark.parametrize("stream", [True, False])
def test_counts_with_a_fraction_of_nothing_are_counts(web, upstream, alice, stream):
    usage = {"input_tokens": 1200.0, "cache_read_input_tokens": 5000.0, "output_tokens": 50.0}
    if stream:
        entry = streamed(web, alice, upstream, start(READ), *WORDS, delta(usage), STOP)
    else:
        upstream.answer = whole(200, message(usage=usage))
        assert post(web, alice.key).status_code == 200
        entry = row()
    assert (counted(entry), entry.cost, entry.estimated) == ((1200, 5000, (0, 0), 50), COST, False)
