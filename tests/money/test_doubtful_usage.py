"""What a provider reports that can't be true of a request is no bill: the row is an estimate, flagged, and people hear
of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.test import Client
from django.urls import reverse
from hypothesis import given
from hypothesis import strategies as st

from keys import keyring
from keys.models import ProviderKey
from messages_api.answer.batch_results import KnownBatch, ResultsMeter
from messages_api.answer.metering import Reading
from messages_api.answer.plausibility import Implausible, bounds, of_batch
from messages_api.answer.settlement import bill
from messages_api.request import schema
from tests.money.test_usage_reports import OUT, READ, STOP, WORDS, delta, start, streamed
from tests.support.asked_arbiter import arbiter, give_credential, settlement
from tests.support.fake_provider import pieces, whole
from tests.support.gateway import MODEL, ask, message, post, row, rows
from tests.support.ledger_rows import make_cast
from tests.support.openai_provider import ask_gpt, chunks, completion, issue_openai
from tests.support.recordings import needs_recordings, recordings
from usage import pricing, tasks
from usage.models import Alert, AlertTarget
from usage.pricing import UnpricedPolicy
from usage.tokens import TokenCounts

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
BOOK = pricing.build([], UnpricedPolicy(refuse=False, input=Decimal(30), output=Decimal(150)))
MOST = (1 << 53) - 1
FLAG = "doubtful_usage"
SEARCH = {"type": "web_search_20250305", "name": "web_search"}
ADVISOR = {"type": "advisor_20260301", "name": "advisor", "model": "claude-fable-5-1"}
STEP = {"type": "message", "input_tokens": 11, "output_tokens": 7}
ADVICE = {"type": "advisor_message", "model": "claude-fable-5-1", "input_tokens": 900_000, "output_tokens": 100_000}
SUMMARY = {"type": "compaction", "input_tokens": 5000, "output_tokens": 300}
HANDED_OVER = {"type": "fallback_message", "model": MODEL, "input_tokens": 11, "output_tokens": 7}

ABSURD = [
    {"input_tokens": MOST, "output_tokens": 7},
    {"input_tokens": 11, "output_tokens": MOST},
    {"input_tokens": 11, "output_tokens": 7, "cache_read_input_tokens": MOST},
    {"input_tokens": 11, "output_tokens": 7, "cache_creation_input_tokens": 3_000_000},
    {"input_tokens": 11, "output_tokens": 20_000},  # 64 were asked for
    {"input_tokens": 11, "output_tokens": 7, "server_tool_use": {"web_search_requests": 5000}},
    {"input_tokens": 11, "output_tokens": 7, "server_tool_use": {"web_search_requests": 1}},  # no search was asked for
    {"input_tokens": 11, "output_tokens": 7, "iterations": [ADVICE] * 4},  # nor an advisor
    {"input_tokens": 11, "output_tokens": 7, "iterations": [{"type": "message", "input_tokens": MOST}]},
    {"input_tokens": 11, "output_tokens": 7, "iterations": [{"type": "message", "output_tokens": -1}]},
    {"input_tokens": 11, "output_tokens": 7, "iterations": [{"type": "message", "input_tokens": 900_000}] * 900},
]


def check_estimate(entry):
    assert (entry.status, entry.estimated, entry.price_flag) == ("completed", True, FLAG)
    assert 0 < entry.cost <= entry.held
    assert 0 < entry.input_tokens < 1000
    assert 0 < entry.output_tokens <= 200


def test_absurd_counts_become_an_estimate_in_json_and_streams(web, upstream, alice):
    for count, usage in enumerate(ABSURD):
        upstream.answer = whole(200, message(usage=usage))
        post(web, alice.key)
        check_estimate(rows(2 * count + 1)[-1])
        upstream.answer = pieces(200, [start({"input_tokens": 11, "output_tokens": 1}), *WORDS, delta(usage), STOP])
        post(web, alice.key, ask(stream=True))
        check_estimate(rows(2 * count + 2)[-1])
    # All of it is one message in this hour.
    assert [str(alert.provider_key) for alert in Alert.objects.all()] == ["main"]


def test_absurd_counts_of_an_openai_compatible_provider_are_no_bill(web, upstream):
    gpt_alice = issue_openai(upstream)
    for count, prompt in enumerate((10**12, -5, "many")):
        usage = {"prompt_tokens": prompt, "completion_tokens": 7}
        upstream.answer = whole(200, completion(usage=usage))
        post(web, gpt_alice.key, ask_gpt())
        check_estimate(rows(2 * count + 1)[-1])
        upstream.answer = pieces(200, chunks("Hello", usage=usage))
        post(web, gpt_alice.key, ask_gpt(stream=True))
        check_estimate(rows(2 * count + 2)[-1])


@pytest.mark.parametrize(
    "wrong",
    [
        {"input_tokens": -5},
        {"input_tokens": 1.5},
        {"input_tokens": "7"},
        {"input_tokens": True},
        {"cache_read_input_tokens": -1},
        {"cache_creation": {"ephemeral_1h_input_tokens": -1}},
        {"server_tool_use": {"web_search_requests": "many"}},
    ],
    ids=repr,
)
def test_what_is_no_count_changes_nothing_and_is_flagged(web, upstream, alice, wrong):
    entry = streamed(web, alice, upstream, start(READ), *WORDS, delta(OUT | wrong), STOP)
    assert (entry.input_tokens, entry.cache_read_input_tokens) == (1200, 5000)
    assert (entry.estimated, entry.price_flag) == (True, FLAG)


def test_output_that_becomes_less_stays_what_it_was_and_is_flagged(web, upstream, alice):
    for count, (said, later) in enumerate([([500], [0]), ([500], [20]), ([1], [500, 20])], 1):
        reports = [delta({"output_tokens": each}) for each in later]
        upstream.answer = pieces(200, [start(READ | {"output_tokens": said[0]}), *WORDS, *reports, STOP])
        post(web, alice.key, ask(stream=True, max_tokens=1000))
        entry = rows(count)[-1]
        assert (entry.output_tokens, entry.estimated, entry.price_flag) == (500, True, FLAG)


def test_a_price_that_the_request_did_not_ask_for_is_not_charged(web, upstream, alice):
    usage = {"input_tokens": 1000, "output_tokens": 50}
    plain = 1000 * Decimal("0.000004") + 50 * Decimal("0.00002")
    cases = [({}, {"speed": "fast"}), ({}, {"service_tier": "batch"}), ({"speed": "fast"}, {"speed": "fast"})]
    for asked, said in cases:
        upstream.answer = whole(200, message(usage=usage | said))
        post(web, alice.key, ask(**asked))
    first, second, third = rows(3)
    for entry in (first, second):
        assert (entry.cost, entry.estimated, entry.price_flag) == (plain, True, FLAG)
    assert (third.cost, third.estimated) == (2 * plain, False)


@pytest.mark.parametrize("budget", [{"a": 1}, "9", [], -5, 1.5, None, True])
def test_thinking_of_a_kind_that_is_not_known_may_say_anything_of_its_budget(web, upstream, alice, budget):
    upstream.answer = whole(200, message())
    assert post(web, alice.key, ask(thinking={"type": "", "budget_tokens": budget})).status_code == 200
    assert not row().estimated


def test_a_large_answer_that_can_be_true_is_a_bill(web, upstream, alice):
    usage = {"input_tokens": 900_000, "output_tokens": 64, "server_tool_use": {"web_search_requests": 20}}
    upstream.answer = whole(200, message(usage=usage))
    post(web, alice.key, ask(tools=[SEARCH]))
    assert (row().estimated, row().price_flag, row().input_tokens) == (False, "", 900_000)


# The bounds


def check(body, usage, model=MODEL, provider="anthropic"):
    reading = Reading()
    reading.overlay(usage)
    return reading, bill(
        reading.iterations(),
        reading,
        provider=provider,
        model=model,
        at=NOW,
        asked=BOOK.price(provider, model, NOW),
        prices=BOOK.price,
        bounds=bounds(schema.parse(json.dumps(body).encode(), betas=None)) if body else of_batch(Decimal(1000)),
    )


def test_a_model_in_fast_mode_may_say_so_and_costs_no_more_for_it():
    body = ask(model="claude-opus-5-5-fast")
    usage = {"input_tokens": 1000, "output_tokens": 60, "speed": "fast"}
    price = BOOK.price("azure", body["model"], NOW)
    reading = Reading()
    reading.overlay(usage)
    billed = bill(
        reading.iterations(),
        reading,
        provider="azure",
        model=body["model"],
        at=NOW,
        asked=price,
        prices=BOOK.price,
        bounds=bounds(schema.parse(json.dumps(body).encode()), fast=True),
    )
    assert billed["cost"] == price.cost(TokenCounts(input_tokens=1000, output_tokens=60))
    assert not reading.doubtful


tokens = st.integers(0, 900_000)


@given(tokens, tokens, st.integers(0, 64), st.integers(0, 100))
def test_no_count_within_what_was_asked_for_is_doubted(read, cached, written, searches):
    usage = {"input_tokens": read, "cache_read_input_tokens": min(cached, 950_000 - read), "output_tokens": written}
    check(ask(), usage)
    usage |= {"server_tool_use": {"web_search_requests": searches}}
    check(ask(tools=[SEARCH]), usage)
    check(None, usage)


@given(st.integers(4_000_001, MOST), st.sampled_from(["input_tokens", "cache_read_input_tokens", "output_tokens"]))
def test_no_count_beyond_any_model_is_believed(count, name):
    for body in (ask(), ask(model="someones-own")):
        with pytest.raises(Implausible):
            check(body, {"input_tokens": 1, "output_tokens": 1} | {name: count}, body["model"])


def test_a_model_takes_what_the_catalogue_says():
    for model, window in (("claude-haiku-4-5", 200_000), ("claude-sonnet-4-5", 1_000_000), (MODEL, 1_000_000)):
        assert BOOK.price("anthropic", model, NOW).window == window
        check(ask(model=model), {"input_tokens": window, "output_tokens": 64}, model)
        with pytest.raises(Implausible):
            check(ask(model=model), {"input_tokens": 2 * window + 1, "output_tokens": 64}, model)
    assert BOOK.price("anthropic", "claude-of-tomorrow", NOW).window == 0


def test_a_loop_may_read_its_prompt_as_often_as_it_has_steps():
    tools = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 10}]
    usage = {"input_tokens": 5_000_000, "output_tokens": 64, "server_tool_use": {"web_search_requests": 10}}
    check(ask(tools=tools), usage)
    with pytest.raises(Implausible):
        check(ask(), usage)


@pytest.mark.parametrize(
    ("step", "asked"),
    [
        (ADVICE, {"tools": [ADVISOR]}),
        (SUMMARY, {"context_management": {"edits": [{"type": "compact_20260112"}]}}),
        (SUMMARY, {"compaction": {"type": "summarize"}}),
        (HANDED_OVER, {"fallbacks": "default"}),
        (HANDED_OVER, {"fallbacks": [{"model": "claude-haiku-4-5"}]}),
    ],
)
def test_a_step_of_a_kind_is_believed_where_the_request_asks_for_such(step, asked):
    usage = {"input_tokens": 11, "output_tokens": 7, "iterations": [STEP, step, STEP]}
    reading, _ = check(ask(**asked), usage)
    assert not reading.doubtful
    check(None, usage)
    for body in (ask(), ask(tools=[SEARCH])):
        with pytest.raises(Implausible):
            check(body, usage)


def test_an_advisor_writes_about_as_much_as_it_may():
    tools = [ADVISOR | {"max_tokens": 700, "max_uses": 2}]
    usage = {"input_tokens": 11, "output_tokens": 7}
    check(ask(tools=tools), usage | {"iterations": [STEP, ADVICE | {"output_tokens": 1400}, STEP]})
    with pytest.raises(Implausible):
        check(ask(tools=tools), usage | {"iterations": [STEP, ADVICE, STEP]})


def test_all_steps_together_read_no_more_than_there_is_room_for():
    step = STEP | {"input_tokens": 900_000}
    usage = {"input_tokens": 11, "output_tokens": 7}
    check(ask(), usage | {"iterations": [step] * 2})
    with pytest.raises(Implausible):
        check(ask(), usage | {"iterations": [step] * 4})


def test_fetched_pages_that_the_request_did_not_ask_for_are_doubted():
    # Each would make a long prompt several short ones, which cost less.
    with pytest.raises(Implausible):
        check(ask(), {"input_tokens": 11, "output_tokens": 7, "server_tool_use": {"web_fetch_requests": 10}})


def test_thinking_is_a_part_of_output():
    told = {"output_tokens_details": {"thinking_tokens": 9 * 10**15}}
    first, second = STEP | {"output_tokens": 3}, STEP | {"output_tokens": 40}
    several = {"iterations": [first, second]}
    for body in (ask(), None):
        for usage, most in (({}, 7), (several, 43)):
            reading, columns = check(body, {"input_tokens": 11, "output_tokens": 7} | usage | told)
            assert reading.doubtful
            assert columns["price_flag"] == FLAG
            assert columns["thinking_tokens"] <= most
            assert all(step["thinking_tokens"] <= step["output_tokens"] for step in columns["iterations"])
        # A sum may stand with one of the steps.
        reading, columns = check(body, {"output_tokens": 7, "output_tokens_details": {"thinking_tokens": 30}} | several)
        assert (reading.doubtful, columns["thinking_tokens"]) == (False, 30)


def test_a_row_keeps_no_more_thinking_than_output(web, upstream, alice):
    usage = {"input_tokens": 11, "output_tokens": 7, "output_tokens_details": {"thinking_tokens": 9 * 10**15}}
    upstream.answer = whole(200, message(usage=usage))
    post(web, alice.key)
    assert (row().thinking_tokens, row().output_tokens, row().estimated, row().price_flag) == (7, 7, True, FLAG)


def results(ceiling, *answers):
    """The settled lines of a batch's results, with this much held for the batch."""
    batch = KnownBatch(
        uuid4(), "b", "anthropic", None, NOW, NOW, len(answers), Decimal(ceiling), "", False, False, "", ""
    )
    meter = ResultsMeter(batch, BOOK.price, BOOK.unpriced())
    for count, usage in enumerate(answers):
        result = {"type": "succeeded", "message": json.loads(message(usage=usage))}
        meter.feed(json.dumps({"custom_id": str(count), "result": result}).encode() + b"\n")
    return meter.waiting


