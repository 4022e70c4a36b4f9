"""What a conversation carries goes back to the account that has it: containers, files, signatures of thinking; and how
the gateway learns which account is whose."""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from hypothesis import given
from hypothesis import strategies as st

from keys import issuing, provider_keys
from keys.accounts import Accounts
from keys.connection import Reader
from keys.directory import KnownProviderKey
from keys.models import Gateway, ProviderKey, Team, VirtualKeyRoute
from messages_api import bindings, carried, plain, tasks
from messages_api.events import StreamMeter
from messages_api.metering import JsonMeter
from messages_api.models import Binding, File
from tests.gateway import (
    CLIENT,
    PROVIDER_SECRET,
    Caller,
    Web,
    admin_connection,
    ask,
    credentials,
    event,
    events,
    issue,
    message,
    post,
    refused,
    row,
    wait_until,
)
from tests.recordings import needs_recordings, recordings
from tests.upstream import Upstream, broken, cut, pieces, whole

FAVOURITE = 1_000_000


class Made:
    """What an account makes in a test: web processes remember what others made."""

    container = file = signature = sealed = ""

    def anew(self) -> None:
        self.container, self.file = f"container_{secrets.token_hex(12)}", f"file_{secrets.token_hex(12)}"
        self.signature, self.sealed = (f"EuMD/+{secrets.token_hex(200)}==" for _ in range(2))


made = Made()


@pytest.fixture(autouse=True)
def _made_anew() -> None:
    made.anew()


@dataclass
class Account:
    """An account with a provider, and the provider key for it."""

    name: str
    upstream: Upstream
    provider_key: ProviderKey

    @property
    def ids(self) -> tuple[str, str]:
        return f"org-{self.name}", f"wrkspc-{self.name}"

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        organization, workspace = self.ids
        return ("anthropic-organization-id", organization), ("anthropic-workspace-id", workspace)

    def answers(self, body: bytes) -> None:
        self.upstream.answer = whole(200, body, *self.headers)

    def streams(self, *parts: bytes) -> None:
        self.upstream.answer = pieces(200, parts, *self.headers)


@pytest.fixture
def second_upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def account(name: str, upstream: Upstream) -> Account:
    secret = PROVIDER_SECRET + name
    key = provider_keys.add_provider_key(name=name, provider="anthropic", base_url=upstream.url, secret=secret)
    new = Account(name, upstream, key)
    new.answers(message())
    return new


@pytest.fixture
def here(served: None, upstream: Upstream) -> Account:
    return account("here", upstream)


@pytest.fixture
def there(served: None, second_upstream: Upstream) -> Account:
    return account("there", second_upstream)


@pytest.fixture
def alice(here: Account, there: Account) -> Caller:
    """Alice's key leads to both accounts."""
    return issue(here.upstream, provider_keys=[(here.provider_key, 1), (there.provider_key, 1)])


def prefer(caller: Caller, account: Account) -> None:
    """What is bound to nothing goes to this account from now on."""
    routes = VirtualKeyRoute.objects.filter(virtual_key=caller.virtual_key)
    routes.update(weight=1)
    routes.filter(provider_key=account.provider_key).update(weight=FAVOURITE)


def leave_out(caller: Caller, account: Account) -> None:
    """The key no longer leads to this account."""
    VirtualKeyRoute.objects.filter(virtual_key=caller.virtual_key, provider_key=account.provider_key).delete()


def goes_to(web: Web, caller: Caller, body: dict[str, Any] | bytes, path: str = "/v1/messages") -> str:
    """Call; the secret of the provider key that was used tells whose account answered."""
    answer = post(web, caller.key, body, path)
    assert answer.status_code == 200, answer.text
    seen = max((each for upstream in Upstreams for each in upstream.seen), key=lambda each: each.arrived)
    return seen.values("x-api-key")[0].removeprefix(PROVIDER_SECRET)


Upstreams: list[Upstream] = []


@pytest.fixture(autouse=True)
def _upstreams(request: pytest.FixtureRequest) -> None:
    if "here" in request.fixturenames:
        Upstreams[:] = [request.getfixturevalue("upstream"), request.getfixturevalue("second_upstream")]


# What answers bind, in JSON and in events


def container(hours: float = 1, name: str = "") -> dict[str, str]:
    return {
        "id": name or made.container,
        "expires_at": (datetime.now(UTC) + timedelta(hours=hours)).isoformat().replace("+00:00", "Z"),
    }


def made_file(*name: Any) -> dict[str, Any]:
    """The result of a tool that made a file, of another name if there is one."""
    output = {"type": "bash_code_execution_output", "file_id": name[0] if name else made.file}
    result = {"type": "bash_code_execution_result", "stdout": "", "stderr": "", "return_code": 0, "content": [output]}
    return {"type": "bash_code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": result}


