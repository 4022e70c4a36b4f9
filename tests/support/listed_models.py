"""Providers that list models, and callers that read the list."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.admin import site
from django.contrib.auth import get_user_model
from django.test import RequestFactory

from keys.models import ModelList, ProviderKey
from messages_api import tasks
from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, credentials

PREFIXES = ["", "/anthropic", "/pydanticai/anthropic", "/pydanticai"]


def info(name: str, **members: Any) -> dict[str, Any]:
    """A model as a provider describes it, with unknown members."""
    return {
        "type": "model",
        "id": name,
        "display_name": name.title(),
        "created_at": "2026-10-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": 1_000_000,
        "max_tokens": 128_000,
        "capabilities": {"batch": {"supported": True}, "unheard_of": {"supported": [1.5, None, "Grüße"]}},
        "new_in_2027": {"nested": ["👋"]},
    } | members


def lists(*names: str) -> list[dict[str, Any]]:
    return [info(name) for name in names]


def offer(upstream, models, most=1000):
    """Let the provider list these models, in pages as small as that."""

    def answer(seen):
        query = dict(part.split("=") for part in seen.target.partition("?")[2].split("&"))
        names = [model["id"] for model in models]
        start = names.index(query["after_id"]) + 1 if "after_id" in query else 0
        page = models[start : start + min(most, int(query["limit"]))]
        body = {
            "data": page,
            "has_more": start + len(page) < len(models),
            "first_id": page[0]["id"] if page else None,
            "last_id": page[-1]["id"] if page else None,
        }
        return whole(200, json.dumps(body).encode())

    upstream.answer = answer


def make_due():
    ModelList.objects.update(asked_at=None)


def get(web, key, path="/v1/models", **query):
    return CLIENT.get(web.url + path, headers=credentials(key), params=query)


def names(answer):
    assert answer.status_code == 200, answer.text
    return [model["id"] for model in answer.json()["data"]]


@pytest.fixture
def listed(alice, upstream):
    """Alice, whose provider has listed three models."""
    offer(upstream, lists("claude-opus-5-5", "claude-haiku-5-5", "claude-haiku-4-5-20251001"))
    tasks.refresh_models()
    return alice


@pytest.fixture
def admin_page(served):
    """What an administrator sees of a provider key."""
    boss = get_user_model()(pk=1, username="boss", is_staff=True, is_superuser=True, is_active=True)

    def page(provider_key):
        request = RequestFactory().get("/")
        request.user = boss
        answer: Any = site.get_model_admin(ProviderKey).change_view(request, str(provider_key.pk))
        return answer.render().content.decode()

    return page
