"""How long an answer may be: a key and its team have a default for `max_tokens`, and a ceiling."""

from __future__ import annotations

import json

import pytest
from django.contrib.auth.models import User
from hypothesis import given
from hypothesis import strategies as st

from keys.models import ModelAlias, Team, VirtualKey
from messages_api.json_text import byte_edits
from messages_api.request import schema
from messages_api.server.errors import GatewayError
from tests.admin.test_budget_pages import none_of
from tests.admin.test_key_pages import page
from tests.keys.test_commands import refusal, run
from tests.support.admin_forms import change
from tests.support.batch_provider import BatchProvider
from tests.support.fake_provider import pieces, whole
from tests.support.gateway import (
    CLIENT,
    MODEL,
    ask,
    credentials,
    events,
    issue,
    message,
    post,
    refused,
    row,
    rows,
    wait_until,
)
from tests.support.issued import make_key
from usage.models import LedgerEntry, Refusal

FIELD_REQUIRED = "max_tokens: Field required"


def unsaid(**members):
    """A request that names no `max_tokens`."""
    return {name: value for name, value in ask(**members).items() if name != "max_tokens"}


def too_many(asked, ceiling, member="max_tokens"):
    said = f"{asked} > {ceiling}, which is the maximum allowed number of output tokens for this virtual key"
    return f"{member}: {said}"


def bounds(virtual_key, **fields):
    VirtualKey.objects.filter(pk=virtual_key.pk).update(**fields)


def team_bounds(**fields):
    Team.objects.update(**fields)


def test_the_default_is_put_into_a_body_that_names_none_and_nothing_else_changes(web, alice, upstream):
    bounds(alice.virtual_key, default_max_tokens=300)
    upstream.answer = whole(200, message())
    body = json.dumps(unsaid(text="Grüße"), indent=3, ensure_ascii=False).encode()
    assert post(web, alice.key, body).status_code == 200
    assert upstream.last.body == b'{"max_tokens":300,' + body[1:]
    assert upstream.last.values("content-length") == [str(len(upstream.last.body))]


@pytest.mark.parametrize(("ceiling", "sent"), [(None, 5000), (8000, 5000), (4500, 4500)])
def test_the_default_leaves_room_for_what_the_request_may_think(web, alice, upstream, ceiling, sent):
    bounds(alice.virtual_key, default_max_tokens=1000, max_tokens=ceiling)
    upstream.answer = whole(200, message())
    thinking = {"type": "enabled", "budget_tokens": 4000}
    assert post(web, alice.key, unsaid(thinking=thinking)).status_code == 200
    assert json.loads(upstream.last.body)["max_tokens"] == sent
    post(web, alice.key, ask(thinking=thinking, max_tokens=sent))
    without, named = rows(2)
    assert abs(without.held - named.held) < named.held / 100
    bounds(alice.virtual_key, default_max_tokens=4001)
    post(web, alice.key, unsaid(thinking=thinking))
    assert json.loads(upstream.last.body)["max_tokens"] == min(4001, ceiling or 4001)


def test_the_default_is_what_is_held_of_the_budget(web, alice, upstream):
    bounds(alice.virtual_key, default_max_tokens=1000)
    upstream.answer = whole(200, message())
    post(web, alice.key, unsaid())
    post(web, alice.key, ask(max_tokens=1000))
    without, named = rows(2)
    # It costs what the same costs when it is named, but for the few bytes of the member.
    assert named.held > without.held > named.held * 98 / 100


def test_what_a_caller_names_is_left_as_it_is(web, alice, upstream):
    bounds(alice.virtual_key, default_max_tokens=300)
    upstream.answer = whole(200, message())
    for body in (json.dumps(ask(max_tokens=7)).encode(), json.dumps(ask()).replace("_t", r"\u005ft").encode()):
        assert post(web, alice.key, body).status_code == 200
        assert upstream.last.body == body


def test_a_model_by_another_name_gets_the_default_too(web, alice, upstream):
    ModelAlias.objects.create(name="fast", target="anthropic/claude-haiku-4-5")
    bounds(alice.virtual_key, default_max_tokens=300)
    upstream.answer = whole(200, message(model="claude-haiku-4-5"))
    assert post(web, alice.key, unsaid(model="fast")).status_code == 200
    sent = unsaid(model="claude-haiku-4-5") | {"max_tokens": 300}
    assert json.loads(upstream.last.body) == sent


def test_a_stream_gets_the_default_too(web, echo_alice):
    bounds(echo_alice.virtual_key, default_max_tokens=2)
    answer = post(web, echo_alice.key, unsaid(model="echo", text="one two three four", stream=True))
    assert '"stop_reason":"max_tokens"' in answer.text.replace(" ", "")
    assert row().output_tokens == 2


def test_without_a_default_it_is_required(web, alice, upstream):
    assert refused(post(web, alice.key, unsaid()), 400, "invalid_request_error") == FIELD_REQUIRED
    assert refused(post(web, alice.key, ask(max_tokens=None)), 400, "invalid_request_error").startswith("max_tokens: ")
    assert not upstream.seen


