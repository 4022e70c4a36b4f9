"""GET /v1/models and /v1/models/{id}: which models a caller sees, and how they are described."""

from __future__ import annotations

import json
import time

import anthropic
import pytest

from keys import issuing, pausing
from keys.directory import KnownKey, KnownProviderKey
from keys.model_lists import ListedModel
from keys.models import Gateway, ModelAlias, ProviderKey
from messages_api import tasks
from messages_api.stored import model_list
from tests.support.gateway import CLIENT, credentials, issue, refused, rows
from tests.support.listed_models import PREFIXES, get, info, lists, names, offer
from tests.support.listed_models import listed as listed
from usage.models import Refusal


@pytest.mark.parametrize("prefix", PREFIXES)
def test_models_are_listed_as_the_provider_described_them(web, listed, prefix):
    answer = get(web, listed.key, prefix + "/v1/models")
    assert answer.json() == {
        "data": lists("claude-opus-5-5", "claude-haiku-5-5", "claude-haiku-4-5-20251001"),
        "has_more": False,
        "first_id": "claude-opus-5-5",
        "last_id": "claude-haiku-4-5-20251001",
    }
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["request-id"] == answer.headers["x-bf-request-id"]
    one = get(web, listed.key, prefix + "/v1/models/claude-haiku-5-5")
    assert one.json() == info("claude-haiku-5-5")


def test_a_list_calls_no_provider_and_writes_no_row(web, listed, upstream):
    before = len(upstream.seen)
    for _ in range(3):
        get(web, listed.key)
    assert len(upstream.seen) == before
    assert rows(0) == []


@pytest.mark.wire(18)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/", "/v1/models?limit=1000", "/v1/models/claude-opus-5-5/"])
def test_nothing_is_redirected(web, listed, path):
    assert CLIENT.get(web.url + path, headers=credentials(listed.key)).status_code == 200
    assert CLIENT.head(web.url + path, headers=credentials(listed.key)).status_code == 200


@pytest.mark.parametrize("header", ["x-api-key", "x-bf-vk", "authorization"])
def test_one_credential_header_is_enough_for_claude_codes_discovery(web, listed, header):
    value = f"Bearer {listed.key}" if header == "authorization" else listed.key
    answer = CLIENT.get(web.url + "/v1/models?limit=1000", headers={header: value})
    assert names(answer)[0] == "claude-opus-5-5"


@pytest.mark.wire(18)
def test_the_sdk_pages_through_all_models_both_ways(web, alice, upstream):
    wanted = [f"claude-{number}" for number in range(45)]
    offer(upstream, lists(*wanted), most=10)
    tasks.refresh_models()
    with anthropic.Anthropic(base_url=web.url, api_key=alice.key, max_retries=0) as sdk:
        assert [model.id for model in sdk.models.list()] == wanted
        assert [model.id for model in sdk.models.list(limit=7)] == wanted
        back = sdk.models.list(before_id="claude-20", limit=8)
        assert [model.id for model in back.data] == wanted[12:20]
        assert back.has_more
        assert [model.id for model in back] == wanted[12:20] + wanted[4:12] + wanted[:4]
        assert [model.id for model in sdk.beta.models.list(limit=1000)] == wanted
        one = sdk.models.retrieve("claude-44")
        assert (one.id, one.max_tokens, one.created_at.year) == ("claude-44", 128_000, 2026)
        with pytest.raises(anthropic.NotFoundError, match="model: claude-45"):
            sdk.models.retrieve("claude-45")


def test_the_lists_of_the_virtual_key_and_of_the_provider_key_both_narrow_it(web, upstream, listed):
    narrow = issue(upstream, "bob", allowed_models=["claude-*"], denied_models=["*-5-5"])
    assert names(get(web, narrow.key)) == ["claude-haiku-4-5-20251001"]
    ProviderKey.objects.update(model_patterns=["claude-opus*"])
    assert names(get(web, listed.key)) == ["claude-opus-5-5"]
    assert names(get(web, narrow.key)) == []
    assert get(web, narrow.key).json() == {"data": [], "has_more": False, "first_id": None, "last_id": None}


@pytest.mark.parametrize("name", ["claude-opus-5-5", "nobody", "a/b@c:d", "claude opus", "%00", "x" * 150])
def test_a_model_that_is_not_allowed_or_not_served_is_a_404_in_anthropics_words(web, upstream, listed, name):
    bob = issue(upstream, "bob", denied_models=["claude-opus*"])
    answer = get(web, bob.key, f"/v1/models/{name}")
    assert refused(answer, 404, "not_found_error").startswith("model: ")


