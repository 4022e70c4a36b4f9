from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone

from keys import issuing, keyring, pausing
from keys.errors import Conflict, Unusable
from keys.models import Credential, CredentialKind, Customer, Gateway, Team, VirtualKey
from tests.support.issued import SECRET, make_key, make_provider_key, opened_by
from tests.support.owner import own_secrets as own_secrets

pytestmark = pytest.mark.django_db


def test_it_stores_no_more_of_a_key_than_its_digest_and_ends():
    alice, plain = make_key()
    credential = alice.credentials.get()
    assert opened_by(plain) == credential
    assert str(credential) == f"{plain[:9]}…{plain[-4:]}"
    assert plain[9:-4] not in str(vars(credential))


def test_it_keeps_the_terms_and_the_weights():
    first, second = make_provider_key("first"), make_provider_key("second")
    ends = datetime(2100, 1, 1, tzinfo=UTC)
    alice, _ = make_key(
        owner="Alice",
        provider_keys=[(first, 3), (second, 1)],
        allowed_models=["claude-*"],
        denied_models=["claude-opus-*"],
        expires_at=ends,
        labels={"project": "atlas"},
    )
    alice.refresh_from_db()
    assert sorted(alice.routes.values_list("provider_key__name", "weight")) == [("first", 3), ("second", 1)]
    assert alice.allows("claude-haiku-4-5")
    assert not alice.allows("claude-opus-4-8")
    assert (alice.owner, alice.expires_at, alice.labels) == ("Alice", ends, {"project": "atlas"})


@pytest.mark.parametrize(
    ("terms", "complaint"),
    [
        ({"name": ""}, "empty"),
        ({"name": "x" * 201}, "longer"),
        ({"name": "a\0b"}, "print"),
        ({"name": "a\ud800b"}, "print"),
        ({"name": "(passed through)"}, "the gateway reserves the name"),
        ({"owner": "a\0"}, "print"),
        ({"owner": "o" * 201}, "the owner is longer"),
        ({"allowed_models": ["no spaces"]}, "pattern"),
        ({"denied_models": [""]}, "pattern"),
        ({"expires_at": datetime(2020, 1, 1, tzinfo=UTC)}, "past"),
        ({"labels": {"a": 1}}, "strings"),
        ({"labels": {"a": "\0"}}, "strings"),
        ({"labels": {str(n): "" for n in range(21)}}, "at most 20"),
        ({"provider_keys": []}, "at least one provider key"),
    ],
)
def test_it_refuses_terms_that_cannot_be_meant(terms, complaint):
    with pytest.raises(Unusable, match=complaint):
        make_key(**terms)
    assert not VirtualKey.objects.exists()


def test_it_refuses_a_name_that_is_taken():
    make_key()
    with pytest.raises(Unusable, match="already"):
        make_key()


def test_it_refuses_a_team_of_another_customer():
    theirs = Team.objects.create(customer=Customer.objects.create(name="Charlie's"), name="Research")
    with pytest.raises(Unusable, match="another customer"):
        make_key(team=theirs)


@pytest.mark.parametrize("weight", [0, -1, 1_000_001])
def test_it_refuses_a_weight_out_of_range(weight):
    with pytest.raises(Unusable, match="weight"):
        make_key(provider_keys=[(make_provider_key(), weight)])


def test_it_refuses_a_provider_key_that_is_named_twice():
    echo = make_provider_key()
    with pytest.raises(Unusable, match="twice"):
        make_key(provider_keys=[(echo, 1), (echo, 2)])


def test_it_refuses_a_model_that_no_provider_key_serves():
    claude = make_provider_key("claude", model_patterns=["claude-*"])
    with pytest.raises(Unusable, match="none of its provider keys serves “gpt-5”"):
        make_key(provider_keys=[(claude, 1)], allowed_models=["claude-haiku-4-5", "gpt-5"])
    make_key(provider_keys=[(claude, 1), (make_provider_key("all"), 1)], allowed_models=["gpt-5"])


def test_a_rotation_lets_both_secrets_work_for_the_overlap():
    alice, old = make_key()
    new = issuing.rotate(alice, timedelta(hours=1))
    assert opened_by(new).expires_at is None
    left = opened_by(old).expires_at - timezone.now()
    assert timedelta(minutes=59) < left <= timedelta(hours=1)


def test_a_rotation_without_overlap_ends_the_old_secret_at_once():
    alice, old = make_key()
    issuing.rotate(alice, timedelta(0))
    assert opened_by(old).expires_at <= timezone.now()


def test_a_second_rotation_does_not_lengthen_the_life_of_the_first_secret():
    alice, first = make_key()
    issuing.rotate(alice, timedelta(0))
    ended = opened_by(first).expires_at
    issuing.rotate(alice, timedelta(days=7))
    assert opened_by(first).expires_at == ended


