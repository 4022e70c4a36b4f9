"""What a request may mean besides the model that it names, and by which names: denied, limited and budgeted."""

from __future__ import annotations

from decimal import Decimal

import pytest

from keys.models import ModelAlias, ModelList, VirtualKey
from tests.keys.test_model_names import OTHERS, SOLD
from tests.support.asked_arbiter import arbiter, cast_with_credentials
from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, MODEL, ask, credentials, message, post, refused, row
from usage.arbitration import ModelShare
from usage.models import Budget, Limit, Window

HAIKU = "claude-haiku-4-5"
DEFAULT = {"fallbacks": "default"}
ADVISOR = {"type": "advisor_20260301", "name": "advisor"}


def everywhere(web, key, **members):
    """The answers for all names by which a key may call a model."""
    counted = {name: value for name, value in ask(**members).items() if name != "max_tokens"}
    batch = {"requests": [{"custom_id": "a", "params": ask(**members)}]}
    bodies = {"/v1/messages": ask(**members), "/v1/messages/count_tokens": counted, "/v1/messages/batches": batch}
    return [CLIENT.post(web.url + path, json=body, headers=credentials(key)) for path, body in bodies.items()]


def set_lists(allowed=(), denied=()):
    VirtualKey.objects.update(allowed_models=list(allowed), denied_models=list(denied))


def test_the_default_fallbacks_take_a_key_that_may_use_all_that_they_may_mean(web, alice, upstream):
    upstream.answer = whole(200, message())
    ModelList.objects.update_or_create(provider_key=alice.provider_key, defaults={"listed": [{"id": "claude-opus-99"}]})
    for lists in ({"denied": ["claude-fable-*"]}, {"allowed": [MODEL]}, {"denied": ["anthropic/claude-opus-99"]}):
        set_lists(**lists)
        for answer in everywhere(web, alice.key, **DEFAULT):
            assert "default fallbacks" in refused(answer, 403, "permission_error"), lists
    assert not upstream.seen
    for lists in ({"denied": [HAIKU]}, {"allowed": ["Anthropic/Claude-*"]}, {}):
        set_lists(**lists)
        assert post(web, alice.key, ask(**DEFAULT)).status_code == 200, lists


def test_a_denied_model_is_denied_at_every_endpoint_by_every_name(web, alice, upstream):
    ModelAlias.objects.create(name="smart", target="claude-opus-4-5")
    set_lists(denied=["claude-opus-4*", "anthropic/claude-sonnet-*", "quick"])
    ModelAlias.objects.create(name="Quick", target=HAIKU)
    for name in ("Claude-Opus-4-5", SOLD[7], "CLAUDE-Sonnet-4-5", "claude-haiku-4-5-20251001"):
        for answer in everywhere(web, alice.key, model=name):
            assert name in refused(answer, 403, "permission_error")
        for members in ({"fallbacks": [{"model": name}]}, {"tools": [ADVISOR | {"model": name}]}):
            assert name in refused(post(web, alice.key, ask() | members), 403, "permission_error")
    for name in ("SMART", "anthropic/Claude-Opus-4-5", "quick"):
        refused(post(web, alice.key, ask(model=name)), 403, "permission_error")
    assert not upstream.seen


def test_an_advisor_of_any_version_is_another_model(web, alice, upstream):
    set_lists(denied=["*opus-4*"])
    later = {"type": "advisor_20990101", "name": "advisor"}
    for tool in (later, {"type": "reviewer_20990101", "name": "reviewer"}):
        answer = post(web, alice.key, ask(tools=[tool | {"model": "Claude-Opus-4-5"}]))
        refused(answer, 403, "permission_error")
    refused(post(web, alice.key, ask(tools=[later | {"model": " claude-opus-4-5"}])), 400, "invalid_request_error")
    assert not upstream.seen


def test_a_budget_counts_what_a_request_may_mean_besides_its_model(web, alice, upstream):
    upstream.answer = whole(200, message())
    ModelAlias.objects.create(name="strong", target=MODEL)
    budget = Budget.objects.create(amount=0, team=alice.team, model_patterns=["claude-fable-*"])
    named = Budget.objects.create(amount=10, team=alice.team, model_patterns=["STRONG"])
    for members in (
        DEFAULT,
        {"tools": [ADVISOR | {"model": "Claude-Fable-5"}]},
        {"fallbacks": [{"model": "claude-fable-5"}]},
    ):
        for path, answer in zip(("messages", "tokens", "batch"), everywhere(web, alice.key, **members), strict=True):
            if path == "tokens":
                assert answer.status_code == 200
            else:
                refused(answer, 429, "billing_error")
    assert post(web, alice.key, ask(model="strong")).status_code == 200
    cost = row().cost
    assert not Window.objects.filter(budget=budget).exclude(spent=0, held=0)
    assert Window.objects.get(budget=named).spent == cost > 0


@pytest.fixture
def cast(apart):
    return cast_with_credentials("alice")


def test_budgets_and_limits_know_a_model_by_every_name(cast):
    Budget.objects.create(amount=1, team=cast.alice.team, model_patterns=["x", "claude-opus-4-5"])
    with arbiter() as asked:
        for name in SOLD:
            assert asked.admit(cast.alice, 2, requested_model=name)[1] == "budget", name
            shares = {"deployment-1": ModelShare(Decimal(2), 100, [name])}
            assert asked.admit(cast.alice, 2, requested_model="deployment-1", shares=shares)[1] == "budget", name
        for name in OTHERS:
            assert asked.admit(cast.alice, 2, requested_model=name)[1] == "admitted", name
        Limit.objects.create(kind="rpm", rate=1, team=cast.alice.team, model_patterns=["CLAUDE-opus-*"])
        assert asked.admit(cast.alice, 0, requested_model=SOLD[7])[1] == "admitted"
        assert asked.admit(cast.alice, 0, requested_model=SOLD[1])[1] == "limit"