def test_a_name_with_slashes_is_one_model(web, upstream, alice):
    offer(upstream, lists("acme/claude-5:beta@2026"))
    tasks.refresh_models()
    for path in ("acme/claude-5:beta@2026", "acme%2Fclaude-5%3Abeta%402026"):
        assert get(web, alice.key, f"/v1/models/{path}").json()["id"] == "acme/claude-5:beta@2026"


@pytest.mark.parametrize(
    ("query", "named"),
    [
        *[({"limit": limit}, "limit") for limit in ("0", "1001", "-1", "x", "", "1.5", "٣", "9" * 5000)],
        ({"after_id": "nobody"}, "after_id"),
        ({"before_id": "nobody"}, "before_id"),
        ({"after_id": "claude-opus-5-5", "before_id": "claude-opus-5-5"}, "after_id, before_id"),
        ({"lifecycle[]": "young"}, "lifecycle"),
    ],
)
def test_a_bad_query_is_refused_by_its_parameters_name(web, listed, query, named):
    assert refused(get(web, listed.key, **query), 400, "invalid_request_error").startswith(named + ":")


def test_models_are_chosen_by_their_lifecycle(web, alice, upstream):
    offer(upstream, [info("old", lifecycle="deprecated"), info("dead", lifecycle="retired"), info("new")])
    tasks.refresh_models()
    assert names(get(web, alice.key)) == ["old", "new"]
    assert names(get(web, alice.key, **{"lifecycle[]": ["retired", "active"]})) == ["dead", "new"]


def test_other_methods_are_refused_with_those_that_there_are(web, listed):
    answer = CLIENT.delete(web.url + "/v1/models/claude-opus-5-5", headers=credentials(listed.key))
    assert refused(answer, 405, "invalid_request_error") == "This endpoint takes GET and HEAD only."
    assert answer.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/claude-opus-5-5"])
def test_everybody_passes_the_arbiter(web, listed, path):
    assert get(web, listed.key, path).status_code == 200
    refused(CLIENT.get(web.url + path), 401, "authentication_error")
    pausing.pause(Gateway.objects.get())
    refused(get(web, listed.key, path), 503, "api_error")
    pausing.resume(Gateway.objects.get())
    pausing.pause(listed.virtual_key)
    refused(get(web, listed.key, path), 403, "permission_error")
    pausing.resume(listed.virtual_key)
    issuing.revoke(listed.virtual_key)
    refused(get(web, listed.key, path), 401, "authentication_error")