def test_a_line_of_a_batch_costs_no_more_than_can_be_by_what_was_held():
    true = {"input_tokens": 100, "output_tokens": 20}
    for wrong in (
        {"input_tokens": 102_000_000, "output_tokens": 7},
        {"input_tokens": 11, "output_tokens": 4_000_000},
        {"input_tokens": 11, "output_tokens": 7, "iterations": [ADVICE] * 4},
        {"input_tokens": 11, "output_tokens": 7, "server_tool_use": {"web_search_requests": 100}},
    ):
        first, doubted, last = results("0.003", true, wrong, true)
        assert (first["estimated"], last["estimated"]) == (False, False)
        assert (doubted["estimated"], doubted["price_flag"], doubted["cost"]) == (True, FLAG, Decimal("0.001"))
    # A request that names a file, which turns out to fill the window.
    (line,) = results("0.05", {"input_tokens": 1_000_000, "output_tokens": 20})
    assert (line["estimated"], line["price_flag"]) == (False, "")


def test_all_lines_of_a_batch_together_cost_no_more_than_can_be():
    lines = results("0.1", *[{"input_tokens": 900_000, "output_tokens": 20}] * 100)
    assert not lines[0]["estimated"]
    assert lines[99]["estimated"]
    assert sum(line["cost"] for line in lines) < 6


