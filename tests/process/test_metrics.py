"""GET /metrics: who gets it, and what it says."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, ask, credentials, message, row
from usage import metrics
from usage.models import Hold, Overrun
from usage.spool import DEAD_LETTERS

TOKEN = "a-token-of-some-length"
LINE = re.compile(r"# (HELP|TYPE) [a-z_]+ .+|[a-z_]+ [0-9]+(\.[0-9]+)?")


@pytest.fixture
def monitored(served, start_web):
    """A gateway with a token for its monitoring."""
    return start_web(1, metrics_token=TOKEN)


def scrape(web, *values, **headers):
    for value in values:
        headers["authorization"] = value
    return CLIENT.get(web.url + "/metrics", headers=headers)


def values(web):
    """The metrics by name."""
    answer = scrape(web, f"Bearer {TOKEN}")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == metrics.CONTENT_TYPE
    assert answer.text.endswith("\n")
    lines = answer.text.splitlines()
    assert all(LINE.fullmatch(line) for line in lines)
    return {name: Decimal(value) for name, value in (line.split() for line in lines if line[0] != "#")}


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
    assert list(told) == [name for name, _, _ in metrics.METRICS]
    assert not any(told.values())
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
    written = metrics.text([Decimal("1E-12"), Decimal("1E+3"), 0, 0, 0, 0, 0]).decode()
    assert "0.000000000001\n" in written
    assert "1000\n" in written


async def test_without_the_database_it_says_so_and_counts_nothing(settings, monkeypatch):
    settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update={"metrics_token": TOKEN})
    monkeypatch.setitem(settings.DATABASES["default"], "HOST", "/nowhere")
    status, body, _ = await metrics.answer(f"Bearer {TOKEN}".encode())
    assert (status, body) == (503, b"The database doesn't answer.\n")
