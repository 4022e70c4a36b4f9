"""What a team's conversations carry is the team's own: containers, files, kept conversations."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest

from keys.models import Team
from messages_api.models import Binding
from tests.support.accounts import FAVOURITE, KINDS, Account, carrying, goes_to, made, made_by_alice, prefer, stream_of
from tests.support.accounts import _made_anew as _made_anew
from tests.support.accounts import _upstreams as _upstreams
from tests.support.accounts import alice as alice
from tests.support.accounts import here as here
from tests.support.accounts import second_upstream as second_upstream
from tests.support.accounts import there as there
from tests.support.gateway import (
    Caller,
    Web,
    ask,
    issue,
    message,
    post,
    refused,
)


def other_team(alice: Caller, name: str = "charlie", team: str | None = "Sales") -> Caller:
    owner = Team.objects.create(customer=alice.virtual_key.customer, name=team) if team else None
    routes = [(route.provider_key, route.weight) for route in alice.virtual_key.routes.order_by("pk")]
    return issue(None, name, team=owner, provider_keys=routes)


@pytest.mark.parametrize("kind", ["container", "file"])
@pytest.mark.parametrize("team", ["Sales", None])
def test_another_teams_is_as_if_it_were_not_there(
    web: Web, alice: Caller, here: Account, there: Account, kind: str, team: str | None
) -> None:
    made_by_alice(web, alice, there)
    charlie = other_team(alice, team=team)
    asked = len(there.upstream.seen) + len(here.upstream.seen)
    answer = post(web, charlie.key, carrying(kind))
    wanted = {"container": f"Container not found: {made.container}", "file": f"File not found: {made.file}"}[kind]
    assert refused(answer, 404, "not_found_error") == wanted
    assert len(there.upstream.seen) + len(here.upstream.seen) == asked


@pytest.mark.parametrize("streamed", [False, True])
def test_a_conversation_that_its_provider_keeps_goes_on_for_its_team_alone(
    web: Web, alice: Caller, here: Account, there: Account, streamed: bool
) -> None:
    said = f"msg_{secrets.token_hex(12)}"
    if streamed:
        there.streams(*stream_of(id=said))
    else:
        there.answers(message(id=said))
    prefer(alice, there)
    assert goes_to(web, alice, ask(thread={"type": "create"}, stream=streamed)) == "there"
    there.answers(message())
    prefer(alice, here)
    going_on = ask("What did I say?", thread={"type": "continue", "previous_message_id": said})
    assert goes_to(web, alice, going_on) == "there"
    charlie = other_team(alice)
    asked = len(there.upstream.seen) + len(here.upstream.seen)
    for spelled in (json.dumps(going_on), json.dumps(going_on).replace("previous_", "previous\\u005f")):
        answer = post(web, charlie.key, spelled.encode())
        assert refused(answer, 404, "not_found_error") == f"Thread not found: {said}"
    assert len(there.upstream.seen) + len(here.upstream.seen) == asked


def test_an_answer_without_a_thread_is_not_kept(web: Web, alice: Caller, here: Account, there: Account) -> None:
    prefer(alice, there)
    goes_to(web, alice, ask())
    assert not Binding.objects.exists()


def test_what_the_database_has_forgotten_every_process_has(
    web: Web, alice: Caller, here: Account, there: Account
) -> None:
    made_by_alice(web, alice, there)
    charlie = other_team(alice)
    refused(post(web, charlie.key, carrying("container")), 404, "not_found_error")
    Binding.objects.all().delete()
    prefer(charlie, here)
    assert goes_to(web, charlie, carrying("container")) == "here"


def test_the_keys_of_a_team_share_what_they_have(web: Web, alice: Caller, here: Account, there: Account) -> None:
    made_by_alice(web, alice, there)
    routes = [(here.provider_key, FAVOURITE), (there.provider_key, 1)]
    bob = issue(None, "bob", team=alice.team, provider_keys=routes)
    assert goes_to(web, bob, carrying("file")) == "there"


def test_what_a_key_without_a_team_has_is_its_own(web: Web, alice: Caller, here: Account, there: Account) -> None:
    dora, eve = other_team(alice, "dora", None), other_team(alice, "eve", None)
    made_by_alice(web, dora, there)
    prefer(dora, here)
    assert goes_to(web, dora, carrying("container")) == "there"
    refused(post(web, eve.key, carrying("container")), 404, "not_found_error")
    refused(post(web, alice.key, carrying("container")), 404, "not_found_error")


HIDDEN = [
    '"file\\u005fid": "FILE"',
    '"\\u0066\\u0069\\u006c\\u0065\\u005F\\u0069\\u0064": "FILE"',
    '"file_id" :\n "\\u0066FILE"',
    '"x\\"": 1, "file_id": "FILE"',
    '"x": "\\\\u0061\\u0061", "file\\u005fid": "FILE"',
]


@pytest.mark.parametrize("written", HIDDEN)
def test_no_way_to_write_it_hides_another_teams_file(
    web: Web, alice: Caller, here: Account, there: Account, written: str
) -> None:
    made_by_alice(web, alice, there)
    charlie = other_team(alice)
    written = written.replace("\\u0066FILE", "\\u0066" + made.file[1:]).replace("FILE", made.file)
    block = '{"type": "container_upload", ' + written + "}"
    body = json.dumps(ask(messages=[{"role": "user", "content": ["BLOCK"]}])).replace('"BLOCK"', block).encode()
    refused(post(web, charlie.key, body), 404, "not_found_error")


@pytest.mark.parametrize(
    "written",
    [
        '"c\\u006fntainer": "CONTAINER"',
        '"container": {"i\\u0064": "CONTAINER", "skills": []}',
        '"metadata": {"user_id": "\\\\u0061"}, "container": "CONTAINER"',
    ],
)
def test_no_way_to_write_it_hides_another_teams_container(
    web: Web, alice: Caller, here: Account, there: Account, written: str
) -> None:
    made_by_alice(web, alice, there)
    charlie = other_team(alice)
    body = json.dumps(ask())[:-1] + ", " + written.replace("CONTAINER", made.container) + "}"
    refused(post(web, charlie.key, body.encode()), 404, "not_found_error")


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_ids_pass_unchanged(web: Web, alice: Caller, here: Account, there: Account, kind: str) -> None:
    prefer(alice, here)
    body = json.dumps(carrying(kind)).encode()
    assert goes_to(web, alice, body) == "here"
    assert here.upstream.last.body == body


@pytest.mark.parametrize(
    "members",
    [
        {"container": "container \x00"},
        {"container": {}},
        {"container": {"id": 7}},
        {"container": None},
        {"messages": [{"role": "user", "content": [{"type": "later", "file_id": "\x00", "container": [1]}]}]},
        {"messages": [{"role": "user", "content": [{"type": "later", "signature": None, "data": {"file_id": 1}}]}]},
    ],
)
def test_what_can_be_no_id_passes_untouched(
    web: Web, alice: Caller, here: Account, there: Account, members: dict[str, Any]
) -> None:
    assert goes_to(web, alice, ask(**members)) in ("here", "there")


def test_too_many_files_are_refused(web: Web, alice: Caller) -> None:
    blocks = [{"type": "container_upload", "file_id": f"file_{number}"} for number in range(1001)]
    answer = post(web, alice.key, ask(messages=[{"role": "user", "content": blocks}]))
    assert "more than 1000 files" in refused(answer, 400, "invalid_request_error")
