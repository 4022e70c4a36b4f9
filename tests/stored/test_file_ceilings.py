"""A call that only names a file holds what a model may read of it, as its upload has shown."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from messages_api.request import described_files, schema
from messages_api.request.estimates import Estimate, estimate
from tests.support.file_calls import amy as amy
from tests.support.file_calls import provider as provider
from tests.support.file_calls import uploaded
from tests.support.gateway import MODEL, Caller, Web, ask, post, refused
from tests.support.reckoned import ALLOWANCES, BOOK, NOW, OPUS
from usage.models import Budget

TEXT = b"Somebody has written this down. " * 100_000


def naming(*files: str, **members: Any) -> dict[str, Any]:
    blocks = [{"type": "document", "source": {"type": "file", "file_id": each}} for each in files]
    turn = {"role": "user", "content": [*blocks, {"type": "text", "text": "What does it say?"}]}
    return ask(messages=[turn], **members)


def test_a_budget_refuses_a_call_with_a_file_that_costs_more_than_is_left(web: Web, amy: Caller) -> None:
    """Twenty such calls at once would otherwise cost twenty times the budget."""
    file_id = uploaded(web, amy.key, TEXT)
    Budget.objects.create(virtual_key=amy.virtual_key, amount=Decimal(1))
    assert "This call needs up to" in refused(post(web, amy.key, naming(file_id, model=OPUS)), 429, "billing_error")


def test_a_batch_holds_what_its_files_have(web: Web, amy: Caller) -> None:
    file_id = uploaded(web, amy.key, TEXT)
    Budget.objects.create(virtual_key=amy.virtual_key, amount=Decimal(1))
    requests = [{"custom_id": f"{number}", "params": naming(file_id, model=OPUS)} for number in range(2)]
    answer = post(web, amy.key, {"requests": requests}, path="/v1/messages/batches")
    assert "This call needs up to" in refused(answer, 429, "billing_error")


def counted(said: dict[str, Any], **sizes: int) -> Estimate:
    request = schema.parse(json.dumps(said).encode())
    return estimate(request.contents, MODEL).with_files(sizes)


def test_each_file_is_held_as_often_as_it_is_read_and_at_least_as_an_allowance_says() -> None:
    def tokens(said: dict[str, Any], **sizes: int) -> int:
        counts = counted(said, **sizes)
        return counts.prompt(1, schema.parse(json.dumps(said).encode()).extras, ALLOWANCES).tokens

    allowed = ALLOWANCES["file"].tokens
    twice = naming("file_a", "file_a", "file_b")
    assert tokens(twice, file_a=100_000, file_b=5) - tokens(twice) == 2 * (100_000 - allowed)
    assert tokens(twice, file_c=100_000) == tokens(twice)
    inner = {"type": "tool_result", "tool_use_id": "x", "content": naming("file_a")["messages"][0]["content"]}
    in_a_result = ask(messages=[{"role": "user", "content": [inner]}])
    assert tokens(in_a_result, file_a=100_000) - tokens(in_a_result) == 100_000 - allowed
    price = BOOK.price("anthropic", MODEL, NOW)
    held = counted(twice, file_a=100_000).ceiling_cost(1, price, allowances=ALLOWANCES)
    assert held > price.input * 200_000 / 1_000_000


def test_a_file_that_is_only_loaded_into_a_container_is_held_by_the_allowance() -> None:
    loaded = ask(messages=[{"role": "user", "content": [{"type": "container_upload", "file_id": "file_a"}]}])
    assert counted(loaded, file_a=1_000_000) == counted(loaded)


@pytest.mark.parametrize(
    ("described", "tokens"),
    [
        ('{"size_bytes": 1000, "mime_type": "text/plain"}', 464),
        ('{"size_bytes": 1000, "mime_type": "Text/Markdown; charset=utf-8"}', 464),
        ('{"size_bytes": 1000, "mime_type": "application/json"}', 464),
        ('{"size_bytes": 1000}', 464),
        ('{"size_bytes": 1000, "mime_type": "application/pdf"}', 267),
        ('{"size_bytes": 100000000000, "mime_type": "text/plain"}', 1_000_000),
        ('{"size_bytes": 1000, "mime_type": "application/octet-stream"}', 464),
        ('{"size_bytes": 1000, "mime_type": "image/png"}', 0),
        ('{"size_bytes": -1, "mime_type": "text/plain"}', 0),
        ('{"size_bytes": "many"}', 0),
        ('{"size_bytes": NaN}', 0),
        ("[" * 100_000, 0),
        ("", 0),
    ],
)
def test_a_file_is_as_long_as_the_provider_says(described: str, tokens: int) -> None:
    assert described_files.tokens(described) == tokens