def thinking(signature: str = "") -> dict[str, Any]:
    return {"type": "thinking", "thinking": "Hm.", "signature": signature or made.signature}


def redacted() -> dict[str, Any]:
    return {"type": "redacted_thinking", "data": made.sealed}


def stream_of(*blocks: dict[str, Any], **first: Any) -> list[bytes]:
    """The events of an answer with these blocks; `first` are members of the message in message_start."""
    start, *_, delta, stop = events("x")
    body = json.loads(start.split(b"data: ")[1])["message"] | first
    parts = [event("message_start", message=body)]
    for index, block in enumerate(blocks):
        begun = block | {"thinking": "", "signature": ""} if block["type"] == "thinking" else block
        parts.append(event("content_block_start", index=index, content_block=begun))
        if block["type"] == "thinking":
            for delta_type, member in (("thinking_delta", "thinking"), ("signature_delta", "signature")):
                part = {"type": delta_type, member: block[member]}
                parts.append(event("content_block_delta", index=index, delta=part))
        parts.append(event("content_block_stop", index=index))
    return [*parts, delta, stop]


def late_container(**container: str) -> list[bytes]:
    """A stream that names its container at the end, as Anthropic's do."""
    *parts, _, stop = events("x")
    delta = {"stop_reason": "end_turn", "stop_sequence": None, "container": container}
    return [*parts, event("message_delta", delta=delta, usage={"output_tokens": 7}), stop]


def binds(account: Account, kind: str, *, streamed: bool) -> None:
    """Let the account's next answers bind something of this kind."""
    blocks = {"file": made_file(), "signature": thinking(), "sealed": redacted()}
    if kind == "container":
        if streamed:
            account.streams(*late_container(**container()))
        else:
            account.answers(message(container=container()))
    elif streamed:
        account.streams(*stream_of(blocks[kind]))
    else:
        account.answers(message(content=[blocks[kind]]))


def carrying(kind: str, **members: Any) -> dict[str, Any]:
    """A request that carries it."""
    if kind == "container":
        return ask(container=made.container, **members)
    block = {
        "file": {"type": "container_upload", "file_id": made.file},
        "signature": thinking(),
        "sealed": redacted(),
    }[kind]
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": [block]}]
    if kind == "file":
        turns = [{"role": "user", "content": [block]}]
    return ask(messages=turns, **members)


KINDS = ["container", "file", "signature", "sealed"]


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
def test_a_stream_binds_the_same_whatever_the_cuts(
    web: Web, alice: Caller, here: Account, there: Account, seed: int
) -> None:
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
def test_a_name_that_is_none_is_not_kept(web: Web, alice: Caller, here: Account, there: Account, name: Any) -> None:
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


# Whose it is


def other_team(alice: Caller, name: str = "charlie", team: str | None = "Sales") -> Caller:
    owner = Team.objects.create(customer=alice.virtual_key.customer, name=team) if team else None
    routes = [(route.provider_key, route.weight) for route in alice.virtual_key.routes.order_by("pk")]
    return issue(None, name, team=owner, provider_keys=routes)


def made_by_alice(web: Web, alice: Caller, there: Account) -> None:
    """Alice's team has a container and a file, there."""
    there.answers(message(container=container(), content=[made_file()]))
    prefer(alice, there)
    goes_to(web, alice, ask())
    there.answers(message())


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
def test_what_nobody_has_seen_passes_untouched(
    web: Web, alice: Caller, here: Account, there: Account, kind: str
) -> None:
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


def test_more_files_than_anybody_needs_are_refused(web: Web, alice: Caller) -> None:
    blocks = [{"type": "container_upload", "file_id": f"file_{number}"} for number in range(1001)]
    answer = post(web, alice.key, ask(messages=[{"role": "user", "content": blocks}]))
    assert "more than 1000 files" in refused(answer, 400, "invalid_request_error")


# Where it is


@pytest.mark.parametrize("kind", ["container", "file"])
def test_an_account_that_the_key_has_lost_is_said(
    web: Web, alice: Caller, here: Account, there: Account, kind: str
) -> None:
    made_by_alice(web, alice, there)
    leave_out(alice, there)
    said = refused(post(web, alice.key, carrying(kind)), 404, "not_found_error")
    assert {"container": made.container, "file": made.file}[kind] in said
    assert "account" in said
    assert not here.upstream.seen


def test_a_provider_key_that_is_switched_off_takes_its_files_along(
    web: Web, alice: Caller, here: Account, there: Account
) -> None:
    made_by_alice(web, alice, there)
    ProviderKey.objects.filter(pk=there.provider_key.pk).update(active=False)
    assert made.file in refused(post(web, alice.key, carrying("file")), 404, "not_found_error")
    ProviderKey.objects.filter(pk=there.provider_key.pk).update(active=True)
    assert goes_to(web, alice, carrying("file")) == "there"


