"""A model's name with a client's marker (`claude-opus-4-8[1m]`) means that model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from keys.models import ModelAlias, ProviderKey
from tests.support.batch_provider import BatchProvider
from tests.support.fake_provider import Upstream, whole
from tests.support.gateway import CLIENT, MODEL, Caller, Web, ask, credentials, issue, message, post, row


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize("marker", ["[1m]", "[1M]", "[2m]"])
def test_a_name_with_a_clients_marker_means_the_model(
    web: Web, served: None, upstream: Upstream, marker: str, path: str
) -> None:
    alice = issue(upstream, allowed_models=[MODEL])
    upstream.answer = whole(200, message())
    body = json.dumps(ask(metadata={"user_id": MODEL + marker}), indent=2).replace(f'"{MODEL}"', f'"{MODEL}{marker}"')
    answer = post(web, alice.key, body.encode(), path)
    assert answer.status_code == 200, answer.text
    assert upstream.last.body == body.replace(f'"model": "{MODEL}{marker}"', f'"model": "{MODEL}"').encode()
    assert upstream.last.values("anthropic-beta") == []
    if path == "/v1/messages":
        entry = row()
        assert (entry.requested_model, entry.price_flag) == (MODEL, "")


def named(web: Web, caller: Caller, upstream: Upstream, model: str, **members: Any) -> str:
    """The model that the provider was asked for."""
    upstream.answer = whole(200, message())
    answer = post(web, caller.key, ask(model=model, **members))
    assert answer.status_code == 200, answer.text
    return str(json.loads(upstream.last.body)["model"])


def test_an_alias_or_a_name_with_its_providers_may_have_a_marker(web: Web, served: None, upstream: Upstream) -> None:
    ModelAlias.objects.create(name="fast", target=MODEL)
    ModelAlias.objects.create(name="big", target=f"anthropic/{MODEL}[1m]")
    alice = issue(upstream)
    ProviderKey.objects.update(model_patterns=["claude-*"])
    for name in ("fast[1m]", f"anthropic/{MODEL}[1m]", "big", "big[1M]"):
        assert named(web, alice, upstream, name) == MODEL


def test_a_model_that_is_denied_is_so_with_a_marker(web: Web, served: None, upstream: Upstream) -> None:
    alice = issue(upstream, denied_models=[MODEL])
    assert post(web, alice.key, ask(model=MODEL + "[1m]")).status_code == 403
    assert not upstream.seen


@pytest.mark.parametrize("name", ["claude-opus[fast]", "claude[1m]-opus", "[1m]"])
def test_an_ending_that_is_not_a_marker_stays(web: Web, alice: Caller, upstream: Upstream, name: str) -> None:
    assert named(web, alice, upstream, name) == name


def test_a_model_that_really_has_such_a_name_is_called_by_it(web: Web, served: None, upstream: Upstream) -> None:
    alice = issue(upstream)
    assert named(web, alice, upstream, "llama[1m]") == "llama"
    ProviderKey.objects.update(model_patterns=["llama[1m]", "claude-*"])
    assert named(web, alice, upstream, "llama[1m]") == "llama[1m]"
    assert named(web, alice, upstream, "anthropic/llama[1m]") == "llama[1m]"
    ModelAlias.objects.create(name="long[1m]", target=MODEL)
    assert named(web, alice, upstream, "long[1m]") == MODEL


def test_fallbacks_and_advisors_may_have_markers(web: Web, alice: Caller, upstream: Upstream) -> None:
    marked = "claude-haiku-4-5[1m]"
    tools: list[dict[str, Any]] = [
        {"type": "advisor_20260301", "name": "advisor", "model": marked},
        {"name": "t", "input_schema": {}},
    ]
    named(web, alice, upstream, MODEL, fallbacks=[{"model": marked, "max_tokens": 7}], tools=tools)
    seen = json.loads(upstream.last.body)
    assert seen["fallbacks"] == [{"model": "claude-haiku-4-5", "max_tokens": 7}]
    assert seen["tools"] == [tools[0] | {"model": "claude-haiku-4-5"}, tools[1]]
    ours = issue(upstream, "bob", fallback_models=["claude-haiku-4-5"])
    upstream.answer = lambda seen: whole(200 if b"haiku" in seen.body else 529, message())
    for fallbacks in ([marked], None):
        answer = post(web, ours.key, ask(model=MODEL + "[1m]", fallbacks=fallbacks))
        assert answer.status_code == 200, answer.text
        assert json.loads(upstream.last.body)["model"] == "claude-haiku-4-5"


@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
def test_requests_of_a_batch_may_have_markers(web: Web, served: None, upstream: Upstream, long: bool) -> None:
    alice = issue(upstream, allowed_models=[MODEL])
    upstream.answer = BatchProvider()
    text = "words " * (200_000 if long else 1)

    def batch(name: str) -> bytes:
        models = {"a": name, "b": MODEL, "c": name}
        requests = [{"custom_id": each, "params": ask(text, model=model)} for each, model in models.items()]
        return json.dumps({"requests": requests}, indent=1).encode()

    answer = post(web, alice.key, batch(MODEL + "[1m]"), "/v1/messages/batches")
    assert answer.status_code == 200, answer.text
    assert upstream.last.body == batch(MODEL)


def test_a_model_is_looked_up_by_a_name_with_a_marker(web: Web, alice: Caller) -> None:
    ModelAlias.objects.create(name="fast", target="claude-haiku-4-5")
    for name in ("claude-haiku-4-5[1m]", "fast[1m]", "anthropic/claude-haiku-4-5[1M]"):
        found = CLIENT.get(f"{web.url}/v1/models/{name}", headers=credentials(alice.key))
        assert found.status_code == 200, found.text
        assert found.json()["id"].startswith("claude-haiku-4-5")
    query = {"after_id": "claude-haiku-4-5[1m]"}
    assert CLIENT.get(web.url + "/v1/models", params=query, headers=credentials(alice.key)).status_code == 200
