"""Other names of a model: an alias, and the name with its provider."""

from __future__ import annotations

import json
from decimal import Decimal

from keys.models import ModelAlias
from tests.support.fake_provider import whole
from tests.support.gateway import (
    MODEL,
    ask,
    issue,
    message,
    post,
    refused,
    rows,
)
from tests.support.two_providers import HAIKU
from tests.support.two_providers import alice as alice
from tests.support.two_providers import first as first
from tests.support.two_providers import second as second
from usage.budgets import Budget


def test_an_alias_stands_for_a_model(web, served, first):
    alice = issue(first)
    ModelAlias.objects.create(name="fast", target=f"anthropic/{HAIKU}")
    first.answer = whole(200, message(model=HAIKU))
    answer = post(web, alice.key, ask(model="fast"))
    assert answer.json()["model"] == answer.headers["x-bf-model"] == HAIKU
    assert json.loads(first.last.body)["model"] == HAIKU
    [row] = rows(1)
    assert (row.requested_model, row.model) == ("fast", HAIKU)
    assert row.cost == (Decimal(1) * 11 + Decimal(5) * 7).scaleb(-6)


def test_a_model_may_be_named_with_its_provider(web, served, first):
    alice = issue(first)
    first.answer = whole(200, message())
    assert post(web, alice.key, ask(model=f"anthropic/{MODEL}")).status_code == 200
    assert json.loads(first.last.body)["model"] == MODEL
    refused(post(web, alice.key, ask(model=f"openai/{MODEL}")), 404, "not_found_error")


def test_a_list_of_models_counts_by_any_of_their_names(web, served, first):
    ModelAlias.objects.create(name="fast", target=HAIKU)
    first.answer = whole(200, message())
    by_name = issue(first, "by name", allowed_models=["fast"])
    by_model = issue(first, "by model", allowed_models=["claude-haiku-*"])
    denied = issue(first, "denied", denied_models=["claude-haiku-*"])
    assert post(web, by_name.key, ask(model="fast")).status_code == 200
    refused(post(web, by_name.key, ask(model=HAIKU)), 403, "permission_error")
    for model in ("fast", HAIKU, f"anthropic/{HAIKU}"):
        assert post(web, by_model.key, ask(model=model)).status_code == 200
        refused(post(web, denied.key, ask(model=model)), 403, "permission_error")


# Budgets


def test_budgets_by_model_go_by_the_model_and_not_by_its_alias(web, served, first):
    alice = issue(first)
    ModelAlias.objects.create(name="fast", target=HAIKU)
    Budget.objects.create(amount=0, team=alice.team, model_patterns=["claude-haiku-*"])
    refused(post(web, alice.key, ask(model="fast")), 429, "billing_error")
    assert not first.seen
