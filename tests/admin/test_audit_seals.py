"""The audit log is sealed, and changes of it are found."""

from __future__ import annotations

import io

import pytest
from django.contrib.auth.models import Group, User
from django.core.management import call_command

from keys.audit import seal_file, seals, verification
from keys.audit.models import AuditEvent, AuditName, AuditSeal
from tests.support.audit_log import boss as boss
from tests.support.audit_log import cast as cast
from tests.support.audit_log import folder as folder
from tests.support.audit_log import forge, last, said, sql, verified
from tests.support.databases import admin_connection

# Seals


@pytest.fixture
def sealed(db, folder, monkeypatch):
    """A log with two seals and their file; the ids of its last four events."""
    seals.seal()
    for number in range(4):
        Group.objects.create(name=f"group {number}")
        if number == 1:
            seals.seal()
    seals.seal()
    assert verified() == (
        0,
        f"All {AuditEvent.objects.count():,} sealed events of the audit log are as they were sealed.\n",
    )
    return list(AuditEvent.objects.order_by("-id").values_list("id", flat=True)[:4])[::-1]


def test_a_changed_event_is_found(sealed, folder):
    forge(f"UPDATE keys_auditevent SET actor = 'other' WHERE id = {sealed[1]}")
    code, words = verified()
    assert code == 1
    assert f"event {sealed[1]} of " in words


def test_a_deleted_event_is_found(sealed, folder):
    forge(f"DELETE FROM keys_auditevent WHERE id = {sealed[3]}")
    assert verified()[0] == 1


def test_an_inserted_event_is_found(sealed, folder):
    forge(
        f"DELETE FROM keys_auditevent WHERE id = {sealed[2]}",
        f"INSERT INTO keys_auditevent OVERRIDING SYSTEM VALUE SELECT {sealed[2]}, at, actor_kind, actor_id, actor, "
        f"address, action, table_name, object, about, changes FROM keys_auditevent WHERE id = {sealed[3]}",
    )
    code, words = verified()
    assert code == 1
    assert f"event {sealed[2]} of " in words


def test_events_in_another_order_are_found(sealed, folder):
    a, b = sealed[2:]
    forge(
        f"UPDATE keys_auditevent SET id = DEFAULT WHERE id = {a}",
        f"UPDATE keys_auditevent SET object = '0' WHERE id = {b}",
    )
    assert verified()[0] == 1


def test_a_changed_seal_is_found(sealed, folder):
    forge("UPDATE keys_auditseal SET made_at = made_at - interval '1 day' WHERE number = 2")
    code, words = verified()
    assert code == 1
    assert "seal 2 of " in words


def test_a_chain_that_was_computed_again_is_found_by_the_file(sealed, folder):
    forge(f"UPDATE keys_auditevent SET actor = 'other' WHERE id = {sealed[1]}", "DELETE FROM keys_auditseal")
    file = seal_file.path()
    kept = file.read_bytes()
    file.unlink()
    seals.seal()
    assert verified()[0] == 0, "the chain alone fits"
    file.write_bytes(kept)
    code, words = verified()
    assert code == 1
    assert "computed again" in words


def test_seals_that_are_gone_are_found_by_the_file(sealed, folder):
    forge("DELETE FROM keys_auditseal WHERE number = (SELECT max(number) FROM keys_auditseal)")
    code, words = verified()
    assert code == 1
    assert "is missing in the database" in words


@pytest.mark.django_db(transaction=True)
def test_events_are_sealed_only_when_no_earlier_one_can_still_be_committed(folder, monkeypatch):
    monkeypatch.setattr(seals, "LOCK_MILLISECONDS", 10)
    monkeypatch.setattr(seals, "ATTEMPTS", 2)
    with admin_connection() as slow, slow.transaction():
        slow.execute("INSERT INTO auth_group (name) VALUES ('slow')")
        Group.objects.create(name="quick")
        with pytest.raises(seals.Unsealable):
            seals.seal()
    seals.seal()
    newest = AuditSeal.objects.latest("number")
    assert newest.last_event == AuditEvent.objects.latest("id").id


def test_a_long_day_has_several_seals(db, folder, monkeypatch):
    monkeypatch.setattr(seals, "MOST", 3)
    for number in range(7):
        Group.objects.create(name=f"group {number}")
    assert len(seals.seal()) >= 3
    assert verification.verify(lambda checked, seal: None) == AuditEvent.objects.count()
    assert AuditSeal.objects.count() == len(seal_file.read())


def test_erased_names_leave_the_seals_intact(db, folder):
    user = User.objects.create_user("henriette", email="henriette@example.com")
    user.email = "h@example.com"
    user.save()
    key = user.pk
    user.delete()
    event = last("auth_user")
    assert "henriette" in said(event)[1]
    seals.seal()
    call_command("erase_names", f"user:{key}", stdout=io.StringIO())
    assert not AuditName.objects.filter(object=str(key), table_name="auth_user").exists()
    assert "(erased)" in said(event)[1]
    assert verified()[0] == 0
    for table in ("keys_auditevent", "keys_auditname"):
        assert not sql(f"SELECT 1 FROM {table} t WHERE t::text LIKE %s", "%henriette%")