def test_a_key_that_has_just_got_a_default_is_not_refused_by_what_was_known_before(web, alice, upstream):
    upstream.answer = whole(200, message())
    post(web, alice.key, ask())
    bounds(alice.virtual_key, default_max_tokens=300)
    assert post(web, alice.key, unsaid()).status_code == 200
    bounds(alice.virtual_key, default_max_tokens=200)
    post(web, alice.key, unsaid())
    assert json.loads(upstream.last.body)["max_tokens"] == 200
    bounds(alice.virtual_key, default_max_tokens=None)
    assert refused(post(web, alice.key, unsaid()), 400, "invalid_request_error") == FIELD_REQUIRED


def test_a_request_above_the_ceiling_is_refused_and_one_at_it_passes(web, alice, upstream):
    bounds(alice.virtual_key, max_tokens=64)
    upstream.answer = whole(200, message())
    answer = post(web, alice.key, ask(max_tokens=65))
    assert refused(answer, 400, "invalid_request_error") == too_many(65, 64)
    assert answer.headers["x-should-retry"] == "false"
    assert not upstream.seen
    assert not LedgerEntry.objects.exists()
    assert post(web, alice.key, ask(max_tokens=64)).status_code == 200
    assert post(web, alice.key, ask(max_tokens=0)).status_code == 200


def test_each_kind_of_ceiling_applies_from_the_next_call_on(web, alice, upstream):
    upstream.answer = whole(200, message())
    assert post(web, alice.key, ask(max_tokens=500)).status_code == 200
    bounds(alice.virtual_key, max_tokens=400)
    assert refused(post(web, alice.key, ask(max_tokens=500)), 400, "invalid_request_error") == too_many(500, 400)
    team_bounds(max_tokens=100)
    assert refused(post(web, alice.key, ask(max_tokens=300)), 400, "invalid_request_error") == too_many(300, 100)
    team_bounds(max_tokens=None)
    bounds(alice.virtual_key, max_tokens=None)
    assert post(web, alice.key, ask(max_tokens=500)).status_code == 200


def test_a_fallback_of_the_providers_may_not_ask_for_more_either(web, alice, upstream):
    bounds(alice.virtual_key, max_tokens=100)
    theirs = [{"model": "claude-haiku-4-5"}, {"model": "claude-haiku-4-5", "max_tokens": 200}]
    answer = post(web, alice.key, ask(fallbacks=theirs))
    assert refused(answer, 400, "invalid_request_error") == too_many(200, 100, "fallbacks.1.max_tokens")


def test_the_default_stands_beside_what_fallbacks_say(web, alice, upstream):
    bounds(alice.virtual_key, default_max_tokens=50)
    upstream.answer = whole(200, message())
    post(web, alice.key, unsaid(fallbacks=[{"model": "claude-haiku-4-5", "max_tokens": 2000}]))
    sent = json.loads(upstream.last.body)
    assert (sent["max_tokens"], sent["fallbacks"][0]["max_tokens"]) == (50, 2000)


@pytest.mark.parametrize(
    ("key", "team", "ceiling", "default"),
    [
        ((None, None), (None, None), None, None),
        ((None, None), (500, 200), 500, 200),
        ((1000, 100), (500, 200), 500, 100),
        ((300, None), (500, 200), 300, 200),
        ((None, 400), (300, 200), 300, 300),
        ((150, None), (None, 200), 150, 150),
    ],
)
def test_the_keys_own_default_and_the_lowest_ceiling_count(web, alice, upstream, key, team, ceiling, default):
    bounds(alice.virtual_key, max_tokens=key[0], default_max_tokens=key[1])
    team_bounds(max_tokens=team[0], default_max_tokens=team[1])
    upstream.answer = whole(200, message())
    quota = CLIENT.get(f"{web.url}/v1/quota", headers=credentials(alice.key)).json()
    assert quota["max_tokens"] == {"ceiling": ceiling, "default": default}
    answer = post(web, alice.key, unsaid())
    if default is None:
        assert refused(answer, 400, "invalid_request_error") == FIELD_REQUIRED
    else:
        assert json.loads(upstream.last.body)["max_tokens"] == default
    assert post(web, alice.key, ask(max_tokens=ceiling or 10**6)).status_code == 200


def test_a_key_of_no_team_has_its_own(web, upstream, served):
    bob = issue(upstream, "bob", team=None, max_tokens=64, default_max_tokens=32)
    upstream.answer = pieces(200, events("Hi"))
    post(web, bob.key, unsaid(stream=True))
    assert json.loads(upstream.last.body)["max_tokens"] == 32
    assert refused(post(web, bob.key, ask(max_tokens=65)), 400, "invalid_request_error") == too_many(65, 64)


