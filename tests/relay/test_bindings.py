"""What a conversation carries is bound to the account that has it: learned, kept, and sent back there."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys import issuing
from messages_api import tasks
from messages_api.answer.events import StreamMeter
from messages_api.answer.metering import JsonMeter
from messages_api.models import Binding, File
from messages_api.relay import bindings
from messages_api.request import carried, plain
from tests.support.accounts import (
    KINDS,
    Account,
    binds,
    carrying,
    container,
    goes_to,
    made,
    made_file,
    prefer,
    redacted,
    stream_of,
    thinking,
)
from tests.support.accounts import _made_anew as _made_anew
from tests.support.accounts import _upstreams as _upstreams
from tests.support.accounts import alice as alice
from tests.support.accounts import here as here
from tests.support.accounts import second_upstream as second_upstream
from tests.support.accounts import there as there
from tests.support.fake_provider import broken, cut, pieces, whole
from tests.support.gateway import (
    CLIENT,
    Caller,
    Web,
    admin_connection,
    ask,
    credentials,
    issue,
    message,
    post,
    wait_until,
)
from tests.support.recordings import needs_recordings, recordings


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("streamed", [False, True])
def test_it_goes_back_to_the_account_that_it_came_from(
    web: Web, alice: Caller, here: Account, there: Account, kind: str, streamed: bool
) -> None:
    binds(there, kind, streamed=streamed)
    prefer(alice, there)
    assert goes_to(web, alice, ask(stream=streamed)) == "there"
    prefer(alice, here)
    there.answers(message())
    assert goes_to(web, alice, ask()) == "here"
    assert goes_to(web, alice, carrying(kind)) == "there"


@pytest.mark.parametrize("kind", KINDS)
def test_another_process_knows_it_too(
    web: Web, start_web: Callable[..., Web], alice: Caller, here: Account, there: Account, kind: str
) -> None:
    other = start_web(1, ping_seconds=14)
    binds(there, kind, streamed=False)
    prefer(alice, there)
    assert goes_to(web, alice, ask()) == "there"
    prefer(alice, here)
    assert goes_to(other, alice, carrying(kind)) == "there"


@pytest.mark.parametrize("seed", range(6))
def test_a_stream_binds_the_same_at_any_cuts(web: Web, alice: Caller, here: Account, there: Account, seed: int) -> None:
    parts = stream_of(thinking(), made_file(), container=container())
    there.streams(*cut(b"".join(parts), random.Random(seed)))
    prefer(alice, there)
    answer = post(web, alice.key, ask(stream=True))
    assert answer.content == b"".join(parts)
    assert set(Binding.objects.values_list("kind", "name")) == {
        ("container", made.container),
        ("signature", carried.digest(made.signature)),
    }
    assert File.objects.get().id == made.file


def test_it_is_kept_before_the_client_has_it(web: Web, alice: Caller, here: Account, there: Account) -> None:
    there.upstream.answer = [*pieces(200, stream_of(thinking())[:5], *there.headers)[:-1], 5.0]
    prefer(alice, there)
    body = json.dumps(ask(stream=True)).encode()
    with CLIENT.stream("POST", web.url + "/v1/messages", content=body, headers=credentials(alice.key)) as answer:
        for line in answer.iter_lines():
            if "signature_delta" in line:
                break
        assert Binding.objects.get().name == carried.digest(made.signature)


def test_what_a_broken_stream_has_bound_stays_bound(web: Web, alice: Caller, here: Account, there: Account) -> None:
    there.upstream.answer = broken(stream_of(redacted(), container=container())[:2])
    prefer(alice, there)
    post(web, alice.key, ask(stream=True))
    assert {one.name for one in Binding.objects.filter(kind="container")} == {made.container}


def test_what_it_keeps_says_whose_it_is_and_where(web: Web, alice: Caller, here: Account, there: Account) -> None:
    there.answers(message(container=container(hours=2), content=[thinking(), made_file()]))
    prefer(alice, there)
    goes_to(web, alice, ask())
    kept = [*Binding.objects.all(), *File.objects.all()]
    assert len(kept) == 3
    for one in kept:
        assert (one.virtual_key, one.team, one.provider_key) == (alice.virtual_key, alice.team, there.provider_key)
        assert (one.organization_id, one.workspace_id) == there.ids
    assert File.objects.get().described == ""
    lasts = {one.kind: one.expires_at - datetime.now(UTC) for one in Binding.objects.all()}
    assert timedelta(hours=1) < lasts["container"] <= timedelta(hours=2)
    assert timedelta(days=29) < lasts["signature"] <= timedelta(days=30)


def test_a_container_that_goes_on_lasts_longer(web: Web, alice: Caller, here: Account, there: Account) -> None:
    prefer(alice, there)
    for hours in (1, 5):
        there.answers(message(container=container(hours)))
        goes_to(web, alice, ask())
    assert Binding.objects.get().expires_at > datetime.now(UTC) + timedelta(hours=4)


@pytest.mark.parametrize("told", ["", "soon", "9999-12-31T23:59:59Z", "2026-01-01T00:00:00"])
def test_a_containers_expiry_that_makes_no_sense_does_no_harm(told: str) -> None:
    now = datetime.now(UTC)
    assert bindings.expiry(told, now) <= now + timedelta(days=30)


def test_signatures_of_a_key_with_one_account_are_not_kept(web: Web, here: Account, there: Account) -> None:
    bob = issue(here.upstream, "bob", provider_keys=[(here.provider_key, 1)])
    here.answers(message(content=[thinking()], container=container()))
    goes_to(web, bob, ask())
    assert [one.kind for one in Binding.objects.all()] == ["container"]


@pytest.mark.parametrize("status", [400, 529])
def test_an_error_binds_nothing(web: Web, alice: Caller, here: Account, there: Account, status: int) -> None:
    there.upstream.answer = whole(status, message(container=container()), *there.headers)
    prefer(alice, there)
    post(web, alice.key, ask())
    assert not Binding.objects.exists()


@pytest.mark.parametrize("name", ["container_\x00", "c" * 201, "ü", "", 7, None])
def test_an_invalid_name_is_not_stored(web: Web, alice: Caller, here: Account, there: Account, name: Any) -> None:
    there.answers(message(container={"id": name}, content=[made_file(name)]))
    prefer(alice, there)
    goes_to(web, alice, ask())
    assert not Binding.objects.exists()
    assert not File.objects.exists()


def test_a_large_tool_result_still_binds_its_files() -> None:
    block = made_file()
    block["content"]["stdout"] = "x" * 100_000
    meter = StreamMeter()
    meter.feed(b"".join(stream_of(block)))
    assert [state.name for state in meter.states] == [made.file]


@needs_recordings
def test_of_every_recording_it_learns_the_container() -> None:
    found = 0
    for recording in recordings():
        if recording.status != 200:
            continue
        meter = StreamMeter() if recording.streams else JsonMeter()
        if isinstance(meter, StreamMeter):
            meter.feed(recording.body)
        else:
            meter.read(recording.body)
        named = {part[: part.index(b'"')].decode() for part in recording.body.split(b'"container_')[1:]}
        assert {state.name.removeprefix("container_") for state in meter.states if state.kind == "container"} == named
        found += len(named)
    assert found


# When the database is slow, and how long things are kept


def test_a_database_that_is_slow_holds_no_answer_for_long_and_it_is_written_in_the_end(
    web: Web, alice: Caller, here: Account, there: Account
) -> None:
    prefer(alice, there)
    there.answers(message(container=container()))
    with admin_connection() as link, link.transaction():
        link.execute("LOCK TABLE messages_api_binding IN EXCLUSIVE MODE")
        began = datetime.now(UTC)
        assert post(web, alice.key, ask()).status_code == 200
        first = datetime.now(UTC) - began
        assert first > timedelta(seconds=1.5)
        began = datetime.now(UTC)
        there.answers(message(container=container(name="container_2")))
        assert post(web, alice.key, ask()).status_code == 200
        assert datetime.now(UTC) - began < first
    wait_until(lambda: Binding.objects.count() == 2, 10)
    there.answers(message(container=container(name="container_3")))
    assert post(web, alice.key, ask()).status_code == 200
    wait_until(lambda: Binding.objects.filter(name="container_3").exists())


def test_expired_bindings_are_deleted_and_no_others(alice: Caller) -> None:
    for name, hours in (("old", -1), ("new", 1)):
        Binding.objects.create(
            kind="container",
            name=name,
            virtual_key=alice.virtual_key,
            expires_at=datetime.now(UTC) + timedelta(hours=hours),
        )
    tasks.forget_bindings()
    assert [one.name for one in Binding.objects.all()] == ["new"]


def test_callers_with_a_providers_own_key_are_left_alone(
    start_web: Callable[..., Web], alice: Caller, here: Account, there: Account
) -> None:
    issuing.ensure_passthrough_key("Acme")
    web = start_web(passthrough_customer="Acme", passthrough_base_url=here.upstream.url, ping_seconds=13)
    here.answers(message(container=container(), content=[made_file(), thinking()]))
    assert post(web, "sk-ant-the-callers-own-key", ask()).status_code == 200
    assert not Binding.objects.exists()
    assert not File.objects.exists()


# What a body carries


texts = st.sampled_from(["x", '"file_id": "file_no"', '\\"file_id', "\\", "é\\u0061", '{"container":"no"}'])
ids = st.sampled_from(["file_1", "file_2", "file_3"])
documents = st.recursive(
    st.one_of(texts, st.integers(), st.none(), st.booleans()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(texts, st.just("file_id"), st.just("id")), st.one_of(inner, ids), max_size=4),
    ),
    max_leaves=20,
)


def named(document: Any) -> set[str]:
    """Every file that a document names, found by walking it."""
    if isinstance(document, list):
        return set().union(*map(named, document))
    if not isinstance(document, dict):
        return set()
    own = document.get("file_id")
    found = {own} if isinstance(own, str) and carried.ID.fullmatch(own) else set()
    return found.union(*map(named, document.values()))


@given(documents, st.booleans(), st.sampled_from([None, 1]), st.sampled_from([(",", ":"), (" , ", "\t:\n")]))
def test_every_file_that_a_body_names_is_found_and_no_other(
    document: Any, ascii_only: bool, indent: int | None, separators: tuple[str, str]
) -> None:
    body = json.dumps({"messages": document}, ensure_ascii=ascii_only, indent=indent, separators=separators).encode()
    found = {name for kind, name in carried.carried(plain.of(body), signatures=False) if kind == "file"}
    assert found == named(document)
