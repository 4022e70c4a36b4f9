"""Lists and pickers find virtual keys by the beginnings of words, and by the last characters of the secret."""

from __future__ import annotations

import json

import pytest

from keys import key_search
from keys.models import VirtualKey
from tests.support.issued import make_key

pytestmark = pytest.mark.django_db


def named(name: str, **terms) -> VirtualKey:
    key: VirtualKey = make_key(name)[0]
    for field, value in terms.items():
        setattr(key, field, value)
    key.save()
    return key


def listed(client, text: str) -> set[int]:
    page = client.get("/admin/keys/virtualkey/", {"q": text})
    return {row.pk for row in page.context["cl"].result_list}


def suggested(client, text: str) -> set[int]:
    query = {"app_label": "usage", "model_name": "ledgerentry", "field_name": "virtual_key", "term": text}
    found = json.loads(client.get("/admin/autocomplete/", query).content)
    return {int(row["id"]) for row in found["results"]}


@pytest.mark.parametrize(
    "text",
    [
        *("Atlas", "atlas", "prod", "PRODUCTION at", "atlas-production/eu", "eu", "ém"),
        *("alice", "alice@example.com", "example", "example.com alice"),
        *("project", "project=apollo", "apo", "cost centre 17", "  atlas  "),
    ],
)
def test_a_key_is_found_by_the_beginning_of_words_of_its_name_its_owner_and_its_labels(admin_client, text):
    key = named(
        "Atlas-production/eu émile", owner="Alice@Example.com", labels={"project": "apollo", "cost_centre": "17"}
    )
    other = named("Zenith", owner="bob@other.org", labels={"team": "blue"})
    assert listed(admin_client, text) == suggested(admin_client, text) == {key.pk}
    assert other.pk in listed(admin_client, "")


def test_every_word_of_a_search_has_to_fit(admin_client):
    both, _ = named("atlas production"), named("atlas staging")
    assert listed(admin_client, "atlas prod") == {both.pk}
    assert listed(admin_client, "atlas prod x") == set()


@pytest.mark.parametrize("text", ["'", "' | 'atlas", "!atlas", "atlas:*", "\\", "…", "a & !b", "%", "_", "("])
def test_signs_in_a_search_are_no_operators(admin_client, text):
    key = named("atlas production")
    assert listed(admin_client, text) in (set(), {key.pk})
    assert listed(admin_client, "!zenith") == set()


def test_texts_inside_of_words_are_found_among_the_newest_keys_if_no_word_begins_so(admin_client, monkeypatch):
    oldest, middle, newest = named("first-blueprint"), named("second-blueprint"), named("third-blueprint")
    assert listed(admin_client, "print") == {oldest.pk, middle.pk, newest.pk}
    monkeypatch.setattr(key_search, "NEWEST", 2)
    assert listed(admin_client, "print") == {middle.pk, newest.pk}
    assert listed(admin_client, "blue") == {oldest.pk, middle.pk, newest.pk}


def test_a_name_of_one_long_word_is_found_by_its_beginning(admin_client):
    key = named("x" * 190)
    assert listed(admin_client, "x" * 70) == {key.pk}


def test_a_key_is_found_by_the_end_of_its_secret_or_a_part_of_that(admin_client):
    key, plain = make_key("deploy")
    make_key("other")
    for text in (plain, plain[-4:], plain[-3:], f"…{plain[-4:]}"):
        assert key.pk in listed(admin_client, text), "an end of the secret"
    assert VirtualKey.objects.filter(pk__in=key_search.with_end(plain[-2:]).values("virtual_key")).contains(key)


def test_the_list_says_what_its_search_finds(admin_client):
    named("atlas")
    page = admin_client.get("/admin/keys/virtualkey/").content.decode()
    assert "The beginning of words of the name, the owner or a label" in page
    assert "newest 20,000 keys" in page
