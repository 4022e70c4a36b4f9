"""Where a call may go that carries what only one account understands."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from keys.models import ProviderKey, VirtualKeyRoute
from tests.support.accounts import (
    KINDS,
    Account,
    account,
    binds,
    carrying,
    container,
    goes_to,
    learn_accounts,
    leave_out,
    made,
    made_by_alice,
    made_file,
    prefer,
    thinking,
)
from tests.support.accounts import _made_anew as _made_anew
from tests.support.accounts import _upstreams as _upstreams
from tests.support.accounts import alice as alice
from tests.support.accounts import here as here
from tests.support.accounts import second_upstream as second_upstream
from tests.support.accounts import there as there
from tests.support.fake_provider import whole
from tests.support.gateway import (
    CLIENT,
    Caller,
    Web,
    ask,
    credentials,
    message,
    post,
    refused,
)


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


def test_the_last_of_several_signatures_counts(web: Web, alice: Caller, here: Account, there: Account) -> None:
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


def test_a_session_stays_at_one_account_with_any_contents(
    web: Web, alice: Caller, here: Account, there: Account
) -> None:
    used = set()
    for session in range(12):
        headers = credentials(alice.key) | {"x-claude-code-session-id": f"session-{session}"}
        before = len(here.upstream.seen)
        for turn in range(3):
            CLIENT.post(web.url + "/v1/messages", content=json.dumps(ask(f"Turn {turn}")).encode(), headers=headers)
        assert len(here.upstream.seen) - before in (0, 3)
        used.add(len(here.upstream.seen) - before)
    assert used == {0, 3}
