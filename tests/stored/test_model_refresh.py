"""How the gateway learns which models providers offer."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from keys import provider_keys
from keys.models import Cooldown, Gateway, ModelList, ProviderKey
from messages_api import providers, tasks
from messages_api.stored import model_refresh
from tests.support.fake_provider import End, broken, whole
from tests.support.gateway import PROVIDER_SECRET
from tests.support.listed_models import admin_page as admin_page
from tests.support.listed_models import info, lists, make_due, offer
from tests.support.listed_models import listed as listed


def test_a_provider_is_asked_with_its_own_secret_and_page_by_page(alice, upstream):
    offer(upstream, lists("a", "b", "c"), most=2)
    tasks.refresh_models()
    assert [seen.target for seen in upstream.seen] == ["/v1/models?limit=1000", "/v1/models?limit=1000&after_id=b"]
    assert upstream.seen[0].values("x-api-key") == [PROVIDER_SECRET]
    assert upstream.seen[0].values("anthropic-version") == ["2023-06-01"]
    assert ModelList.objects.get().listed == lists("a", "b", "c")


def test_a_provider_is_asked_once_an_hour_and_sooner_after_a_problem(alice, upstream):
    offer(upstream, lists("a"))
    tasks.refresh_models()
    tasks.refresh_models()
    assert len(upstream.seen) == 1
    ModelList.objects.update(asked_at=timezone.now() - timedelta(minutes=61))
    tasks.refresh_models()
    assert len(upstream.seen) == 2
    ModelList.objects.update(asked_at=timezone.now() - timedelta(minutes=6))
    tasks.refresh_models()
    assert len(upstream.seen) == 2
    ModelList.objects.update(asked_at=timezone.now() - timedelta(minutes=6), problem="trouble")
    tasks.refresh_models()
    assert len(upstream.seen) == 3
    assert ModelList.objects.get().problem == ""


def test_a_changed_provider_key_is_asked_for_again(alice, upstream):
    offer(upstream, lists("a"))
    tasks.refresh_models()
    provider_keys.set_secret(alice.provider_key, "sk-ant-another-secret-5678")
    assert ModelList.objects.get().asked_at is None
    assert ModelList.objects.get().listed == lists("a")
    tasks.refresh_models()
    assert upstream.seen[-1].values("x-api-key") == ["sk-ant-another-secret-5678"]
    ProviderKey.objects.update(name="renamed")
    assert ModelList.objects.get().asked_at is not None
    # Another address is another list.
    ProviderKey.objects.update(base_url="http://127.0.0.1:9")
    assert not ModelList.objects.exists()


@pytest.mark.parametrize(
    "answer",
    [
        whole(401, b'{"type":"error"}'),
        whole(307, b"", ("location", "http://127.0.0.1:9/")),
        whole(200, b"<html>"),
        whole(200, b"[]"),
        whole(200, b'{"data": 3}'),
        whole(200, b"[" * 200_000),
        broken([b'{"data": ['], End.RESET),
        [End.CLOSE],
    ],
)
def test_trouble_with_a_provider_keeps_what_it_listed_last(listed, upstream, answer):
    before = ModelList.objects.get().listed
    assert before
    upstream.answer = answer
    make_due()
    tasks.refresh_models()
    kept = ModelList.objects.get()
    assert kept.listed == before
    assert kept.problem
    assert PROVIDER_SECRET not in kept.problem


def test_trouble_with_one_provider_does_not_keep_another_from_being_asked(alice, upstream):
    for name in ("aaa", "zzz"):
        provider_keys.add_provider_key(
            name=name, provider="anthropic", base_url="http://127.0.0.1:9", secret=PROVIDER_SECRET
        )
    offer(upstream, lists("a"))
    tasks.refresh_models()
    assert {models.provider_key.name: bool(models.problem) for models in ModelList.objects.all()} == {
        "aaa": True,
        "main": False,
        "zzz": True,
    }


def test_what_cannot_be_kept_of_a_list_is_left_out(alice, upstream):
    good = lists("a", "b")
    bad: list[Any] = [
        info("nul", x="\0"),
        info("half", x="\ud800"),
        info("x" * 201),
        {"id": 5},
        {},
        None,
        "c",
        info(""),
        info("long", x="x" * 20_000),
    ]
    body = json.dumps({"data": [good[0], *bad, good[0] | {"again": 1}, good[1]], "has_more": True, "last_id": None})
    upstream.answer = whole(200, body.encode())
    tasks.refresh_models()
    assert ModelList.objects.get().listed == good


def test_a_list_of_half_a_million_models_is_kept_in_part(alice, upstream):
    body = json.dumps({"data": [{"id": f"m{number}"} for number in range(500_000)], "has_more": False})
    upstream.answer = whole(200, body.encode())
    tasks.refresh_models()
    listed = ModelList.objects.get().listed
    assert [model["id"] for model in listed] == [f"m{number}" for number in range(model_refresh.MOST_MODELS)]


def test_a_list_without_an_end_is_read_so_far_only(alice, upstream):
    body = json.dumps({"data": lists("a"), "has_more": True, "last_id": "a"}).encode()
    upstream.answer = lambda seen: whole(200, body.replace(b'"a"}', b'"%d"}' % len(upstream.seen)))
    tasks.refresh_models()
    assert len(upstream.seen) == providers.anthropic.MOST_PAGES
    assert len(ModelList.objects.get().listed) == 1


def test_a_provider_that_trickles_is_left_after_a_while(alice, upstream, monkeypatch):
    monkeypatch.setattr(model_refresh, "SECONDS", 0.2)
    upstream.answer = [
        b"HTTP/1.1 200 \r\ncontent-length: 1000\r\n\r\n",
        *[step for _ in range(1000) for step in (b" ", 0.05)],
    ]
    start = time.monotonic()
    tasks.refresh_models()
    assert time.monotonic() - start < 30
    assert ModelList.objects.get().problem == "the provider's answer takes too long"


def test_a_provider_whose_head_trickles_is_left_after_a_while(alice, upstream, monkeypatch):
    monkeypatch.setattr(model_refresh, "SECONDS", 0.2)
    # Its end comes after 20 seconds, and then it would be a list.
    trickle = [step for _ in range(400) for step in (b"x", 0.05)]
    upstream.answer = [b"HTTP/1.1 200 \r\nx: ", *trickle, b"\r\ncontent-length: 11\r\n\r\n", b'{"data":[]}']
    tasks.refresh_models()
    assert ModelList.objects.get().problem == "the provider can't be reached (ReadTimeout)"


def test_an_answer_for_a_key_that_changed_meanwhile_is_not_kept(alice, upstream, monkeypatch):
    offer(upstream, lists("a"))
    fetch = model_refresh.fetch

    def fetch_while_the_secret_changes(provider_key):
        provider_keys.set_secret(ProviderKey.objects.get(pk=provider_key.pk), "sk-ant-another-secret-5678")
        return fetch(provider_key)

    monkeypatch.setattr(model_refresh, "fetch", fetch_while_the_secret_changes)
    tasks.refresh_models()
    kept = ModelList.objects.get()
    assert (kept.listed, kept.asked_at) == ([], None)


def test_two_processes_ask_once(alice, upstream):
    offer(upstream, lists("a"))
    tasks.refresh_models()
    make_due()
    (first,), (second,) = list(model_refresh.due()), list(model_refresh.due())
    model_refresh.refresh(first)
    model_refresh.refresh(second)
    assert len(upstream.seen) == 2


def test_only_another_list_moves_the_revision_of_the_catalogue(alice, upstream):
    def revision():
        return Gateway.objects.get().catalogue_revision

    offer(upstream, lists("a"))
    tasks.refresh_models()
    before = revision()
    make_due()
    tasks.refresh_models()
    assert revision() == before
    offer(upstream, lists("a", "b"))
    make_due()
    tasks.refresh_models()
    assert revision() == before + 1
    ModelList.objects.all().delete()
    assert revision() == before + 2


def test_a_provider_key_that_cools_down_is_not_used_to_ask_for_models(alice, upstream):
    now = timezone.now()
    terms = {"provider_key": alice.provider_key, "reason": "refused", "strikes": 1, "since": now}
    cooldown = Cooldown.objects.create(**terms, until=now + timedelta(minutes=1))
    tasks.refresh_models()
    assert not upstream.seen
    cooldown.until = now
    cooldown.save()
    tasks.refresh_models()
    assert upstream.seen


def test_an_inactive_key_and_echo_are_not_asked_for(alice, upstream):
    provider_keys.add_provider_key(name="echo", provider="echo")
    ProviderKey.objects.filter(name="main").update(active=False)
    tasks.refresh_models()
    assert not upstream.seen
    assert not ModelList.objects.exists()


def test_the_admin_shows_what_was_listed_and_why_nothing_was(listed, upstream, admin_page):
    assert "claude-opus-5-5, claude-haiku-5-5" in admin_page(listed.provider_key)
    upstream.answer = whole(500, b"{}")
    make_due()
    tasks.refresh_models()
    assert "the provider answers 500" in admin_page(listed.provider_key)