@needs_recordings
def test_no_recorded_answer_is_doubted():
    for recording in recordings():
        if recording.status == 200 and not recording.streams:
            answer = json.loads(recording.body)
            reading = Reading()
            reading.overlay(answer.get("usage"))
            assert not reading.doubtful, recording.name
            reading, _ = check(recording.request, answer.get("usage") or {}, answer.get("model") or MODEL)
            assert not reading.doubtful, recording.name


# Batches and alerts


def test_a_row_that_is_flagged_alerts_once_an_hour_for_each_provider_key(apart):
    cast = make_cast()
    other = ProviderKey.objects.create(name="other", provider="anthropic")
    give_credential(cast.alice)
    with arbiter() as asked:
        for provider_key in (cast.provider_key, cast.provider_key, other, None):
            call = asked.ask(cast.alice, "0.25")
            asked.group([call])
            provider = {"provider_key_id": provider_key.pk if provider_key else None}
            asked.group(settlements=[settlement(call, "0.1", price_flag=FLAG, estimated=True, **provider)])
        assert sorted(str(alert.provider_key) for alert in Alert.objects.all()) == ["main", "other"]


def test_people_and_programs_hear_of_it(apart, upstream, settings):
    settings.EMAIL_HOST = "mail.example.com"
    cast = make_cast()
    AlertTarget.objects.create(channel="email", address="platform@example.com")
    AlertTarget.objects.create(channel="webhook", address=upstream.url, secret_ciphertext=keyring.encrypt("s" * 24))
    upstream.answer = whole(204, b"")
    alert = Alert.objects.create(provider_key=cast.provider_key, start=NOW, threshold=0, spent=0, amount=0, at=NOW)
    # That its key is refused in the same hour is another matter.
    Alert.objects.create(
        provider_key=cast.provider_key, start=NOW, threshold=0, spent=0, amount=0, at=NOW, http_status=401
    )
    tasks.deliver_alerts()
    told = [json.loads(seen.body) for seen in upstream.seen]
    assert {
        "type": "provider_key.doubtful_usage",
        "id": f"alert_{alert.pk}",
        "at": "2026-11-20T12:00:00.000000Z",
        "provider_key": "main",
        "provider": "anthropic",
    } in told
    assert "The provider reports doubtful usage for provider key main" in [each.subject for each in mail.outbox]
    client = Client()
    client.force_login(User.objects.create_superuser("alice"))
    assert "implausible usage" in client.get(reverse("admin:usage_alert_changelist")).content.decode()
