"""What the results of a batch bind to the account that answered, and to the team that made the batch."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from keys.models import Team
from messages_api.answer import batch_results
from messages_api.answer.account_states import MOST_STATES
from messages_api.answer.batch_results import KnownBatch, ResultsMeter
from messages_api.models import Binding
from tests.support.batch_provider import BatchProvider, message
from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, ask, credentials, issue, post, refused
from usage import pricing
from usage.pricing import UnpricedPolicy
from usage.request_ids import new_id

BATCHES = "/v1/messages/batches"


@pytest.mark.parametrize("line_end", [b"\n", b""])
def test_another_team_continues_no_thread_of_a_batch(web, upstream, alice, line_end):
    upstream.answer = provider = BatchProvider()
    said = [f"msg_{secrets.token_hex(12)}" for _ in range(2)]
    create = {"custom_id": "a", "params": ask(thread={"type": "create"})}
    name = post(web, alice.key, {"requests": [create, create | {"custom_id": "b"}]}, BATCHES).json()["id"]
    for custom_id, one in zip("ab", said, strict=True):
        provider.results[custom_id] = {"type": "succeeded", "message": message() | {"id": one}}
    provider.end()
    results = b"\n".join(provider.line(custom_id).strip() for custom_id in "ab") + line_end
    provider.instead[name] = list(whole(200, results))
    CLIENT.get(f"{web.url}{BATCHES}/{name}/results", headers=credentials(alice.key))
    assert set(Binding.objects.values_list("kind", "name")) == {("thread", one) for one in said}
    team = Team.objects.create(customer=alice.virtual_key.customer, name="Sales")
    charlie = issue(upstream, "charlie", team=team)
    upstream.answer = whole(200, json.dumps(message()).encode())
    asked = len(upstream.seen)
    for one in said:
        going_on = ask("What did I say?", thread={"type": "continue", "previous_message_id": one})
        assert refused(post(web, charlie.key, going_on), 404, "not_found_error") == f"Thread not found: {one}"
        assert len(upstream.seen) == asked
        going_on_in_a_batch = {"requests": [{"custom_id": "a", "params": going_on}]}
        refused(post(web, charlie.key, going_on_in_a_batch, BATCHES), 404, "not_found_error")
    assert len(upstream.seen) == asked
    assert post(web, alice.key, going_on).status_code == 200


def results_of(requests, files):
    """The results of a batch, whose every answer made this many files."""
    made = [{"file_id": f"file_{number}"} for number in range(files)]
    block = {"type": "bash_code_execution_tool_result", "content": {"content": made}}
    line = {"result": {"type": "succeeded", "message": message() | {"content": [block]}}}
    return [json.dumps({"custom_id": f"{number}"} | line).encode() + b"\n" for number in range(requests)]


def test_a_batch_binds_a_bounded_number_of_ids(caplog):
    now = datetime.now(UTC)
    batch = KnownBatch(new_id(), "msgbatch_1", "anthropic", 1, now, now, 10, Decimal(1), "", False, False, "", "")
    book = pricing.build([], UnpricedPolicy(refuse=False, input=Decimal(1), output=Decimal(1)))
    meter = ResultsMeter(batch, book.price, book.unpriced())
    for line in results_of(batch.requests, files=500):
        meter.feed(line)
    assert len(meter.states) == MOST_STATES + batch_results.STATES_PER_REQUEST * batch.requests
    assert caplog.text.count("binds too many ids") == 1
