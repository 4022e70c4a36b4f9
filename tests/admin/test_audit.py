"""Every change of the configuration is in the audit log, with both values and who made it, and the log shows when it
was tampered with."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.core.management import call_command
from django.db import ProgrammingError, connection, models, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from gateway_project import database
from gateway_project.celery import app
from keys.audit import canonical
from keys.audit.actor import ACTOR, Actor, acting, command
from keys.audit.models import AuditEvent
from keys.models import Credential, Customer, ModelAlias, ProviderKey, Team, VirtualKey
from tests.support.admin_forms import change
from tests.support.audit_log import boss as boss
from tests.support.audit_log import cast as cast
from tests.support.audit_log import folder as folder
from tests.support.audit_log import last, said, sql
from usage.models import AlertTarget, Budget, Limit, TopUp

ROOT = Path(__file__).resolve().parents[2]
MARK = "MaRkEr"


# What is in the log


def test_a_page_shows_who_changed_what_from_what_to_what(cast, client, boss):
    team = cast.alice.team
    form = {"name": "Discovery", "customer": team.customer_id, "max_tokens": "500"}
    for part in ("budgets", "limits", "key_rules"):
        form |= {f"{part}-TOTAL_FORMS": "0", f"{part}-INITIAL_FORMS": "0"}
    answer = change(client, f"/admin/keys/team/{team.pk}/change/", form, REMOTE_ADDR="192.0.2.7")
    assert answer.status_code == 302
    event = last("keys_team")
    assert (event.actor_kind, event.actor_id, event.address) == ("person", boss.pk, "192.0.2.7")
    assert event.changes["name"] == {"from": team.name, "to": "Discovery"}
    assert event.changes["max_tokens"] == {"from": None, "to": "500"}
    assert event.about == f"keys_customer:{team.customer_id}"
    who, what = said(event)
    assert who == "boss"
    assert f"{team.name} → Discovery" in what


def test_a_new_row_is_said_without_its_owner_and_what_is_empty(cast, client, boss):
    Budget.objects.create(virtual_key=cast.alice, amount=50)
    _, what = said(last("usage_budget"))
    assert "amount $50.00" in what
    for unsaid in ("virtual key 1", "models", "rolling", "[]", f"virtual key {cast.alice.pk};"):
        assert unsaid not in what.partition("added")[2]
    VirtualKey.objects.filter(pk=cast.alice.pk).update(expires_at=datetime(2031, 5, 4, 3, 2, tzinfo=UTC))
    assert "expires at – → 4 May 2031 03:02 UTC" in said(last("keys_virtualkey"))[1]


def test_values_are_said_as_pages_say_them(cast, client, boss):
    limit = Limit.objects.create(virtual_key=cast.alice, kind="rpm", rate=60)
    assert said(last("usage_limit"))[1].endswith(": added – kind requests a minute; rate 60")
    Limit.objects.filter(pk=limit.pk).update(active=False)
    assert said(last("usage_limit"))[1].endswith(": active yes → no")
    cast.alice.routes.create(provider_key=ProviderKey.objects.get(name="main"))
    assert "added – provider key main; weight 1" in said(last("keys_virtualkeyroute"))[1]


def test_a_bulk_action_makes_an_event_for_each_row(cast, client, boss):
    team = cast.alice.team
    form = {"action": "pause", "_selected_action": [str(team.pk)]}
    assert client.post("/admin/keys/team/", form).status_code == 302
    event = last("keys_team")
    assert (event.actor_kind, event.actor_id) == ("person", boss.pk)
    assert event.changes == {"paused": {"from": "false", "to": "true"}}


@pytest.mark.django_db(transaction=True)
def test_no_data_of_a_request_stays_on_the_connection(client):
    boss = User.objects.create_superuser("boss")
    client.force_login(boss)
    client.post("/admin/keys/modelalias/add/", {"name": "fast", "target": "claude-haiku-4-5"})
    assert last("keys_modelalias").actor_id == boss.pk
    assert ACTOR.get() is None
    ModelAlias.objects.create(name="smart", target="claude-opus-4-8")
    assert last("keys_modelalias").actor_kind == "sql"


@pytest.mark.django_db(transaction=True)
def test_a_setting_ends_with_its_transaction():
    with acting(lambda: Actor("task", "one")):
        Group.objects.create(name="first")
        with transaction.atomic():
            Group.objects.create(name="second")
    assert not sql("SELECT current_setting('bursar.actor', true)")[0][0]
    Group.objects.create(name="third")
    kinds = [event.actor_kind for event in AuditEvent.objects.filter(table_name="auth_group").order_by("-id")[:3]]
    assert kinds == ["sql", "task", "task"]


def test_raw_sql_stands_under_the_role_of_the_database(cast):
    sql("UPDATE keys_customer SET paused = true WHERE id = %s", cast.alice.customer_id)
    event = last("keys_customer")
    assert (event.actor_kind, event.actor) == ("sql", sql("SELECT session_user")[0][0])
    sql("UPDATE keys_customer SET paused = true WHERE id = %s", cast.alice.customer_id)
    assert last("keys_customer").id == event.id, "nothing changed"


def test_a_task_stands_under_its_name(cast):
    @app.task(name="tests.pause", base=app.Task)
    def pause() -> None:
        sql("UPDATE keys_customer SET paused = true")

    pause()
    assert (last("keys_customer").actor_kind, last("keys_customer").actor) == ("task", "tests.pause")


@pytest.mark.django_db(transaction=True)
def test_a_command_stands_under_its_name_and_the_user_of_the_system():
    environment = os.environ | {
        "DATABASE_URL": database.url_of(connection.settings_dict),
        "VAR_DIR": str(settings.VAR_DIR),
    }
    ran = subprocess.run(
        [sys.executable, "manage.py", "createsuperuser", "--noinput", "--username", "ops", "--email", "o@example.com"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    event = last("auth_user")
    assert (event.actor_kind, event.actor, event.actor_id) == ("command", "createsuperuser", os.getuid())
    assert event.action == "added"
    assert "ops" not in json.dumps(event.changes)
    assert "ops" in said(event)[1]


def test_money_is_shown_as_money(cast):
    budget = Budget.objects.create(team=cast.alice.team, amount=50)
    budget.amount = 80
    budget.save()
    assert said(last("usage_budget"))[1].endswith(": amount $50.00 → $80.00")
    assert f"{cast.alice.team}" in said(last("usage_budget"))[1]
    prepaid = Budget.objects.create(customer=cast.alice.customer, period="none")
    TopUp.objects.create(budget=prepaid, amount=20, reason="paid", author="boss")
    assert last("usage_topup").changes["amount"]["to"].startswith("20")
    assert "$0.00 → $20.00" in said(last("usage_budget"))[1]


def test_membership_of_groups_is_seen(cast, db):
    user, group = User.objects.create_user("carol"), Group.objects.create(name="finance")
    user.groups.add(group)
    event = last("auth_user_groups")
    assert (event.action, event.about) == ("added", f"auth_user:{user.pk}")
    user.groups.clear()
    assert last("auth_user_groups").action == "deleted"


def test_what_calls_write_makes_no_event(cast):
    user = User.objects.create_user("dave")
    before = AuditEvent.objects.count()
    user.last_login = timezone.now()
    user.save(update_fields=["last_login"])
    sql("UPDATE keys_providerkey SET organization_id = 'o', account_learned_at = now()")
    sql("UPDATE keys_gateway SET catalogue_revision = catalogue_revision + 1")
    sql("UPDATE keys_virtualkey SET revision = revision + 1")
    cast.alice.save()
    assert AuditEvent.objects.count() == before


def test_secrets_never_appear(cast):
    url = f"https://{MARK}:{MARK}@api.example.com/{MARK}?key={MARK}#{MARK}"
    user = User.objects.create(username="erin", password=MARK)
    provider = ProviderKey.objects.create(
        name="p", provider="anthropic", base_url=url, secret_ciphertext=MARK.encode(), secret_hint=MARK
    )
    credential = Credential.objects.create(
        kind="gateway_token", name="t", virtual_key=cast.alice, digest=MARK.encode(), pepper=MARK, first=MARK, last=MARK
    )
    target = AlertTarget.objects.create(channel="webhook", address=url, secret_ciphertext=MARK.encode())
    row: models.Model
    for row, column in ((user, "password"), (provider, "base_url"), (target, "address")):
        for value in (f"{MARK}2", f"x://{MARK}:{MARK}", f"{MARK}@{MARK}@x", f"https://u:{MARK}@h\\{MARK}"):
            setattr(row, column, value)
            row.save()
    for row, column in ((provider, "secret_ciphertext"), (target, "secret_ciphertext"), (credential, "digest")):
        setattr(row, column, MARK.encode() * 2)
        row.save()
        assert last(row._meta.db_table).changes[column] == {"from": {"secret": True}, "to": {"secret": True}}
        row.delete()
    user.delete()
    for table in ("keys_auditevent", "keys_auditname"):
        for text in (MARK, MARK.encode().hex()):
            assert sql(f"SELECT t FROM {table} t WHERE t::text LIKE %s", f"%{text}%") == []
    assert AuditEvent.objects.filter(changes__base_url__to="https://api.example.com/…").exists()


def test_no_list_of_columns_shows_a_digest_a_ciphertext_or_a_password():
    from importlib import import_module

    landed = (
        "keys.migrations.0018_audit_log",
        "usage.migrations.0025_audit_log",
        "administration.migrations.0003_sign_in",
    )
    for module in landed:
        tables = import_module(module).TABLES
        for model in apps.get_models(include_auto_created=True):
            watched = tables.get(model._meta.db_table)
            if watched is not None and not model._meta.proxy:
                shown = f"{watched.plain} {watched.names} {watched.urls} {watched.contacts}".split()
                columns = {field.column: field for field in model._meta.concrete_fields}
                assert set(shown) | set(watched.secrets.split()) <= columns.keys()
                for column in shown:
                    assert not isinstance(columns[column], models.BinaryField)
                    assert column not in {
                        "password",
                        "secret_hint",
                        "pepper",
                        "first",
                        "last",
                        "digest",
                        "data",
                        "secret",
                    }


def test_sign_ins_failures_and_sign_outs_are_events(client, db):
    user = User.objects.create_superuser("frank", password="correct-horse-battery")
    client.post("/admin/login/", {"username": "frank", "password": "wrong"}, REMOTE_ADDR="192.0.2.8")
    client.post("/admin/login/", {"username": "hunter2-typed-here", "password": "wrong"})
    client.post("/admin/login/", {"username": "frank", "password": "correct-horse-battery"}, REMOTE_ADDR="192.0.2.8")
    client.post("/admin/logout/")
    events = list(AuditEvent.objects.filter(table_name="auth_user").order_by("id"))[-4:]
    assert [(event.action, event.object) for event in events] == [
        ("failed to sign in", str(user.pk)),
        ("failed to sign in", ""),
        ("signed in", str(user.pk)),
        ("signed out", str(user.pk)),
    ]
    assert (events[0].actor_kind, events[0].address) == ("visitor", "192.0.2.8")
    assert (events[2].actor_kind, events[2].actor_id, events[2].address) == ("person", user.pk, "192.0.2.8")
    assert not sql("SELECT 1 FROM keys_auditevent t WHERE t::text LIKE %s", "%hunter2%")


def test_refused_sign_ins_are_an_event_a_minute(client, db):
    user = User.objects.create_superuser("grace", password="correct-horse-battery")
    statuses = []
    for _ in range(8):
        form = {"username": "grace", "password": "wrong"}
        statuses.append(client.post("/admin/login/", form, REMOTE_ADDR="192.0.2.9").status_code)
    assert statuses[-3:] == [429] * 3
    events = AuditEvent.objects.filter(table_name="auth_user", object=str(user.pk)).order_by("id")
    actions = list(events.values_list("action", flat=True))
    failures = statuses.count(200)
    assert actions == ["added", *["failed to sign in"] * failures, "refused to sign in"]
    assert (events.latest("id").actor_kind, events.latest("id").address) == ("visitor", "192.0.2.9")


def test_exports_are_events(cast):
    call_command("export_usage", "--since", "2026-01-01", stdout=io.StringIO())
    begun, ended = AuditEvent.objects.filter(table_name="usage_ledgerentry").order_by("id")
    assert (begun.action, begun.changes) == ("exported", {"since": {"to": "2026-01-01"}})
    assert (ended.action, ended.changes) == ("export ended", {"rows": {"to": "0"}, "complete": {"to": "true"}})


def test_a_table_that_is_emptied_is_an_event(db):
    sql("TRUNCATE keys_modelalias")
    assert (last("keys_modelalias").action, last("keys_modelalias").object) == ("emptied", "")


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE keys_auditevent SET actor = ''",
        "DELETE FROM keys_auditevent",
        "TRUNCATE keys_auditevent",
        "UPDATE keys_auditseal SET digest = ''",
        "DELETE FROM keys_auditseal",
        "TRUNCATE keys_auditseal",
        "UPDATE keys_auditname SET value = ''",
        "TRUNCATE keys_auditname",
    ],
)
def test_the_log_is_append_only(db, statement):
    with pytest.raises(ProgrammingError, match="append-only"), transaction.atomic():
        sql(statement)


# The page


def test_the_list_shows_filters_finds_and_exports(cast, client, boss):
    team = cast.alice.team
    team.paused = True
    team.save()
    Group.objects.create(name="=cmd")
    page = client.get(f"/admin/keys/auditevent/?q=keys_team:{team.pk}").content.decode()
    named = client.get("/admin/keys/auditevent/", {"q": f"Team {team.pk}"}).context["cl"].result_list
    assert {event.pk for event in named} == {
        event.pk for event in client.get(f"/admin/keys/auditevent/?q=keys_team:{team.pk}").context["cl"].result_list
    }
    assert named
    assert "no → yes" in page
    assert "Group" not in page.partition("result_list")[2]
    for query in ("who=sql", "table=keys_team", "days=7", f"q={timezone.now():%Y-%m-%d}", "q=boss", "q=192.0.2.7"):
        assert client.get(f"/admin/keys/auditevent/?{query}").status_code == 200
    assert client.get("/admin/keys/auditevent/?q=2001-01-01..2001-02-01").content.decode().count("Nothing matches")
    answer = client.get(f"/admin/keys/auditevent/export/?q=keys_team:{team.pk}")
    lines = b"".join(answer.streaming_content).decode().splitlines()
    assert lines[0] == "\ufeffid,time,who,address,action,table,row,what"
    assert "no → yes" in lines[-1]
    ended = last("keys_auditevent")
    assert (ended.action, ended.changes["rows"]) == ("export ended", {"to": str(len(lines) - 1)})
    history = client.get(f"/admin/keys/team/{team.pk}/history/")
    assert history.url == f"/admin/keys/auditevent/?q=keys_team%3A{team.pk}"


def test_only_people_with_the_permission_see_the_log(cast, client, db):
    client.force_login(User.objects.create_user("gina", is_staff=True))
    assert client.get("/admin/keys/auditevent/").status_code == 403
    assert client.get("/admin/keys/auditevent/export/").status_code == 403


VALUE = st.none() | st.text() | st.fixed_dictionaries({"name": st.integers(1)}) | st.just({"secret": True})
CHANGES = st.dictionaries(st.text(), st.dictionaries(st.sampled_from(["from", "to"]), VALUE))
TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@given(
    st.tuples(
        st.integers(1, 2**63 - 1),
        st.datetimes(datetime(1970, 1, 1), datetime(9000, 1, 1), timezones=st.just(UTC)),
        TEXT,
        st.none() | st.integers(-(2**63), 2**63 - 1),
        *[TEXT] * 6,
        CHANGES,
    )
)
def test_the_canonical_form_round_trips(row):
    line = canonical.encode(row)
    assert b"\n" not in line
    assert tuple(canonical.decode(line)) == row
    assert canonical.encode(canonical.decode(line)) == line


def test_a_command_is_named_by_what_it_is():
    assert command("set_budget").id == os.getuid()


def test_the_cast_of_keys_has_its_owner_by_reference(cast):
    key = VirtualKey.objects.get(pk=cast.alice.pk)
    key.owner = "Iris Example"
    key.save()
    event = last("keys_virtualkey")
    assert "Iris" not in json.dumps(event.changes)
    assert "Iris Example" in said(event)[1]
    assert Customer.objects.exists()
    assert Team.objects.exists()
