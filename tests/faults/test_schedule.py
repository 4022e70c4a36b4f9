"""Ten thousand calls to four provider keys that fail on a schedule, each in another way."""

from __future__ import annotations

import itertools
import json
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import httpx
import pytest

from keys import provider_keys
from tests.gateway import PROVIDER_SECRET, ask, credentials, events, issue, message, wait_until
from tests.upstream import End, Seen, Upstream, broken, pieces, whole
from usage.models import Hold, LedgerEntry

pytestmark = pytest.mark.slow

CALLS = 10_000
CALLERS = 48
NO_ANSWER = ("no_answer", "broken_off", "bad_http")
# One in so many requests fails, each provider key in its ways.
RARE = 12
WAIT = 0.8
# A failure is written before its caller hears of it, but calls that were on their way arrive all the same.
UNDER_WAY = 0.5


def error(status, *headers):
    body = {"type": "error", "error": {"type": "api_error", "message": "on schedule"}}
    return whole(status, json.dumps(body).encode(), *headers)


FAULTS = {
    "limits": [error(429, ("retry-after-ms", str(int(WAIT * 1000)))), error(429)],
    "overloaded": [error(529), error(500), error(503)],
    "breaks": [
        [b"HTTP/1.1 200 OK\r\ncontent-le", End.RESET],  # in the middle of its head
        broken(events("never")[:1]),
        broken(events("some", "more")[:3], End.RESET),
        [b"\x16\x03\x01 nothing of HTTP\r\n\r\n", End.CLOSE],
    ],
    "hangs": [[b"", 0.3, End.CLOSE], [b"", 0.3, *error(500)]],
}


# An answer in JSON that ends too early.
HALF = [whole(200, message())[0][:-20]]


class Scheduled:
    """A provider of one of these kinds; it remembers when it told everybody to wait."""

    def __init__(self, faults):
        self.faults = itertools.cycle(faults)
        self.count = itertools.count(1)
        self.lock = threading.Lock()
        self.told: list[float] = []
        self.arrived: list[float] = []

    def __call__(self, seen: Seen):
        streams = json.loads(seen.body)["stream"]
        with self.lock:
            self.arrived.append(time.monotonic())
            if next(self.count) % RARE == 0:
                fault = next(self.faults)
                if b"retry-after-ms" in fault[0]:
                    self.told.append(time.monotonic())
                return fault if streams or fault[0][:12] != b"HTTP/1.1 200" else [*HALF, fault[-1]]
        return pieces(200, events("Hi", "there")) if streams else whole(200, message())


def test_ten_thousand_calls_over_provider_keys_that_fail_on_a_schedule(start_web, served):
    web = start_web(2, retry_attempts=4)
    outcomes: Counter[str] = Counter()
    with Upstream() as a, Upstream() as b, Upstream() as c, Upstream() as d:
        schedules = {name: Scheduled(faults) for name, faults in FAULTS.items()}
        routes = []
        for (name, schedule), upstream in zip(schedules.items(), (a, b, c, d), strict=True):
            upstream.answer = schedule
            key = provider_keys.add_provider_key(
                name=name, provider="anthropic", base_url=upstream.url, secret=PROVIDER_SECRET + name
            )
            routes.append((key, 1))
        alice = issue(a, provider_keys=routes)

        def call(number):
            body = ask(f"Question {number}", stream=number % 2 == 0)
            try:
                answer = client.post(web.url + "/v1/messages", json=body, headers=credentials(alice.key))
            except httpx.HTTPError as fault:
                return f"lost: {type(fault).__name__}"
            if answer.status_code != 200:
                return f"{answer.status_code}"
            if body["stream"]:
                text = answer.text
                assert text.count("event: message_start") == 1, "answered twice"
                return "ok" if "message_stop" in text else "broke off"
            assert answer.json()["type"] == "message"
            return "ok"

        began = time.monotonic()
        limits = httpx.Limits(max_connections=CALLERS)
        with httpx.Client(timeout=60, trust_env=False, limits=limits) as client, ThreadPoolExecutor(CALLERS) as pool:
            for done, outcome in enumerate(pool.map(call, range(CALLS)), 1):
                outcomes[outcome] += 1
                if done % 1000 == 0:
                    print(f"{done} calls after {time.monotonic() - began:.0f} s: {dict(outcomes)}")

        wait_until(lambda: not Hold.objects.exists(), 30)
        found = list(LedgerEntry.objects.filter(endpoint="messages").only("status", "cost", "attempts", "estimated"))
        made = Counter(each["provider_key"] for row in found for each in row.attempts)
        print(dict(outcomes), dict(made), {name: len(schedule.arrived) for name, schedule in schedules.items()})

        assert len(found) == CALLS, "a call without a row, or with two"
        assert not any(outcome.startswith("lost") for outcome in outcomes)
        # What was sent and never answered, and streams that broke off, can't be mended; all others were.
        unmended = [row for row in found if row.status != "completed"]
        assert len(unmended) == CALLS - outcomes["ok"]
        assert all(row.attempts[-1]["error_type"] in NO_ANSWER for row in unmended)
        assert len(unmended) <= CALLS / RARE / 2
        for row in found:
            assert row.cost == sum((Decimal(each["cost"]) for each in row.attempts), Decimal(0))
        # Every request that arrived is an attempt in the ledger, and the other way round.
        assert made == {name: len(schedule.arrived) for name, schedule in schedules.items()}
        limited = schedules["limits"]
        for told in limited.told:
            early = [at - told for at in limited.arrived if UNDER_WAY < at - told < WAIT]
            assert not early, f"called while it cooled down, after {early} s"
