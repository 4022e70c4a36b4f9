"""Who is let in: credentials in three headers, of three kinds, in every state."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from keys import credentials, issuing, pausing
from keys.models import Credential, CredentialKind, Customer, Gateway, VirtualKey
from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, ask, issue, message, post, refused, row, rows, talk, wait_until
from usage.models import Budget, Hold, LedgerEntry, Refusal, Window

pytestmark = pytest.mark.either_server

FOREIGN = "sk-ant-api03-somebody-elses"


@pytest.fixture(autouse=True)
def answering(upstream):
    upstream.answer = whole(200, message())


def call(web, **headers):
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return CLIENT.post(web.url + "/v1/messages", json=ask(), headers=named)


def mistype(key):
    return key[:20] + ("a" if key[20] != "a" else "b") + key[21:]


@pytest.mark.wire(1)
@pytest.mark.parametrize("header", ["authorization", "x_api_key", "x_bf_vk"])
def test_a_virtual_key_works_in_each_header(web, alice, upstream, header):
    value = f"Bearer {alice.key}" if header == "authorization" else alice.key
    answer = call(web, **{header: value})
    assert answer.status_code == 200
    assert row().virtual_key == alice.virtual_key


def test_the_scheme_may_be_written_in_any_case(web, alice):
    answer = call(web, authorization=f"bearer  {alice.key}")
    assert answer.status_code == 200


@pytest.mark.parametrize("header", ["authorization", "x_api_key", "x_bf_vk"])
@pytest.mark.parametrize("scheme", ["", "Bearer ", "bearer "])
def test_the_scheme_may_be_missing_or_stand_where_none_belongs(web, alice, upstream, header, scheme):
    assert call(web, **{header: scheme + alice.key}).status_code == 200
    assert alice.key.encode() not in b"".join(value for _, value in upstream.last.headers)


@pytest.mark.wire(1)
def test_several_that_agree_are_one(web, alice):
    answer = call(web, authorization=f"Bearer {alice.key}", x_api_key=alice.key, x_bf_vk=alice.key)
    assert answer.status_code == 200


@pytest.mark.parametrize("other", [FOREIGN, "nonsense", "mistyped", "never handed out"])
def test_a_virtual_key_wins_over_other_credentials(web, alice, other):
    if other == "mistyped":
        other = mistype(alice.key)
    elif other == "never handed out":
        other = issue_and_forget()
    first = call(web, authorization=f"Bearer {other}", x_api_key=alice.key)
    second = call(web, authorization=f"Bearer {alice.key}", x_api_key=other)
    third = call(web, x_api_key=other, x_bf_vk=alice.key)
    assert {first.status_code, second.status_code, third.status_code} == {200}
    assert {entry.virtual_key_id for entry in rows(3)} == {alice.virtual_key.id}


def test_a_working_credential_wins_over_others(web, alice, upstream):
    bob = issue(upstream, "bob")
    issuing.revoke(bob.virtual_key)
    first = call(web, authorization=f"Bearer {bob.key}", x_api_key=alice.key)
    second = call(web, authorization=f"Bearer {alice.key}", x_api_key=bob.key)
    assert (first.status_code, second.status_code) == (200, 200)
    assert {entry.virtual_key_id for entry in rows(2)} == {alice.virtual_key.id}
    issuing.revoke(alice.virtual_key)
    refused(call(web, authorization=f"Bearer {bob.key}", x_api_key=alice.key), 401, "authentication_error")


def issue_and_forget():
    virtual_key = VirtualKey.objects.get()
    plain = issuing.issue_gateway_token("forgotten", virtual_key)
    Credential.objects.filter(name="forgotten").delete()
    return plain


def test_only_the_first_three_of_many_credentials_are_looked_up(web, alice, upstream):
    upstream.answer = whole(200, message())
    unknown = [credentials.make(CredentialKind.VIRTUAL_KEY) for _ in range(990)]
    for before, status in ((2, 200), (3, 401), (990, 401)):
        offered = [*unknown[:before], alice.key]
        headers = [(b"x-api-key", each.encode()) for each in offered]
        assert CLIENT.post(web.url + "/v1/messages", json=ask(), headers=headers).status_code == status


def test_no_credential_is_a_401_that_says_what_to_send(web, alice, upstream):
    answer = CLIENT.post(web.url + "/v1/messages", json=ask())
    text = refused(answer, 401, "authentication_error")
    assert "x-api-key" in text
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["www-authenticate"] == "Bearer"
    assert not upstream.seen


@pytest.mark.parametrize("header", ["", "Bearer", "Basic YTpi", "sk-bf-", "Bearer \xff\xfe", "Bearer " + "x" * 9000])
def test_nonsense_in_the_header_is_a_401(web, alice, upstream, header):
    answer = CLIENT.post(web.url + "/v1/messages", json=ask(), headers=[(b"authorization", header.encode("latin-1"))])
    refused(answer, 401, "authentication_error")
    assert not upstream.seen


def test_the_error_for_a_mistyped_key_differs_from_that_for_an_unknown_one(web, alice, upstream):
    mistyped = refused(post(web, mistype(alice.key)), 401, "authentication_error")
    cut_off = refused(post(web, alice.key[:-1]), 401, "authentication_error")
    unknown = refused(post(web, issue_and_forget()), 401, "authentication_error")
    foreign = refused(post(web, FOREIGN), 401, "authentication_error")
    assert mistyped == cut_off
    assert len({mistyped, unknown, foreign}) == 3
    assert not upstream.seen


def test_a_revoked_key_is_refused_from_the_next_call_on(web, alice, upstream):
    answer = post(web, alice.key)
    assert answer.status_code == 200
    issuing.revoke(alice.virtual_key)
    assert "revoked" in refused(post(web, alice.key), 401, "authentication_error")
    assert len(upstream.seen) == 1
    assert len(rows(1)) == 1


def test_an_expired_key_is_refused(web, alice, upstream):
    answer = post(web, alice.key)
    assert answer.status_code == 200
    VirtualKey.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert "expired" in refused(post(web, alice.key), 401, "authentication_error")
    assert len(upstream.seen) == 1


@pytest.mark.parametrize("subject", ["key", "team", "customer", "gateway"])
def test_a_paused_key_is_refused_and_a_resumed_one_is_admitted(web, alice, upstream, subject):
    paused = {
        "key": alice.virtual_key,
        "team": alice.team,
        "customer": Customer.objects.get(),
        "gateway": Gateway.objects.get(),
    }[subject]
    answer = post(web, alice.key)
    assert answer.status_code == 200
    pausing.pause(paused)
    expected = (503, "api_error") if subject == "gateway" else (403, "permission_error")
    assert "paused" in refused(post(web, alice.key), *expected)
    assert len(upstream.seen) == 1
    pausing.resume(paused)
    answer = post(web, alice.key)
    assert answer.status_code == 200


def test_a_gateway_token_calls_as_its_virtual_key(web, alice):
    token = issuing.issue_gateway_token("alice-laptop", alice.virtual_key)
    answer = post(web, token)
    assert answer.status_code == 200
    entry = row()
    assert entry.virtual_key == alice.virtual_key
    assert Credential.objects.get(pk=entry.credential).name == "alice-laptop"
    issuing.revoke_token(Credential.objects.get(name="alice-laptop"))
    assert "revoked" in refused(post(web, token), 401, "authentication_error")
    answer = post(web, alice.key)
    assert answer.status_code == 200


def test_the_providers_own_key_is_refused_by_default(web, alice, upstream):
    refused(post(web, FOREIGN), 401, "authentication_error")
    assert not upstream.seen


def test_the_providers_own_key_passes_where_the_deployment_allows_it(start_web, served, alice, upstream):
    issuing.ensure_passthrough_key("Acme")
    web = start_web(passthrough_customer="Acme", passthrough_base_url=upstream.url)
    answer = post(web, FOREIGN)
    assert answer.status_code == 200
    assert upstream.last.values("x-api-key") == [FOREIGN]
    entry = row()
    assert entry.customer.name == "Acme"
    assert entry.provider_key_id is None
    assert entry.provider == "anthropic"
    body = b'{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}'
    upstream.answer = whole(401, body)
    answer = post(web, FOREIGN)
    assert (answer.status_code, answer.content) == (401, body)


def test_a_made_up_key_of_the_providers_holds_nothing_leaves_nothing_and_ends_its_address(
    start_web, served, alice, upstream
):
    customer = issuing.ensure_passthrough_key("Acme").virtual_key.customer
    Budget.objects.create(customer=customer, amount=1)
    web = start_web(passthrough_customer="Acme", passthrough_base_url=upstream.url, passthrough_failures=3)
    for odd in ("sk-ant-short", "sk-ant-" + "a" * 30 + "!", "sk-other-" + "a" * 30, "sk-ant-" + "a" * 500):
        refused(post(web, odd), 401, "authentication_error")
    assert not upstream.seen

    def answer(seen):
        known = seen.values("x-api-key") == [FOREIGN]
        return whole(200, message()) if known else whole(401, b'{"type":"error"}')

    upstream.answer = answer
    assert post(web, FOREIGN).status_code == 200
    said = [post(web, f"sk-ant-api03-{number:090}").status_code for number in range(6)]
    assert said[:3] == [401, 401, 401]
    assert 429 in said
    made_up = [seen for seen in upstream.seen if seen.values("x-api-key") != [FOREIGN]]
    assert {seen.method for seen in made_up} == {"GET"}, "nothing but a free request"
    # Whom the provider has taken calls on, from the same address.
    assert post(web, FOREIGN).status_code == 200
    upstream.answer = whole(401, b'{"type":"error"}')
    assert post(web, FOREIGN).status_code == 401
    assert post(web, FOREIGN).status_code in (401, 429)
    assert len(rows(2)) == 2
    window = Window.objects.get()
    assert window.held == 0


REFUSED = b'{"type":"error","error":{"type":"authentication_error","message":"no"}}'


def test_a_key_that_can_not_be_tried_for_nothing_leaves_no_row_before_a_call_is_answered(start_web, alice, upstream):
    customer = issuing.ensure_passthrough_key("Acme").virtual_key.customer
    Budget.objects.create(customer=customer, amount=1)
    # Other tests have other processes, which remember what this address has failed at.
    web = start_web(passthrough_customer="Acme", passthrough_base_url=upstream.url, passthrough_failures=4)
    statuses = iter((400, 401, 402, 403))

    def answer(seen):
        if seen.target != "/v1/messages":
            return whole(404, b"")
        taken = seen.values("x-api-key")[0].startswith(FOREIGN)
        return whole(200, message()) if taken else whole(next(statuses), REFUSED)

    upstream.answer = answer
    # Those that the provider takes don't count.
    assert [post(web, f"{FOREIGN}{number}").status_code for number in range(6)] == [200] * 6
    said = [post(web, f"sk-ant-api03-{number:090}").status_code for number in range(6)]
    assert said == [400, 401, 402, 403, 429, 429]
    assert {entry.status for entry in rows(6)} == {"completed"}
    wait_until(lambda: not Hold.objects.exists())
    # It has taken this one: what it says of a request is recorded.
    upstream.answer = whole(400, REFUSED)
    assert post(web, f"{FOREIGN}0").status_code == 400
    assert "refused_by_provider" in {entry.status for entry in rows(7)}


def test_each_key_of_the_providers_has_limits_of_its_own(start_web, served, alice, upstream):
    issuing.ensure_passthrough_key("Acme")
    web = start_web(passthrough_customer="Acme", passthrough_base_url=upstream.url, passthrough_rpm=1)
    assert post(web, FOREIGN).status_code == 200
    answer = post(web, FOREIGN)
    refused(answer, 429, "rate_limit_error")
    assert int(answer.headers["retry-after"]) > 0
    assert post(web, FOREIGN + "-another").status_code == 200


def test_a_mistyped_key_of_ours_is_never_passed_on_to_the_provider(start_web, served, alice, upstream):
    issuing.ensure_passthrough_key("Acme")
    web = start_web(passthrough_customer="Acme", passthrough_base_url=upstream.url)
    refused(post(web, mistype(alice.key)), 401, "authentication_error")
    assert not upstream.seen


@pytest.mark.parametrize("length", [1000, 10**9])
@pytest.mark.parametrize("which", ["none", "mistyped", "unknown"])
def test_a_wrong_credential_is_refused_before_the_body_is_read(web, alice, length, which):
    key = {"none": "", "mistyped": mistype(alice.key), "unknown": issue_and_forget()}[which]
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {key}\r\nContent-Length: {length}\r\n\r\n"
    status, _, body = talk(web, head.encode())
    assert (status, json.loads(body)["error"]["type"]) == (401, "authentication_error")


def test_a_body_that_will_be_too_long_is_refused_before_it_is_read(web, alice):
    head = f"POST /v1/messages HTTP/1.1\r\nHost: x\r\nx-api-key: {alice.key}\r\nContent-Length: {33 << 20}\r\n\r\n"
    status, _, body = talk(web, head.encode())
    assert status == 413
    assert json.loads(body)["error"]["type"] == "request_too_large"


def test_an_allow_list_and_a_deny_list_hold(web, upstream, served):
    bob = issue(upstream, "bob", allowed_models=["claude-*"], denied_models=["claude-opus-*"])
    answer = post(web, bob.key, ask(model="claude-haiku-5-5"))
    assert answer.status_code == 200
    refused(post(web, bob.key, ask(model="claude-opus-5-5")), 403, "permission_error")
    refused(post(web, bob.key, ask(model="gpt-9")), 403, "permission_error")
    assert len(upstream.seen) == 1


def test_a_model_that_no_provider_serves_is_anthropics_404(web, upstream, served):
    bob = issue(upstream, "bob")
    bob.provider_key.model_patterns = ["claude-*"]
    bob.provider_key.save()
    assert refused(post(web, bob.key, ask(model="gpt-9")), 404, "not_found_error") == "model: gpt-9"


def test_a_refusal_has_no_row_and_is_found_by_its_request_id(web, alice):
    issuing.revoke(alice.virtual_key)
    answer = post(web, alice.key)
    found = wait_until(lambda: Refusal.objects.filter(pk=answer.headers["request-id"].removeprefix("req_bf_")).first())
    assert (found.http_status, found.error_type, found.reason) == (401, "authentication_error", "revoked")
    assert found.virtual_key_id == alice.virtual_key.id
    assert found.credential_hint == f"{alice.key[:9]}…{alice.key[-4:]}"
    assert found.requested_model == ask()["model"]
    assert not LedgerEntry.objects.exists()


def test_no_secret_is_in_the_log(web, alice, upstream):
    issuing.revoke(alice.virtual_key)
    post(web, alice.key, ask("the prompt of Alice"))
    post(web, FOREIGN, b'{"model": "the prompt of Alice"')
    text = web.log.read_text()
    leaked = [secret for secret in (alice.key, FOREIGN, "the prompt of Alice") if secret in text]
    assert not leaked