def test_a_rotation_leaves_gateway_tokens_alone():
    alice, _ = make_key()
    token = issuing.issue_gateway_token("bob", alice)
    issuing.rotate(alice, timedelta(0))
    assert opened_by(token).expires_at is None


@pytest.mark.parametrize("overlap", [timedelta(seconds=-1), timedelta(days=366)])
def test_it_refuses_an_overlap_out_of_range(overlap):
    alice, _ = make_key()
    with pytest.raises(Unusable, match="overlap"):
        issuing.rotate(alice, overlap)


def test_a_revocation_is_for_good():
    alice, _ = make_key()
    issuing.revoke(alice)
    at = alice.revoked_at
    issuing.revoke(alice)
    for change in (pausing.pause, pausing.resume):
        with pytest.raises(Conflict, match="revoked permanently"):
            change(alice)
    assert alice.state == "revoked"
    assert alice.revoked_at == at
    assert alice.cut_streams_at is None
    for hand_out in (lambda: issuing.rotate(alice, timedelta(0)), lambda: issuing.issue_gateway_token("t", alice)):
        with pytest.raises(Unusable, match="revoked"):
            hand_out()


def test_streams_of_a_revoked_key_can_be_cut_later():
    alice, _ = make_key()
    issuing.revoke(alice)
    issuing.revoke(alice, cut_streams=True)
    assert alice.cut_streams_at > alice.revoked_at or alice.cut_streams_at == alice.revoked_at


def test_an_expired_key_is_not_handed_out_again():
    alice, _ = make_key()
    VirtualKey.objects.update(expires_at=timezone.now())
    with pytest.raises(Unusable, match="expired"):
        issuing.rotate(alice, timedelta(0))


def test_a_gateway_token_opens_the_key_under_its_own_name():
    alice, _ = make_key()
    token = issuing.issue_gateway_token("bob", alice)
    assert token.startswith("gt-bf-")
    assert (opened_by(token).virtual_key, opened_by(token).name) == (alice, "bob")
    with pytest.raises(Unusable, match="already"):
        issuing.issue_gateway_token("bob", alice)


def test_a_token_is_revoked_without_the_others():
    alice, plain = make_key()
    token = opened_by(issuing.issue_gateway_token("bob", alice))
    issuing.revoke_token(token)
    assert token.revoked_at
    assert opened_by(plain).revoked_at is None


def test_keys_teams_customers_and_the_gateway_are_paused_and_resumed():
    alice, _ = make_key()
    gateway, _ = Gateway.objects.get_or_create(id=1)
    subjects = [alice, alice.team, alice.customer, gateway]
    pausing.pause_all(subjects)
    for subject in subjects:
        subject.refresh_from_db()
    assert (alice.active, alice.team.paused, alice.customer.paused, gateway.paused) == (False, True, True, True)
    pausing.resume_all(subjects)
    assert VirtualKey.objects.get().active
    assert not Gateway.objects.get().paused


def test_the_passed_through_key_is_made_once_and_follows_the_customer():
    acme, other = Customer.objects.create(name="Acme"), Customer.objects.create(name="Other")
    first = issuing.ensure_passthrough_key("Acme")
    assert issuing.ensure_passthrough_key("Acme") == first
    assert (first.virtual_key.customer, first.virtual_key.passthrough) == (acme, True)
    assert issuing.ensure_passthrough_key("Other") == first
    assert VirtualKey.objects.get(passthrough=True).customer == other
    assert Credential.objects.get().kind == CredentialKind.PASSTHROUGH


def test_the_passed_through_key_needs_a_customer_that_exists():
    with pytest.raises(Unusable, match="there is no customer “Nobody”"):
        issuing.ensure_passthrough_key("Nobody")


def test_the_passed_through_key_is_neither_rotated_nor_revoked():
    Customer.objects.create(name="Acme")
    key = issuing.ensure_passthrough_key("Acme").virtual_key
    for change in (lambda: issuing.rotate(key, timedelta(0)), lambda: issuing.revoke(key)):
        with pytest.raises(Unusable, match="the gateway's own"):
            change()


def test_old_and_new_peppers_are_valid_together():
    alice, old = make_key()
    assert issuing.stale_credentials() == 0
    issuing.rotate_pepper()
    assert issuing.stale_credentials() == 1
    new = issuing.rotate(alice, timedelta(hours=1))
    assert opened_by(old)
    assert opened_by(new)
    assert opened_by(old).pepper != opened_by(new).pepper == keyring.peppers()[0].name


def test_a_secret_under_a_pepper_that_was_taken_away_opens_nothing(settings, tmp_path):
    _, old = make_key()
    settings.VAR_DIR = tmp_path / "elsewhere"
    assert opened_by(old) is None


def test_the_secret_files_are_for_their_owner_only(tmp_path):
    make_key()
    make_provider_key("main", provider="anthropic", secret=SECRET)
    issuing.rotate_pepper()
    files = list((tmp_path / "secrets").iterdir())
    assert {file.name for file in files} == {"peppers", "master_keys"}
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
