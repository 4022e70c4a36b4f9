"""Where a batch's results are, for callers that say another host than the gateway has."""

from __future__ import annotations

import anthropic
import pytest

from tests.support.batch_provider import BatchProvider
from tests.support.gateway import CLIENT, ask, credentials, post

BATCHES = "/v1/messages/batches"
NAME = "msgbatch_0001"
PATH = f"{BATCHES}/{NAME}/results"


@pytest.fixture
def ended(web, alice, upstream):
    """A batch of Alice's that has ended."""
    upstream.answer = provider = BatchProvider()
    answer = post(web, alice.key, {"requests": [{"custom_id": "a", "params": ask()}]}, BATCHES)
    assert answer.status_code == 200
    provider.end()
    return provider


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "127.0.0.1@evil.example", "127.0.0.1.evil.example", "[evil]", ""]
)
def test_a_host_that_only_the_caller_names_is_in_no_results_url(web, alice, host):
    said = credentials(alice.key) | {"host": host, "x-forwarded-host": "evil.example"}
    described = CLIENT.get(f"{web.url}{BATCHES}/{NAME}", headers=said)
    listed = CLIENT.get(f"{web.url}{BATCHES}", headers=said)
    assert described.json()["results_url"] == PATH
    assert [each["results_url"] for each in listed.json()["data"]] == [PATH]
    assert "evil" not in described.text + listed.text


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize("prefix", ["", "/anthropic"])
def test_anthropics_client_reads_results_under_a_host_that_is_not_named(web, alice, prefix):
    with anthropic.Anthropic(
        api_key=alice.key, base_url=web.url + prefix, default_headers={"host": "gateway.internal"}
    ) as client:
        assert client.messages.batches.retrieve(NAME).results_url == PATH
        assert [line.custom_id for line in client.messages.batches.results(NAME)] == ["a"]
