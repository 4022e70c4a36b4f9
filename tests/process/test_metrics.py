"""GET /metrics: who gets it, and what it says."""

from __future__ import annotations

import json
import re
import socket
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest
from asgiref.sync import async_to_sync
from django.utils import timezone

from keys import sign_in
from tests.support.fake_provider import End, whole
from tests.support.gateway import CLIENT, ask, credentials, events, issue, message, post, row, rows, wait_until
from usage import figures, metrics
from usage.arbitration import Settlement
from usage.models import Hold, Overrun, Rollup
from usage.request_ids import new_id
from usage.spool import DEAD_LETTERS

TOKEN = "a-token-of-some-length"
LABELS = r'\{([a-z_]+="([^"\\]|\\.)*",?)+\}'
LINE = re.compile(rf"# (HELP|TYPE) [a-z_]+ .+|[a-z_]+({LABELS})? [0-9]+(\.[0-9]+)?")


@pytest.fixture
def monitored(served, start_web):
    """A gateway with a token for its monitoring."""
    return start_web(1, metrics_token=TOKEN)


SHARED = [name for name, _, _ in metrics.METRICS]


def scrape(web, *values, **headers):
    for value in values:
        headers["authorization"] = value
    return CLIENT.get(web.url + "/metrics", headers=headers)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Sums of the last day are read by each scrape of this process."""
    monkeypatch.setattr(metrics, "KEPT_SECONDS", 0.0)


def values(web):
    """The metrics by name, with their labels if they have any; those of processes without the process."""
    answer = scrape(web, f"Bearer {TOKEN}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == metrics.CONTENT_TYPE
    assert answer.text.endswith("\n")
    lines = answer.text.splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    return parsed(lines)


def parsed(lines):
    """The values of lines, by name and labels."""
    found = (line.rpartition(" ") for line in lines if line[0] != "#")
    return {re.sub(r'process="[^"]*",?', "", name).removesuffix("{}"): Decimal(value) for name, _, value in found}


def test_without_a_token_in_the_settings_there_is_no_such_page(web):
    for given in ((), ("Bearer",), ("Bearer x",)):
        assert scrape(web, *given).status_code == 404


@pytest.mark.parametrize(
    "given", [(), ("Bearer",), (f"Basic {TOKEN}",), (TOKEN,), (f"Bearer {TOKEN}x",), ("Bearer \xe4",)]
)
def test_a_request_without_the_token_is_refused(monitored, given):
    answer = scrape(monitored, *(value.encode("latin-1") for value in given))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "gateway_" not in answer.text


def test_a_quiet_gateway_has_nothing_to_tell(monitored):
    told = values(monitored)
    assert [name for name in told if name in SHARED] == SHARED
    always = {"gateway_processes", "gateway_workers", "gateway_rollup_lag_seconds"}
    assert not any(told[name] for name in SHARED if name not in always)
    assert told["gateway_memory_bytes"] > 10_000_000
    assert told["gateway_open_calls"] == told["gateway_writer_queue"] == 0
    assert scrape(monitored, f"bearer  {TOKEN}").status_code == 200


def test_the_metrics_show_the_hold_of_a_call_under_way(monitored, alice, upstream):
    going = threading.Event()
    upstream.answer = [going, *whole(200, message())]
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(CLIENT.post, monitored.url + "/v1/messages", json=ask(), headers=credentials(alice.key))
        try:
            upstream.wait_for()
            told = values(monitored)
            assert told["gateway_open_holds"] == 1
            assert told["gateway_open_holds_usd"] == Hold.objects.get().ceiling > 0
        finally:
            going.set()
        assert answer.result().status_code == 200
    row()
    assert not values(monitored)["gateway_open_holds_usd"]


def test_overruns_are_counted_with_what_they_are_over_by(monitored, alice):
    for call, cost in (("1" * 32, "0.75"), ("2" * 32, "0.5")):
        Overrun.objects.create(call=call, at="2026-11-17T12:00Z", virtual_key=alice.virtual_key, cost=cost, held="0.25")
    told = values(monitored)
    assert (told["gateway_overruns_total"], told["gateway_overruns_usd_total"]) == (2, Decimal("0.75"))


def test_the_settlements_in_the_spool_are_counted(monitored):
    folder = Path(monitored.environment["SPOOL_DIR"])
    folder.mkdir(exist_ok=True)
    files = {"1.jsonl": b"{}\n{}\n", "2.jsonl": b"{}\n", DEAD_LETTERS: b"{}\n{}\n", "notes.txt": b"\n"}
    try:
        for name, text in files.items():
            (folder / name).write_bytes(text)
        told = values(monitored)
    finally:
        for name in files:
            (folder / name).unlink()
    assert (told["gateway_spooled_settlements"], told["gateway_dead_letters"]) == (3, 2)


def test_a_number_is_never_written_with_an_exponent():
    written = metrics.text([Decimal("1E-12"), Decimal("1E+3"), *[0] * (len(SHARED) - 2)]).decode()
    assert "0.000000000001\n" in written
    assert "1000\n" in written


async def test_without_the_database_it_says_so_and_counts_nothing(settings, monkeypatch):
    settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update={"metrics_token": TOKEN})
    monkeypatch.setitem(settings.DATABASES["default"], "HOST", "/nowhere")
    scope = {"headers": [(b"authorization", f"Bearer {TOKEN}".encode())], "client": ("127.0.0.1", 1)}
    status, body, _ = await metrics.answer(scope)
    assert (status, body) == (503, b"The database doesn't answer.\n")


def test_calls_errors_and_refusals_are_counted_with_how_long_they_took(start_web, served, upstream):
    web = start_web(1, metrics_token=TOKEN, spool_dir=tempfile.mkdtemp(dir="/tmp"))
    alice = issue(upstream)
    upstream.answer = whole(200, message())
    assert post(web, alice.key).status_code == 200
    start, *rest = events("a", "b")
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n"
    upstream.answer = [head + start, 0.1, *rest, End.CLOSE]
    assert post(web, alice.key, ask(stream=True)).status_code == 200
    upstream.answer = whole(400, b'{"type":"error","error":{"type":"invalid_request_error","message":"no"}}')
    assert post(web, alice.key).status_code == 400
    assert post(web, alice.key, b"{").status_code == 400
    rows(3)
    told = values(web)
    named = 'endpoint="messages",provider="anthropic",status='
    assert told[f'gateway_calls_total{{{named}"completed"}}'] == 2
    assert told[f'gateway_calls_total{{{named}"refused_by_provider"}}'] == 1
    assert told['gateway_errors_total{status="refused_by_provider",type="invalid_request_error"}'] == 1
    assert told['gateway_refusals_total{reason="invalid_request",http_status="400"}'] == 1
    for name in ("overhead", "call", "writer_wait", "time_to_first_byte"):
        assert told[f"gateway_{name}_seconds_count"] >= 3 or name == "time_to_first_byte"
        assert told[f'gateway_{name}_seconds_bucket{{le="+Inf"}}'] == told[f"gateway_{name}_seconds_count"]
        assert told[f"gateway_{name}_seconds_sum"] > 0
    assert told["gateway_between_events_seconds_count"] > 0
    assert told["gateway_writer_group_size_sum"] >= 6
    wait_until(lambda: values(web)["gateway_loop_delay_seconds_count"])


def test_whichever_process_answers_has_the_figures_of_all(served, start_web):
    web = start_web(2, metrics_token=TOKEN)

    def processes():
        text = scrape(web, f"Bearer {TOKEN}").text
        return set(re.findall(r'gateway_memory_bytes\{process="(web-[0-9]+)"\}', text))

    expected = {f"web-{process.pid}" for process in web.processes}
    wait_until(lambda: processes() == expected)
    assert all(processes() == expected for _ in range(6))


def test_figures_of_a_process_that_ended_are_left_out(tmp_path, monkeypatch):
    other = tmp_path / f"{socket.gethostname()}-1.json"
    figures.write(tmp_path, "web")
    figures.own_file(tmp_path).rename(other)
    assert len(list(figures.read(tmp_path, "web"))) == 2
    old = json.loads(other.read_text())
    other.write_text(json.dumps({**old, "at": old["at"] - figures.STALE * 2}))
    assert len(list(figures.read(tmp_path, "web"))) == 1
    other.write_text(json.dumps({**old, "at": old["at"] - figures.STALE * 5}))
    assert len(list(figures.read(tmp_path, "web"))) == 1
    assert not other.exists()


def test_the_highest_customers_teams_and_models_have_series_and_the_rest_is_other(apart, echo_free, monkeypatch):
    bucket = timezone.now().replace(minute=0, second=0, microsecond=0)
    customer, team = echo_free.virtual_key.customer, echo_free.team
    for number in range(metrics.HIGHEST + 5):
        Rollup.objects.create(
            bucket=bucket,
            customer=customer,
            team=team,
            virtual_key=echo_free.virtual_key,
            model=f"model-{number}",
            status="completed",
            calls=1,
            cost=number,
            charge=number * 2,
            input_tokens=3,
        )
    found = dict(async_to_sync(metrics.read_day)())
    by_model = {labels["model"]: usd for labels, usd in found["gateway_day_usd"]}
    assert len(by_model) == metrics.HIGHEST + 1
    assert by_model["model-204"] == 408
    assert "model-4" not in by_model
    assert by_model["other"] == 2 * (0 + 1 + 2 + 3 + 4)
    tokens = {labels["model"]: n for labels, n in found["gateway_day_tokens"] if labels["kind"] == "input"}
    assert (tokens["model-204"], tokens["other"]) == (3, 15)
    assert {labels["team"] for labels, _ in found["gateway_day_calls"]} == {"Research", "other"}


@pytest.fixture
def echo_free(apart):
    return issue(None)


def test_wrong_tokens_of_a_network_are_limited_and_the_right_one_never_is(served, start_web):
    # A process of its own: it remembers the network, which is that of the other tests.
    token = f"{TOKEN}-of-its-own"
    web = start_web(1, metrics_token=token)
    said = [scrape(web, f"Bearer guess-{number}") for number in range(sign_in.NETWORK.failures + 3)]
    assert [answer.status_code for answer in said] == [401] * sign_in.NETWORK.failures + [429] * 3
    assert int(said[-1].headers["retry-after"]) > 0
    assert scrape(web, f"Bearer {token}").status_code == 200


def test_a_label_ends_neither_its_line_nor_itself():
    written = figures.labelled({"model": 'a"b\\c\nd\x1b' + "x" * 1000})
    assert len(written.splitlines()) == 1
    assert re.fullmatch(LABELS, written)
    assert len(written) < 300


def test_the_types_of_errors_that_are_counted_are_bounded():
    here = figures.Figures()
    for number in range(figures.MOST_SERIES + 50):
        end = Settlement(id=new_id(), status="failed", error_type=f"type-{number}")
        here.note_call("messages", end, None)
    assert len(here.errors) == figures.MOST_SERIES + 1
    assert here.errors["failed", "other"] == 50
