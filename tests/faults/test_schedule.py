"""Ten thousand calls to providers of every protocol that fail on a schedule, each in all ways that there are."""

from __future__ import annotations

import itertools
import json
import random
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from keys import provider_keys
from keys.models import ProviderKey
from tests.support import bedrock_provider, openai_provider
from tests.support.fake_provider import Answer, End, Seen, Upstream, cut, pieces, whole
from tests.support.gateway import PROVIDER_SECRET, ask, credentials, events, issue, message, wait_until
from tests.support.two_providers import nobody_there
from usage import verification
from usage.models import Hold, LedgerEntry

pytestmark = pytest.mark.slow

CALLS = 10_000
CALLERS = 48
# One in this many requests fails.
RARE = 9
# How many attempts a call may make. The counts of the providers run side by side, so all attempts of a call can fail.
ATTEMPTS = 5
# Seconds after which a provider counts as dead; one that hangs takes longer.
PATIENCE = 1.0
HANG = 2.0
# How long a provider asks the gateway to wait, and how long a busy machine may take to let both processes know. A call
# whose turn came before that arrives all the same, however late.
WAIT = 2.0
KNOWN = 1.0
QUESTION = re.compile(rb"Question (\d+)")
SSE = ("content-type", "text/event-stream; charset=utf-8")

# The result of an attempt that was sent and not answered completely.
UNSEEN = ("no_answer", "no_answer_in_time", "broken_off", "bad_http", "bad_answer")


def error(status: int, *headers: tuple[str, str]) -> Answer:
    body = {"type": "error", "error": {"type": "api_error", "message": "on schedule"}}
    return whole(status, json.dumps(body).encode(), *headers)


@dataclass(frozen=True)
class Protocol:
    """How a provider says the same: an answer, and the parts of a stream whose first `early` are no content yet."""

    whole: bytes
    parts: Sequence[bytes]
    early: int
    kind: tuple[str, str]
    address: str = ""
    secret: str = PROVIDER_SECRET
    region: str = ""


ANTHROPIC = Protocol(message("Hi there"), events("Hi", " there"), 1, SSE)
PROTOCOLS = {
    "anthropic": ANTHROPIC,
    "azure": Protocol(ANTHROPIC.whole, ANTHROPIC.parts, 1, SSE, "/anthropic", "azure-api-key-0123456789"),
    "vertex": Protocol(ANTHROPIC.whole, ANTHROPIC.parts, 1, SSE, region="global"),
    "bedrock": Protocol(
        ANTHROPIC.whole,
        [bedrock_provider.frames([each]) for each in ANTHROPIC.parts],
        1,
        ("content-type", "application/vnd.amazon.eventstream"),
        secret=json.dumps({"access_key_id": "AKIAEXAMPLE012345678", "secret_access_key": "amazon/secret/0123456789"}),
        region="eu-central-1",
    ),
    "openai": Protocol(
        openai_provider.completion("Hi there"),
        openai_provider.chunks("Hi", " there"),
        1,
        SSE,
        "/v1",
        openai_provider.OPENAI_SECRET,
    ),
}