def test_a_refusal_is_in_the_log_with_the_endpoint_and_the_model(web, listed):
    get(web, listed.key, "/v1/models/nobody")
    deadline = time.monotonic() + 5
    while not (found := Refusal.objects.filter(endpoint="models", virtual_key=listed.virtual_key).first()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert (found.requested_model, found.reason) == ("nobody", "unknown_model")


@pytest.mark.wire(18)
def test_a_thousand_models_are_one_page_and_no_request_to_the_provider(web, alice, upstream):
    wanted = [f"claude-model-{number}" for number in range(1000)]
    offer(upstream, [info(name, padding="x" * 1500) for name in wanted])
    ProviderKey.objects.update(model_patterns=["gpt-*", "claude-*"])
    tasks.refresh_models()
    asked = len(upstream.seen)
    for _ in range(3):
        assert names(get(web, alice.key, limit=1000)) == wanted
    assert len(upstream.seen) == asked


# If no provider has listed its models


def test_echo_lists_itself_and_the_models_that_it_answers_for(web, echo_alice):
    assert {"echo-1", "claude-opus-5-5", "claude-haiku-4-5"} <= set(names(get(web, echo_alice.key, limit=1000)))
    ProviderKey.objects.update(model_patterns=["echo*"])
    assert names(get(web, echo_alice.key)) == ["echo-1"]
    assert get(web, echo_alice.key, "/v1/models/echo-1").json()["type"] == "model"


def test_before_a_provider_has_listed_anything_it_offers_what_is_on_sale(web, alice, upstream):
    ProviderKey.objects.update(model_patterns=["claude-opus-*"])
    found = names(get(web, alice.key, limit=1000))
    assert "claude-opus-5-5" in found
    assert all(name.startswith("claude-opus-") for name in found)
    with anthropic.Anthropic(base_url=web.url, api_key=alice.key, max_retries=0) as sdk:
        one = sdk.models.retrieve("claude-opus-5-5")
    assert (one.display_name, one.max_input_tokens, one.lifecycle) == ("Claude Opus 5.5", 1_000_000, "active")
    assert one.created_at.year == 1970


def test_names_that_are_written_out_are_listed_even_if_no_provider_lists_them(web, upstream, listed):
    ProviderKey.objects.update(model_patterns=["claude-*", "acme-private"])
    bob = issue(upstream, "bob", allowed_models=["claude-haiku-4-5", "acme-*"])
    assert names(get(web, bob.key)) == ["acme-private", "claude-haiku-4-5"]
    private = get(web, bob.key, "/v1/models/acme-private").json()
    assert (private["id"], private["display_name"], private["type"]) == ("acme-private", "acme-private", "model")
    # An alias is described by what it stands for.
    assert get(web, bob.key, "/v1/models/claude-haiku-4-5").json() == info(
        "claude-haiku-4-5", display_name="Claude-Haiku-4-5-20251001"
    )


def test_an_alias_gives_the_model_that_it_stands_for(web, upstream, listed):
    assert get(web, listed.key, "/v1/models/claude-haiku-4-5").json()["id"] == "claude-haiku-4-5-20251001"
    bob = issue(upstream, "bob", allowed_models=["*-20251001"])
    refused(get(web, bob.key, "/v1/models/claude-haiku-4-5"), 404, "not_found_error")
    ModelAlias.objects.create(name="fast", target="anthropic/claude-haiku-5-5")
    for name in ("fast", "anthropic/claude-haiku-5-5"):
        assert get(web, listed.key, f"/v1/models/{name}").json()["id"] == "claude-haiku-5-5"


def test_a_name_that_would_lead_elsewhere_is_listed_with_its_providers(web, upstream, alice):
    offer(upstream, lists("openai/gpt-oss", "anthropic/claude", "claude-x", "fast"))
    tasks.refresh_models()
    ModelAlias.objects.create(name="fast", target="claude-x")
    called = names(get(web, alice.key))
    assert called == ["anthropic/openai/gpt-oss", "anthropic/anthropic/claude", "claude-x", "anthropic/fast"]
    for name in called:
        assert get(web, alice.key, f"/v1/models/{name}").json()["id"] == name
    # Written out, the whole of it is the model's name.
    ProviderKey.objects.update(model_patterns=["openai/*", "claude*"])
    assert names(get(web, alice.key)) == ["openai/gpt-oss", "claude-x"]


# The choice itself, without a database


def provider(number: int, *patterns: str, provider: str = "anthropic") -> KnownProviderKey:
    return KnownProviderKey(number, str(number), provider, "", "", patterns)


def key(*provider_keys_: KnownProviderKey, allowed: tuple[str, ...] = (), denied: tuple[str, ...] = ()) -> KnownKey:
    routes = tuple((each, 1) for each in provider_keys_)
    return KnownKey(1, 1, "alice", 1, 1, allowed, denied, False, routes)


def model(name: str, info: str = "") -> ListedModel:
    return ListedModel(name, "active", info or json.dumps({"id": name}))


def test_the_first_provider_key_describes_a_model_that_several_offer():
    offers = {1: [model("a", "first"), model("b")], 2: [model("a", "second"), model("c")]}
    found = model_list.usable(key(provider(1), provider(2)), offers, ["anthropic"])
    assert list(found) == ["a", "b", "c"]
    assert found["a"].info == "first"
    found = model_list.usable(key(provider(1, "b"), provider(2)), offers, ["anthropic"])
    assert {name: each.info for name, each in found.items()}["a"] == "second"


def test_a_list_goes_before_a_name_that_is_written_out():
    offers = {1: [model("a")], 2: [model("private", "described")]}
    found = model_list.usable(key(provider(1), provider(2), allowed=("private",)), offers, ["anthropic"])
    assert {name: each.info for name, each in found.items()} == {"private": "described"}


def test_a_provider_key_of_an_unsupported_protocol_lists_no_models():
    assert model_list.usable(key(provider(1, "gpt-9", provider="openai")), {}, ["anthropic"]) == {}