def test_counting_tokens_asks_for_none(web, alice, upstream):
    bounds(alice.virtual_key, max_tokens=1, default_max_tokens=1)
    upstream.answer = whole(200, b'{"input_tokens": 3}')
    body = json.dumps(unsaid()).encode()
    assert post(web, alice.key, body, "/v1/messages/count_tokens").status_code == 200
    assert upstream.last.body == body


def test_a_batch_obeys_the_ceiling_and_names_the_request(web, alice, upstream):
    bounds(alice.virtual_key, max_tokens=100, default_max_tokens=50)
    upstream.answer = provider = BatchProvider()
    requests = [{"custom_id": str(at), "params": ask(max_tokens=99 + at)} for at in range(3)]
    answer = post(web, alice.key, {"requests": requests}, "/v1/messages/batches")
    assert refused(answer, 400, "invalid_request_error") == too_many(101, 100, "requests.2.params.max_tokens")
    requests[2]["params"] = unsaid()
    answer = post(web, alice.key, {"requests": requests}, "/v1/messages/batches")
    assert refused(answer, 400, "invalid_request_error") == f"requests.2.params.{FIELD_REQUIRED}"
    assert not provider.batches
    # Together they may be more.
    assert post(web, alice.key, {"requests": requests[:2]}, "/v1/messages/batches").status_code == 200


def test_a_refusal_is_counted_under_a_reason_of_its_own(web, alice, upstream):
    bounds(alice.virtual_key, max_tokens=10)
    post(web, alice.key, ask())
    wait_until(Refusal.objects.filter(reason="max_tokens").exists)


@given(
    st.dictionaries(st.text(max_size=12), st.none() | st.integers() | st.text(max_size=5), max_size=4),
    st.sampled_from([None, 1, "\t"]),
    st.text(" \n\t\r", max_size=3),
    st.integers(1, 10**7),
)
def test_putting_the_default_in_changes_no_other_byte(others, indent, space, default):
    request = others | unsaid()
    request.pop("max_tokens", None)
    body = space.encode() + json.dumps(request, indent=indent, ensure_ascii=False).encode("utf-8", "replace")
    made = byte_edits.Edits(body).insert(b'"max_tokens":%d' % default).apply()
    inserted = b'"max_tokens":%d,' % default
    at = body.index(b"{") + 1
    assert made == body[:at] + inserted + body[at:]
    assert json.loads(made) == json.loads(body) | {"max_tokens": default}


def test_it_is_required_unless_the_key_or_team_has_a_default():
    body = json.dumps(unsaid()).encode()
    with pytest.raises(GatewayError, match=FIELD_REQUIRED):
        schema.parse(body)
    request = schema.parse(body, may_lack_max_tokens=True)
    assert (request.model, request.max_tokens, request.lacks_max_tokens) == (MODEL, 0, True)


@pytest.mark.django_db
class TestSetting:
    """Where they are set."""

    @pytest.fixture(autouse=True)
    def alice(self, settings, tmp_path):
        settings.VAR_DIR = tmp_path
        key = make_key()[0]
        key.refresh_from_db()
        return key

    def test_a_key_is_issued_with_them(self):
        run("issue_virtual_key", "bob", "--max-tokens", "32000", "--default-max-tokens", "4096")
        bob = VirtualKey.objects.get(name="bob")
        assert (bob.max_tokens, bob.default_max_tokens) == (32_000, 4096)

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["--max-tokens", "many"], "“many” is not a whole number"),
            (["--max-tokens", "0"], "max_tokens must be between 1 and 10000000"),
            (["--default-max-tokens", "10000001"], "max_tokens must be between 1 and 10000000"),
            (["--max-tokens", "10", "--default-max-tokens", "11"], "the default for max_tokens (11) is above"),
        ],
    )
    def test_what_cannot_be_meant_is_refused(self, arguments, complaint):
        assert complaint in refusal("issue_virtual_key", "bob", *arguments)
        assert not VirtualKey.objects.filter(name="bob").exists()

    def test_an_admin_sets_them_for_a_team_and_its_keys_are_reloaded(self, client, alice):
        client.force_login(User.objects.create_superuser("root", password=None))
        team = Team.objects.get()
        form = {"name": team.name, "max_tokens": "100", "default_max_tokens": "200"}
        form |= none_of("budgets") | none_of("limits") | none_of("key_rules")
        answer = change(client, page("team", "change", team.pk), form)
        assert "the default for max_tokens (200) is above the ceiling (100)" in answer.content.decode()
        assert VirtualKey.objects.get().revision == alice.revision
        assert change(client, page("team", "change", team.pk), form | {"max_tokens": "300"}).status_code == 302
        team.refresh_from_db()
        assert (team.max_tokens, team.default_max_tokens) == (300, 200)
        assert VirtualKey.objects.get().revision == alice.revision + 1

    def test_another_change_of_a_team_leaves_its_keys_alone(self, alice):
        Team.objects.update(name="Development")
        assert VirtualKey.objects.get().revision == alice.revision