class Scheduled:
    """A provider of one protocol; it remembers what it did. All of them share `began`: since when each call, by its
    number, can have been at its present attempt, so not before it began, nor before its attempt before did."""

    def __init__(self, protocol: Protocol, began: dict[int, float]) -> None:
        self.protocol = protocol
        self.began = began
        self.source = random.Random(protocol.address)
        self.count = itertools.count(1)
        self.lock = threading.Lock()
        self.faults = itertools.cycle(
            [
                self.resets_in_its_head,
                self.limits_and_says_how_long,
                self.breaks_off_early,
                self.is_overloaded,
                self.breaks_off_late,
                self.limits,
                self.hangs_before_its_head,
                self.fails,
                self.hangs_early,
                self.is_no_http,
                self.hangs_late,
                self.is_garbage,
            ]
        )
        # When all callers got a pause; when attempts can have begun and arrived; how many streams ended in
        # the middle of an answer.
        self.told: list[float] = []
        self.arrived: list[tuple[float, float]] = []
        self.late = 0
        self.did: Counter[str] = Counter()

    def __call__(self, seen: Seen) -> Answer:
        streams = b'"stream": true' in seen.body or b'"stream":true' in seen.body or "stream" in seen.target.lower()
        (number,) = QUESTION.findall(seen.body)
        with self.lock:
            now = time.monotonic()
            self.arrived.append((self.began[int(number)], now))
            self.began[int(number)] = now
            if next(self.count) % RARE:
                return self.answers(streams)
            fault: Callable[[bool], Answer] = next(self.faults)
            self.did[fault.__name__] += 1
            return fault(streams)

    def answers(self, streams: bool) -> Answer:
        if streams:
            return pieces(200, cut(b"".join(self.protocol.parts), self.source, 12), self.protocol.kind)
        return whole(200, self.protocol.whole)

    def beginning(self, streams: bool, late: bool) -> list[bytes | float | threading.Event | End]:
        """Of an answer: what comes before its first block, or its first words too; of JSON, half."""
        if not streams:
            return [whole(200, self.protocol.whole)[0][:-20]]
        self.late += late
        return [*pieces(200, self.protocol.parts[: self.protocol.early + 2 * late], self.protocol.kind)[:-1]]

    def resets_in_its_head(self, streams: bool) -> Answer:
        return [b"HTTP/1.1 200 OK\r\ncontent-le", End.RESET]

    def limits_and_says_how_long(self, streams: bool) -> Answer:
        self.told.append(time.monotonic())
        return error(429, ("retry-after-ms", str(int(WAIT * 1000))))

    def limits(self, streams: bool) -> Answer:
        return error(429)

    def is_overloaded(self, streams: bool) -> Answer:
        return error(529)

    def fails(self, streams: bool) -> Answer:
        return error(self.source.choice([500, 502, 503, 504]))

    def breaks_off_early(self, streams: bool) -> Answer:
        return [*self.beginning(streams, late=False), 0.05, End.RESET]

    def breaks_off_late(self, streams: bool) -> Answer:
        # Long after, for a reset throws away what the gateway hasn't read yet: then the call is retried.
        return [*self.beginning(streams, late=True), 0.5, End.RESET]

    def hangs_before_its_head(self, streams: bool) -> Answer:
        return [HANG, End.CLOSE]

    def hangs_early(self, streams: bool) -> Answer:
        return [*self.beginning(streams, late=False), HANG, End.CLOSE]

    def hangs_late(self, streams: bool) -> Answer:
        return [*self.beginning(streams, late=True), HANG, End.CLOSE]

    def is_no_http(self, streams: bool) -> Answer:
        return [b"\x16\x03\x01 nothing of HTTP\r\n\r\n", End.CLOSE]

    def is_garbage(self, streams: bool) -> Answer:
        garbage = b"\x00" + self.source.randbytes(300)
        return pieces(200, [garbage], self.protocol.kind) if streams else whole(200, garbage)


def service_account(google: Upstream) -> str:
    """The JSON key of a service account that gets its tokens there."""
    google.answer = whole(200, json.dumps({"access_token": "ya29.token-0123456789", "expires_in": 3599}).encode())
    key = rsa.generate_private_key(65537, 2048)
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return json.dumps(
        {
            "type": "service_account",
            "project_id": "the-project",
            "private_key": key.private_bytes(encoding, form, serialization.NoEncryption()).decode(),
            "client_email": "gateway@the-project.iam.gserviceaccount.com",
            "token_uri": google.url + "/token",
        }
    )