def test_a_signature_whose_account_the_key_has_lost_is_left_to_the_provider(
    web: Web, alice: Caller, here: Account, there: Account
) -> None:
    third = account("third", here.upstream)
    VirtualKeyRoute.objects.create(virtual_key=alice.virtual_key, provider_key=third.provider_key)
    binds(there, "signature", streamed=False)
    prefer(alice, there)
    goes_to(web, alice, ask())
    leave_out(alice, there)
    prefer(alice, here)
    assert goes_to(web, alice, carrying("signature")) == "here"


def learn_accounts(web: Web, caller: Caller, *accounts: Account) -> None:
    """Call each, and wait until the gateway knows what they are."""
    for each in accounts:
        prefer(caller, each)
        goes_to(web, caller, ask())
    for each in accounts:
        wait_until(ProviderKey.objects.filter(pk=each.provider_key.pk).exclude(organization_id="").exists)


@pytest.mark.parametrize("kind", KINDS)
def test_neither_another_attempt_nor_a_fallback_leaves_the_account(
    web: Web, alice: Caller, here: Account, there: Account, kind: str
) -> None:
    binds(there, kind, streamed=False)
    prefer(alice, there)
    goes_to(web, alice, ask())
    ProviderKey.objects.filter(pk=here.provider_key.pk).update(model_patterns=["claude-opus-*", "claude-haiku-*"])
    ProviderKey.objects.filter(pk=there.provider_key.pk).update(model_patterns=["claude-opus-*"])
    prefer(alice, here)
    there.upstream.answer = whole(529, b'{"type":"error","error":{"type":"overloaded_error","message":"No"}}')
    before = len(here.upstream.seen)
    answer = post(web, alice.key, carrying(kind, fallbacks=["claude-haiku-4-5"]))
    assert (answer.status_code, answer.headers["x-bf-attempts"]) == (529, "3")
    assert len(here.upstream.seen) == before
    assert post(web, alice.key, ask(fallbacks=["claude-haiku-4-5"])).status_code == 200


def test_another_provider_key_of_the_same_account_will_do(
    web: Web, alice: Caller, here: Account, there: Account
) -> None:
    made_by_alice(web, alice, there)
    twin = Account("twin", there.upstream, account("twin", there.upstream).provider_key)
    there.answers(message())  # the twin's answers come from the same account
    VirtualKeyRoute.objects.create(virtual_key=alice.virtual_key, provider_key=twin.provider_key)
    learn_accounts(web, alice, here, there, twin)
    leave_out(alice, there)
    prefer(alice, here)
    assert goes_to(web, alice, carrying("container")) == "twin"


def test_another_workspace_of_the_same_organisation_will_not(
    web: Web, alice: Caller, here: Account, there: Account
) -> None:
    made_by_alice(web, alice, there)
    here.upstream.answer = whole(200, message(), there.headers[0], ("anthropic-workspace-id", "wrkspc-other"))
    learn_accounts(web, alice, here, there)
    leave_out(alice, there)
    refused(post(web, alice.key, carrying("container")), 404, "not_found_error")


def test_two_that_are_in_different_accounts_are_refused_by_name(
    web: Web, alice: Caller, here: Account, there: Account
) -> None:
    there.answers(message(container=container()))
    here.answers(message(content=[made_file()]))
    learn_accounts(web, alice, here, there)
    asked = len(there.upstream.seen) + len(here.upstream.seen)
    said = refused(
        post(web, alice.key, carrying("file", container={"id": made.container})), 400, "invalid_request_error"
    )
    assert made.container in said
    assert made.file in said
    assert len(there.upstream.seen) + len(here.upstream.seen) == asked


def test_counting_tokens_goes_there_too(web: Web, alice: Caller, here: Account, there: Account) -> None:
    made_by_alice(web, alice, there)
    prefer(alice, here)
    there.answers(b'{"input_tokens": 3}')
    body = carrying("file")
    del body["max_tokens"]
    assert goes_to(web, alice, body, "/v1/messages/count_tokens") == "there"


def test_of_several_signatures_the_last_counts(web: Web, alice: Caller, here: Account, there: Account) -> None:
    for each, name in ((here, "AAAA"), (there, "BBBB")):
        each.answers(message(content=[thinking(name)]))
    learn_accounts(web, alice, here, there)
    prefer(alice, here)
    turns = [{"role": "user", "content": "Hello"}]
    for name in ("AAAA", "BBBB"):
        turns.append({"role": "assistant", "content": [thinking(name)]})  # type: ignore[dict-item]
    tool = {"type": "tool_use", "id": "toolu_1", "name": "t", "input": {"signature": "def f()"}}
    turns.append({"role": "assistant", "content": [tool]})  # type: ignore[dict-item]
    assert goes_to(web, alice, ask(messages=turns)) == "there"


