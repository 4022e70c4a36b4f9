"""Which account keeps a team's files, and how they are found again."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keys.directory import KnownProviderKey
from keys.models import ProviderKey, VirtualKeyRoute
from messages_api.models import File
from messages_api.relay import routing
from tests.support.file_calls import add_account, call, ids, issue_at, upload, uploaded
from tests.support.file_calls import amy as amy
from tests.support.file_calls import provider as provider
from tests.support.files_provider import FilesProvider
from tests.support.gateway import (
    PROVIDER_SECRET,
    Caller,
    Web,
    free_calls,
    refused,
    wait_until,
)


def test_all_uploads_of_a_team_go_to_one_account(web: Web, amy: Caller, provider: FilesProvider) -> None:
    bob = issue_at(provider, "bob")
    for caller in (amy, bob):
        for name in ("second", "third"):
            if not ProviderKey.objects.filter(name=name).exists():
                add_account(provider, caller, name)
            else:
                key = ProviderKey.objects.get(name=name)
                VirtualKeyRoute.objects.create(virtual_key=caller.virtual_key, provider_key=key)
    for caller in (amy, bob) * 4:
        uploaded(web, caller.key)
    assert len({secret for _, _, secret in provider.calls}) == 1


def test_a_file_stays_where_it_is_when_its_team_gets_other_provider_keys(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    file_id = uploaded(web, amy.key)
    for number in range(5):
        add_account(provider, amy, f"later-{number}")
    assert call(web, amy.key, "GET", f"/{file_id}").status_code == 200
    assert provider.calls[-1][2] == PROVIDER_SECRET


def test_another_provider_key_of_the_same_account_takes_over(web: Web, amy: Caller, provider: FilesProvider) -> None:
    provider.accounts[PROVIDER_SECRET] = ("org_acme", "default")
    file_id = uploaded(web, amy.key)
    VirtualKeyRoute.objects.all().delete()
    add_account(provider, amy, "stranger")
    uploaded(web, amy.key)
    VirtualKeyRoute.objects.all().delete()
    add_account(provider, amy, "sibling", "org_acme")
    uploaded(web, amy.key)
    wait_until(lambda: ProviderKey.objects.get(name="sibling").organization_id)
    VirtualKeyRoute.objects.create(
        virtual_key=amy.virtual_key, provider_key=ProviderKey.objects.get(name="stranger"), weight=100
    )
    ProviderKey.objects.filter(name="main").update(active=False)
    assert call(web, amy.key, "GET", f"/{file_id}/content").content == b"hello"
    assert provider.calls[-1][2] == "sk-ant-sibling"


def test_a_file_whose_account_is_out_of_reach_is_not_found_and_says_why(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    file_id = uploaded(web, amy.key)
    VirtualKeyRoute.objects.all().delete()
    add_account(provider, amy, "stranger")
    uploaded(web, amy.key)
    said = refused(call(web, amy.key, "GET", f"/{file_id}"), 404, "not_found_error")
    assert "account" in said


def test_a_provider_without_files_is_a_404_that_says_so(web: Web, echo_alice: Caller) -> None:
    assert "anthropic" in refused(upload(web, echo_alice.key), 404, "not_found_error")
    assert ids(call(web, echo_alice.key, "GET")) == []


def test_an_error_about_the_gateways_account_is_hidden_from_the_caller(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    provider.status = 401
    refused(upload(web, amy.key), 503, "api_error")
    assert File.objects.count() == 0
    assert free_calls(amy.virtual_key, 1) == {("files.upload", "refused_by_provider"): 1}


# Rendezvous


def known(number: int, weight: int = 1) -> tuple[KnownProviderKey, int]:
    return KnownProviderKey(number, f"key {number}", "anthropic", "", "", ()), weight


WEIGHTED = st.dictionaries(st.integers(1, 1 << 40), st.integers(1, 1_000_000), min_size=1, max_size=8)


@settings(derandomize=True, deadline=None)
@given(st.text(), WEIGHTED)
def test_a_name_keeps_its_provider_key_while_others_come_and_go(name: str, weights: dict[int, int]) -> None:
    routes = [known(*each) for each in weights.items()]
    chosen = routing.rendezvous(name, routes)
    assert routing.rendezvous(name, routes[::-1]) == chosen
    for route in routes:
        if route[0] != chosen:
            assert routing.rendezvous(name, [other for other in routes if other != route]) == chosen


@settings(derandomize=True, deadline=None)
@given(st.text(), WEIGHTED, st.integers(1, 1 << 40))
def test_more_weight_never_sends_a_name_away(name: str, weights: dict[int, int], more: int) -> None:
    chosen = routing.rendezvous(name, [known(*each) for each in weights.items()])
    assert chosen.id is not None
    weights[chosen.id] += more
    assert routing.rendezvous(name, [known(*each) for each in weights.items()]) == chosen


def test_each_key_meets_its_share_of_names() -> None:
    routes = [known(1, 1), known(2, 2), known(3, 7)]
    met = [routing.rendezvous(f"team {number}", routes).id for number in range(10_000)]
    assert [met.count(number) for number in (1, 2, 3)] == pytest.approx([1000, 2000, 7000], abs=200)