@pytest.mark.parametrize("mends", [True, False], ids=["retry what was never answered", "don't"])
def test_ten_thousand_calls_over_providers_that_fail_on_a_schedule(start_web, served, mends):
    web = start_web(2, retry_attempts=ATTEMPTS)
    outcomes: Counter[str] = Counter()
    with ExitStack() as stack:
        began: dict[int, float] = {}
        schedules = {name: Scheduled(protocol, began) for name, protocol in PROTOCOLS.items()}
        google = stack.enter_context(Upstream())
        gone = provider_keys.add_provider_key(
            name="gone", provider="anthropic", base_url=stack.enter_context(nobody_there()), secret=PROVIDER_SECRET
        )
        routes = [(gone, 1)]
        for name, schedule in schedules.items():
            upstream = stack.enter_context(Upstream())
            upstream.answer = schedule
            protocol = schedule.protocol
            key = provider_keys.add_provider_key(
                name=name,
                provider=name,
                base_url=upstream.url + protocol.address,
                secret=service_account(google) if name == "vertex" else protocol.secret,
                region=protocol.region,
            )
            routes.append((key, 1))
        ProviderKey.objects.update(
            retry_unanswered=mends, first_byte_seconds=PATIENCE, between_bytes_seconds=PATIENCE, connect_seconds=5
        )
        alice = issue(google, provider_keys=routes)

        def call(number: int) -> str:
            body = ask(f"Question {number}", stream=number % 2 == 0)
            began[number] = time.monotonic()
            try:
                answer = client.post(web.url + "/v1/messages", json=body, headers=credentials(alice.key))
            except httpx.HTTPError as fault:
                return f"lost: {type(fault).__name__}"
            if answer.status_code != 200:
                return f"{answer.status_code}"
            if not body["stream"] and not answer.content.startswith(b"{"):
                return "garbage"
            if not body["stream"]:
                assert [block["text"] for block in answer.json()["content"]] == ["Hi there"]
                return "ok"
            text = answer.text
            assert text.count("event: message_start") == 1, "answered twice"
            return "ok" if text.count("event: message_stop") == 1 else "broke off"

        start = time.monotonic()
        limits = httpx.Limits(max_connections=CALLERS)
        client = stack.enter_context(httpx.Client(timeout=60, trust_env=False, limits=limits))
        with ThreadPoolExecutor(CALLERS) as pool:
            for done, outcome in enumerate(pool.map(call, range(CALLS)), 1):
                outcomes[outcome] += 1
                if done % 1000 == 0:
                    print(f"{done} calls after {time.monotonic() - start:.0f} s: {dict(outcomes)}")

        wait_until(lambda: not Hold.objects.exists(), 30)
        found = list(LedgerEntry.objects.filter(endpoint="messages").only("status", "cost", "attempts", "stream"))
        made = Counter(each["provider_key"] for row in found for each in row.attempts)
        faults = sum((schedule.did for schedule in schedules.values()), Counter[str]())
        late = sum(schedule.late for schedule in schedules.values())
        print(f"faults: {dict(faults)}; attempts: {dict(made)}; {late} streams ended in the middle of an answer")

        assert len(found) == CALLS, "a call without a row, or with two"
        assert not any(outcome.startswith("lost") for outcome in outcomes)
        # Every request that arrived is an attempt in the ledger, and the other way round.
        assert made - Counter(gone=made["gone"]) == {name: len(each.arrived) for name, each in schedules.items()}
        for row in found:
            assert row.cost == sum((Decimal(each["cost"]) for each in row.attempts), Decimal(0))
        assert verification.verify() == []

        # What could be mended was: not a stream that ended after its first words, nor, unless the provider keys say so,
        # what was sent and never answered.
        assert outcomes["broke off"] == late
        unmended = [row for row in found if row.status != "completed"]
        assert len(unmended) == CALLS - outcomes["ok"]
        if mends:
            used_up = [row.attempts for row in unmended if not row.stream or len(row.attempts) >= ATTEMPTS]
            print(f"calls whose attempts all failed: {used_up}")
            assert (len(unmended), outcomes["garbage"]) == (late + len(used_up), 0)
            assert all(len(attempts) == ATTEMPTS for attempts in used_up)
            assert len(used_up) <= CALLS / 1000
        else:
            assert [row.attempts for row in unmended if row.attempts[-1]["error_type"] not in UNSEEN] == []
        for name, schedule in schedules.items():
            for told in schedule.told:
                early = [at - told for began_at, at in schedule.arrived if told + KNOWN < began_at and at < told + WAIT]
                assert not early, f"{name} was called while it cooled down, after {early} s"
