"""What the page of a key says about an old secret after a rotation, and how the overlap ends."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from administration.models import Person
from administration.role_names import Role
from administration.roles import giving
from keys import issuing, viewer
from keys.models import Credential
from tests.support.issued import make_key, opened_by
from tests.support.issuing_form import text
from tests.support.owner import boss as boss
from tests.support.owner import own_secrets as own_secrets
from usage.models import CredentialUse

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


@pytest.fixture
def rotated():
    """A key with an old secret, which works for another day, and its new one."""
    key, old = make_key()
    new = issuing.rotate(key, DAY)
    return key, opened_by(old), opened_by(new)


def page(client, key):
    return text(client.get(reverse("admin:key", args=[key.pk])))


def use(credential, after_rotation, address="192.0.2.7"):
    newest = Credential.objects.latest("pk").created_at
    used_at = newest + timedelta(minutes=5 if after_rotation else -5)
    CredentialUse.objects.create(credential=credential.pk, used_at=used_at, address=address)
    return used_at


def test_the_page_says_when_and_from_where_an_old_secret_is_used(boss, rotated):
    key, old, _ = rotated
    used_at = use(old, after_rotation=True)
    shown = page(boss, key)
    assert "still in use" in shown
    assert f"Rotated; the old secret works until {viewer.moment(old.expires_at)}." in shown
    assert f"Last used {viewer.moment(used_at)} from 192.0.2.7" in shown


def test_no_secret_of_a_revoked_key_is_said_to_work(boss, rotated):
    key, _, _ = rotated
    issuing.revoke(key, reason="test")
    shown = page(boss, key)
    assert "works until" not in shown
    assert "End the old secret" not in shown
    assert "No longer works: the key is revoked." in shown


def test_the_page_says_that_an_old_secret_was_not_used_since(boss, rotated):
    key, old, new = rotated
    use(old, after_rotation=False)
    use(new, after_rotation=True, address="192.0.2.8")
    shown = page(boss, key)
    assert "not in use" in shown
    assert "still in use" not in shown
    assert "Not used since the rotation" in shown


def test_a_key_without_a_rotation_has_no_old_secret(boss):
    key, _ = make_key()
    shown = page(boss, key)
    assert "not in use" not in shown
    assert "End the old secret" not in shown


def test_the_old_secret_is_ended_at_once_and_the_new_one_works_on(boss, rotated):
    key, old, new = rotated
    issuing.issue_gateway_token("laptop", key)
    url = reverse("admin:keys_virtualkey_end_old", args=[key.pk])
    assert url in page(boss, key)
    assert "Only the newest secret works now." in text(boss.post(url, follow=True))
    ends = dict(Credential.objects.values_list("pk", "expires_at"))
    assert ends[old.pk] < old.expires_at
    assert ends[new.pk] is None
    assert list(ends.values()).count(None) == 2  # and the token
    shown = text(boss.post(url, follow=True))
    assert "No old secret works any more." in shown
    assert "Worked until" in shown


def test_no_old_secret_of_a_revoked_key_is_ended(boss, rotated):
    key, _, _ = rotated
    issuing.revoke(key)
    assert boss.post(reverse("admin:keys_virtualkey_end_old", args=[key.pk])).status_code == 403
    assert "End the old secret" not in page(boss, key)


def test_a_person_who_may_not_rotate_sees_the_state_and_no_button(rotated):
    key, old, _ = rotated
    use(old, after_rotation=True)
    person = Person.objects.create_user("finance", is_staff=True)
    giving.give(None, person, Role.FINANCE)
    client = Client()
    client.force_login(User.objects.get(pk=person.pk))
    shown = page(client, key)
    assert "End the old secret" not in shown
    assert "Issue like this one" not in shown
    assert str(old) not in shown