def test_the_turns_of_a_conversation_stay_together_on_any_process(
    web: Web, start_web: Callable[..., Web], alice: Caller, here: Account, there: Account
) -> None:
    processes = [web, start_web(1, ping_seconds=14)]
    used = set()
    for number in range(12):
        turns = [{"role": "user", "content": f"Question {number}"}]
        first = goes_to(processes[number % 2], alice, ask(messages=turns))
        used.add(first)
        for turn in range(3):
            turns += [{"role": "assistant", "content": "Hm"}, {"role": "user", "content": f"Go on {turn}"}]
            assert goes_to(processes[turn % 2], alice, ask(messages=turns)) == first
    assert used == {"here", "there"}


def test_a_session_stays_together_whatever_it_says(web: Web, alice: Caller, here: Account, there: Account) -> None:
    used = set()
    for session in range(12):
        headers = credentials(alice.key) | {"x-claude-code-session-id": f"session-{session}"}
        before = len(here.upstream.seen)
        for turn in range(3):
            CLIENT.post(web.url + "/v1/messages", content=json.dumps(ask(f"Turn {turn}")).encode(), headers=headers)
        assert len(here.upstream.seen) - before in (0, 3)
        used.add(len(here.upstream.seen) - before)
    assert used == {0, 3}


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


def test_what_has_expired_is_deleted_and_nothing_else(alice: Caller) -> None:
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


# Learning which account it is


def test_what_a_provider_says_of_the_account_is_learned_and_not_told_to_callers(
    web: Web, alice: Caller, here: Account, there: Account
) -> None:
    prefer(alice, here)
    answer = post(web, alice.key, ask())
    assert not any(name.startswith("anthropic-organization") for name in answer.headers)
    wait_until(ProviderKey.objects.exclude(organization_id="").exists)
    learned = ProviderKey.objects.get(name="here")
    assert (learned.organization_id, learned.workspace_id) == here.ids
    assert ProviderKey.objects.get(name="there").organization_id == ""


@pytest.mark.parametrize("change", [{"base_url": "https://elsewhere.example"}, {"secret_ciphertext": b"another"}])
def test_it_is_forgotten_where_it_may_be_another_account(there: Account, change: dict[str, Any]) -> None:
    row = ProviderKey.objects.filter(pk=there.provider_key.pk)
    row.update(organization_id="org", workspace_id="ws", account_learned_at=datetime.now(UTC))
    row.update(name="renamed", active=False)
    assert row.get().organization_id == "org"
    row.update(**change)
    changed = row.get()
    assert (changed.organization_id, changed.workspace_id, changed.account_learned_at) == ("", "", None)


def revision() -> int:
    return Gateway.objects.get().catalogue_revision


async def test_a_front_end_that_changes_its_mind_moves_the_catalogue_once_a_minute(there: Account) -> None:
    known = KnownProviderKey(there.provider_key.pk, "there", "anthropic", "", "", ())
    before = await sync_to_async(revision)()
    reader = Reader("test")
    try:
        processes = [Accounts(reader) for _ in range(3)]
        for number in range(12):
            process = processes[number % 3]
            process.note(known, (f"org-{number % 2}", ""))
            await process.flush()
            process.tried.clear()  # as another process would
        assert await sync_to_async(revision)() == before + 1
        await reader.fetch("UPDATE keys_providerkey SET account_learned_at = now() - interval '61 seconds'")
        between = await sync_to_async(revision)()
        processes[0].note(known, ("org-1", ""))
        await processes[0].flush()
        assert await sync_to_async(revision)() == between + 1
    finally:
        await reader.close()


@pytest.mark.parametrize("account", [("", ""), ("", "ws"), ("org", "ws")])
async def test_what_is_known_or_not_said_is_not_written(there: Account, account: tuple[str, str]) -> None:
    known = KnownProviderKey(there.provider_key.pk, "there", "anthropic", "", "", (), "org", "ws")
    accounts = Accounts(Reader("test"))
    accounts.note(known, account)
    assert not accounts.heard


def test_a_nonsensical_account_is_written_as_far_as_it_can_be(
    web: Web, alice: Caller, here: Account, there: Account
) -> None:
    prefer(alice, here)
    here.upstream.answer = whole(200, message(), ("anthropic-organization-id", "ü" * 500))
    assert post(web, alice.key, ask()).status_code == 200
    wait_until(ProviderKey.objects.exclude(organization_id="").exists)
    assert ProviderKey.objects.get(name="here").organization_id == "ü" * 200
    assert row().status == "completed"
