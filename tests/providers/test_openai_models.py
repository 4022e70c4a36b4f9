"""GET /v1/models for OpenAI-compatible providers: what they say they have, as Anthropic describes models."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest

from keys.models import ModelList
from messages_api import tasks
from messages_api.providers.openai import dialects, listing
from tests.support.fake_provider import Upstream, whole
from tests.support.gateway import CLIENT, Web, credentials, post, refused
from tests.support.openai_provider import OPENAI_SECRET, ask_gpt, completion, issue_openai

MINI: dict[str, Any] = {"id": "gpt-5-mini", "object": "model", "created": 1_754_425_928, "owned_by": "system"}


def offered(upstream: Upstream, *models: Any) -> None:
    """Let the provider list these, and let the gateway ask."""
    upstream.answer = whole(200, json.dumps({"object": "list", "data": models}).encode())
    ModelList.objects.update(asked_at=None)
    tasks.refresh_models()


def listed(web: Web, key: str) -> list[dict[str, Any]]:
    answer = CLIENT.get(web.url + "/v1/models", headers=credentials(key))
    assert answer.status_code == 200, answer.text
    models: list[dict[str, Any]] = answer.json()["data"]
    return models


def read(*models: Any, base_url: str = "https://api.example.com/v1") -> list[dict[str, Any]]:
    """What becomes of these models."""
    return list(listing.models(base_url, "secret", lambda url, headers, query: {"data": list(models)}))


def test_the_sdk_lists_the_models_that_a_provider_says_it_has(web, upstream, served):
    caller = issue_openai(upstream)
    offered(upstream, MINI | {"id": "old", "created": 1}, MINI, MINI | {"id": "text-embedding-3-large"})
    assert (upstream.last.method, upstream.last.target) == ("GET", "/v1/models")
    assert upstream.last.values("authorization") == [f"Bearer {OPENAI_SECRET}"]
    assert not upstream.last.values("anthropic-version")
    with anthropic.Anthropic(base_url=web.url, api_key=caller.key, max_retries=0) as sdk:
        newest, oldest = sdk.models.list()
        assert sdk.models.retrieve("gpt-5-mini").to_dict() == newest.to_dict()
        assert sdk.models.retrieve("openai/gpt-5-mini").id == "gpt-5-mini"
    assert (newest.type, newest.id, newest.display_name) == ("model", "gpt-5-mini", "gpt-5-mini")
    assert (newest.created_at.isoformat(), oldest.id) == ("2025-08-05T20:32:08+00:00", "old")
    assert (newest.max_input_tokens, newest.max_tokens, newest.capabilities) == (None, None, None)


def test_every_name_in_the_list_can_be_called(web, upstream, served):
    caller = issue_openai(upstream)
    offered(upstream, *({"id": name} for name in ("openai/gpt-oss-20b", "anthropic/claude-5", "qwen/qwen3", "kimi")))
    names = [model["id"] for model in listed(web, caller.key)]
    assert names == ["openai/anthropic/claude-5", "kimi", "openai/openai/gpt-oss-20b", "qwen/qwen3"]
    upstream.answer = whole(200, completion())
    called = []
    for name in names:
        assert post(web, caller.key, ask_gpt(model=name)).status_code == 200
        called.append(json.loads(upstream.last.body)["model"])
    assert called == ["anthropic/claude-5", "kimi", "openai/gpt-oss-20b", "qwen/qwen3"]


def test_the_virtual_keys_models_narrow_the_list(web, upstream, served):
    caller = issue_openai(upstream, allowed_models=["gpt-*", "private"], denied_models=["*-nano"])
    offered(upstream, *({"id": name} for name in ("gpt-5", "gpt-5-nano", "o3")))
    assert [model["id"] for model in listed(web, caller.key)] == ["gpt-5", "private"]
    denied = CLIENT.get(web.url + "/v1/models/gpt-5-nano", headers=credentials(caller.key))
    refused(denied, 404, "not_found_error")


@pytest.mark.parametrize(
    "answer", [whole(404, b"{}"), whole(200, b'{"data": {}}'), whole(200, b'"x"'), whole(200, b"<html>")]
)
def test_a_provider_without_a_list_offers_the_models_that_are_written_out(web, upstream, served, answer):
    caller = issue_openai(upstream, allowed_models=["gpt-4o", "o*"])
    upstream.answer = answer
    tasks.refresh_models()
    assert ModelList.objects.get().problem
    assert [model["id"] for model in listed(web, caller.key)] == ["gpt-4o"]


def test_azure_is_not_asked_for_it_lists_no_deployments(web, upstream, served):
    issue_openai(upstream, path="/openai?api-version=2024-10-21")
    tasks.refresh_models()
    assert not upstream.seen
    assert ModelList.objects.get().problem == ""


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        ("", "https://api.openai.com/v1/models"),
        ("https://api.groq.com/openai/v1", "https://api.groq.com/openai/v1/models"),
        ("https://api.deepseek.com", "https://api.deepseek.com/models"),
        (
            "https://generativelanguage.googleapis.com/v1beta/openai/",
            "https://generativelanguage.googleapis.com/v1beta/openai/models",
        ),
        ("http://10.0.0.7:8000", "http://10.0.0.7:8000/v1/models"),
        ("https://acme.openai.azure.com", ""),
        ("https://proxy.example.com/azure?api-version=2024-10-21", ""),
    ],
)
def test_it_asks_where_the_base_url_says(base_url, url):
    assert dialects.models_address(base_url) == url


@pytest.mark.parametrize(
    ("said", "window", "longest", "shown"),
    [
        ({"context_window": 131_072, "max_completion_tokens": 65_536, "active": True}, 131_072, 65_536, "m"),
        (
            {
                "name": "Em",
                "context_length": 400_000,
                "top_provider": {"context_length": 8, "max_completion_tokens": 128_000},
                "architecture": {"output_modalities": ["image", "text"]},
            },
            400_000,
            128_000,
            "Em",
        ),
        ({"max_context_length": 32_768, "capabilities": {"completion_chat": True}, "name": None}, 32_768, None, "m"),
        ({"max_model_len": 4096, "root": "/models/m"}, 4096, None, "m"),
        ({"type": "chat", "display_name": "Em", "context_length": 0}, None, None, "Em"),
        ({"context_length": "many", "top_provider": []}, None, None, "m"),
    ],
)
def test_what_a_provider_says_besides_is_kept(said, window, longest, shown):
    (model,) = read({"id": "m"} | said)
    assert (model["max_input_tokens"], model["max_tokens"], model["display_name"]) == (window, longest, shown)


@pytest.mark.parametrize("created", [None, 0, -1, True, "yesterday", 1.5, 10**15])
def test_a_model_without_a_date_is_as_old_as_can_be(created):
    assert read({"id": "m", "created": created})[0]["created_at"] == "1970-01-01T00:00:00Z"


def test_googles_names_are_those_that_are_called():
    assert [model["id"] for model in read({"id": "models/gemini-2.5-flash", "object": "model"})] == ["gemini-2.5-flash"]


@pytest.mark.parametrize(
    "said",
    [
        {"id": "m", "architecture": {"output_modalities": ["image"]}},
        {"id": "m", "capabilities": {"completion_chat": False}},
        {"id": "m", "supports_chat": False},
        {"id": "m", "active": False},
        {"id": "m", "type": "embedding"},
        *({"id": name} for name in ("text-embedding-3-small", "nomic-embed-text:latest", "models/embedding-001")),
        *({"id": name} for name in ("whisper-large-v3", "tts-1-hd", "gpt-4o-mini-tts", "dall-e-3", "gpt-image-1")),
        *(
            {"id": name}
            for name in ("omni-moderation-latest", "gpt-4o-transcribe", "gpt-4o-realtime-preview", "sora-2")
        ),
        *({"id": name} for name in ("models/imagen-4.0-generate-001", "models/veo-3.0-generate-001", "mistral-embed")),
        *({"id": name} for name in (None, 7, ["m"])),
        "m",
        None,
    ],
)
def test_what_cannot_be_talked_to_is_left_out(said):
    assert read(said) == []


def test_what_only_sounds_like_it_stays():
    names = ["attsume", "gpt-4o-audio-preview", "gemini-2.5-flash-image", "soraya", "veolia/chat", "sentts"]
    assert {model["id"] for model in read(*({"id": name} for name in names))} == set(names)


def test_a_list_may_be_a_list():
    answer = list(listing.models("", "s", lambda url, headers, query: [{"id": "m", "type": "chat"}]))
    assert [model["id"] for model in answer] == ["m"]
