"""Roles: what they reach, who may give them, and the last owner."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.urls import reverse

from administration.models import Grant
from administration.role_names import Role
from administration.roles import giving, may, names, reach, visible
from administration.roles.definitions import DEFINITIONS
from keys import issuing
from keys.audit.models import AuditEvent
from keys.errors import Unusable
from keys.models import Customer, ProviderKey, Team, VirtualKey
from tests.support.gateway import ROOT
from tests.support.role_cast import every_model
from usage.models import Budget

# Models of the whole deployment: only a role for everything reaches their rows.
OF_THE_DEPLOYMENT = {
    *("keys.gateway", "keys.providerkey", "keys.providerkeycheck", "keys.modelalias", "keys.cooldown"),
    *("keys.performance", "keys.modellist", "keys.signincount", "keys.auditevent", "keys.auditname", "keys.auditseal"),
    *("usage.process", "usage.worker", "usage.arbiterversion", "usage.writer", "usage.price", "usage.rollupstate"),
    *("usage.exchangerate", "keys.demodata", "billing.issuer"),
    *("reconciliation.adminkey", "reconciliation.reportedkey", "reconciliation.billformat", "reconciliation.bill"),
    *("reconciliation.read", "reconciliation.usagerow", "reconciliation.costrow", "reconciliation.comparison"),
    *("reconciliation.adjustmentrun", "usage.archivedmonth", "usage.checkpoint", "usage.restoredcopy"),
}
# Counters, sums and parts of documents, which pages of their owners show, and what REST keeps for each person.
COUNTERS = {
    *(
        "usage.limitstate",
        "usage.credentialuse",
        "usage.ownerday",
        "usage.quartertotal",
        "usage.daytotal",
        "usage.summedperiod",
        "usage.archivedcharge",
        "usage.checkpointwindow",
    ),
    *("administration.apitoken", "administration.restanswer"),
    # Each is a person's own; shared ones are found by what they name (usage/reporting/saved.py).
    *("usage.savedreport", "usage.reportschedule", "usage.reportrecipient", "usage.reportdelivery"),
    *("billing.closing", "billing.cover", "billing.closerequest", "billing.statementline", "billing.statementfile"),
    "billing.archivedcover",
}


@pytest.fixture
def teams(db: None) -> tuple[Team, Team]:
    """Two teams of one customer."""
    acme = Customer.objects.create(name="Acme")
    return Team.objects.create(customer=acme, name="Research"), Team.objects.create(customer=acme, name="Sales")


def person(name: str, role: Role | None = None, **scope: Any) -> User:
    user = User.objects.create_user(name)
    if role is not None:
        giving.give(None, user, role, **scope)
    return user


def key(name: str, team: Team, owner: str = "") -> VirtualKey:
    return VirtualKey.objects.create(name=name, customer=team.customer, team=team, owner=owner)


def test_each_model_belongs_to_an_owner_or_to_the_deployment() -> None:
    """A new model needs a line in administration/roles/reach.py, or else in OF_THE_DEPLOYMENT."""
    known = set(reach.REACH) | OF_THE_DEPLOYMENT | COUNTERS
    assert [label for label in every_model() if label not in known] == []
    assert not set(reach.REACH) & OF_THE_DEPLOYMENT


@pytest.mark.parametrize("label", sorted(reach.REACH))
@pytest.mark.parametrize("action", ["view", "choose", "change"])
def test_rows_of_each_model_can_be_limited_to_each_scope(label: str, action: str, teams: tuple[Team, Team]) -> None:
    rows = apps.get_model(label)._default_manager.all()
    scopes: list[tuple[Role, dict[str, Any]]] = [
        (Role.TEAM_ADMIN, {"team": teams[0]}),
        (Role.KEY_ADMIN, {"customer": teams[0].customer}),
        (Role.MEMBER, {}),
    ]
    for number, (role, scope) in enumerate(scopes):
        list(visible(person(str(number), role, **scope), rows, action)[:1])


def test_docs_have_a_sentence_for_each_role() -> None:
    text = (ROOT / "docs" / "roles.md").read_text()
    assert [role.label for role in Role if f"| {role.label} |" not in text] == []
    assert set(DEFINITIONS) == set(Role)


def test_a_team_admin_sees_and_changes_only_keys_of_the_team(teams: tuple[Team, Team]) -> None:
    ours, theirs = key("alice", teams[0]), key("charlie", teams[1])
    bob = person("bob", Role.TEAM_ADMIN, team=teams[0])
    assert list(visible(bob, VirtualKey.objects.all())) == [ours]
    assert [may(bob, names.ROTATE_KEY, each) for each in (ours, theirs)] == [True, False]
    assert may(bob, "usage.add_budget", Budget(virtual_key=ours))
    assert not may(bob, "usage.add_budget", Budget(virtual_key=theirs))
    assert not may(bob, "usage.add_budget", Budget(team=teams[0])), "a team admin doesn't raise the team's own budget"
    assert not may(bob, "keys.view_providerkey")


def test_a_member_sees_only_own_keys(teams: tuple[Team, Team]) -> None:
    own = key("alice", teams[0], owner="Alice@example.com")
    key("shared", teams[0])
    alice = person("alice", Role.MEMBER)
    assert not visible(alice, VirtualKey.objects.all()).exists()
    User.objects.filter(pk=alice.pk).update(email="alice@EXAMPLE.com")
    assert list(visible(User.objects.get(pk=alice.pk), VirtualKey.objects.all())) == [own]
    assert not may(alice, names.ROTATE_KEY, own)


def test_permissions_given_by_hand_still_hold_and_include_the_actions_that_they_allowed(
    teams: tuple[Team, Team],
) -> None:
    bob = User.objects.create_user("bob", is_staff=True)
    bob.user_permissions.set(Permission.objects.filter(codename="change_virtualkey"))
    bob = User.objects.get(pk=bob.pk)
    for permission in (names.ROTATE_KEY, names.REVOKE_KEY, names.PAUSE_KEY, "keys.view_virtualkey"):
        assert bob.has_perm(permission, key(permission, teams[0]))
    assert not bob.has_perm(names.ISSUE_KEY)
    assert not bob.has_perm(names.GIVE_ROLE)


def test_a_deactivated_person_may_nothing(teams: tuple[Team, Team]) -> None:
    bob = person("bob", Role.KEY_ADMIN)
    giving.set_active(None, bob, False)
    bob = User.objects.get(pk=bob.pk)
    assert not may(bob, names.ROTATE_KEY)
    assert not visible(bob, Team.objects.all()).exists()


def test_a_person_gives_no_role_or_scope_beyond_their_own(teams: tuple[Team, Team]) -> None:
    bob, carol = person("bob", Role.TEAM_ADMIN, team=teams[0]), person("carol")
    giving.give(bob, carol, Role.TEAM_ADMIN, team=teams[0])
    for role, scope in (
        (Role.TEAM_ADMIN, {"team": teams[1]}),
        (Role.TEAM_ADMIN, {"customer": teams[0].customer}),
        (Role.KEY_ADMIN, {"team": teams[0]}),
        (Role.AUDITOR, {"team": teams[0]}),
        (Role.OWNER, {}),
        (Role.MEMBER, {}),
    ):
        with pytest.raises(PermissionDenied):
            giving.give(bob, carol, role, **scope)
    assert giving.roles_to_give(bob) == [Role.TEAM_ADMIN]
    assert giving.roles_to_give(carol) == [Role.TEAM_ADMIN]
    assert giving.roles_to_give(person("owen", Role.OWNER)) == list(Role)
    finance = person("dora", Role.FINANCE)
    with pytest.raises(PermissionDenied):
        giving.give(finance, carol, Role.FINANCE)
    with pytest.raises(PermissionDenied):
        giving.take(bob, Grant.objects.get(user=finance))
    admin = person("erin", Role.KEY_ADMIN, customer=teams[0].customer)
    giving.give(admin, carol, Role.FINANCE, team=teams[1])
    with pytest.raises(PermissionDenied):
        giving.give(admin, carol, Role.BILLING_ADMIN, team=teams[1])


def test_a_person_who_may_do_more_is_not_deactivated(teams: tuple[Team, Team]) -> None:
    bob = person("bob", Role.TEAM_ADMIN, team=teams[0])
    carol = person("carol", Role.TEAM_ADMIN, team=teams[0])
    giving.set_active(bob, carol, False)
    giving.give(None, carol, Role.AUDITOR)
    with pytest.raises(PermissionDenied):
        giving.set_active(bob, carol, True)


@pytest.mark.parametrize(
    ("role", "scope"), [(Role.OWNER, True), (Role.MEMBER, True), (Role.TEAM_ADMIN, False)], ids=str
)
def test_a_role_is_given_only_for_what_it_can_be_for(role: Role, scope: bool, teams: tuple[Team, Team]) -> None:
    with pytest.raises(ValidationError):
        giving.give(None, person("bob"), role, team=teams[0] if scope else None)


def test_a_change_of_a_role_is_in_the_audit_log(teams: tuple[Team, Team]) -> None:
    bob = person("bob", Role.TEAM_ADMIN, team=teams[0])
    giving.take(None, Grant.objects.get(user=bob))
    added, deleted = AuditEvent.objects.filter(table_name="administration_grant").order_by("id")
    assert added.changes["role"] == {"to": "team_admin"}
    assert deleted.changes["team_id"] == {"from": str(teams[0].pk)}
    assert added.about == f"auth_user:{bob.pk}"


def test_the_last_owner_stays(db: None) -> None:
    boss = User.objects.create_superuser("boss")
    for attempt in (
        lambda: boss.delete(),
        lambda: User.objects.update(is_active=False),
        lambda: User.objects.update(is_superuser=False),
    ):
        with pytest.raises(IntegrityError, match="last owner"), transaction.atomic():
            attempt()
    carol = person("carol", Role.OWNER)
    giving.leave_only_roles(None, boss)
    for attempt in (
        lambda: User.objects.get(pk=carol.pk).delete(),
        lambda: Grant.objects.update(role=Role.AUDITOR),
        lambda: Grant.objects.all().delete(),
    ):
        with pytest.raises(IntegrityError, match="last owner"), transaction.atomic():
            attempt()
    with pytest.raises(Unusable, match="there must be an owner"):
        giving.set_active(None, carol, False)


@pytest.mark.django_db(transaction=True)
def test_an_owner_stays_if_two_are_deactivated_at_once() -> None:
    owners = [User.objects.create_superuser(name) for name in ("alice", "bob")]
    both, refused = threading.Barrier(2), list[str]()

    def deactivate(owner: User) -> None:
        try:
            with transaction.atomic():
                both.wait()
                giving.set_active(None, owner, False)
        except Unusable as error:
            refused.append(str(error))
        finally:
            connection.close()

    threads = [threading.Thread(target=deactivate, args=[owner]) for owner in owners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 1
    assert User.objects.filter(is_active=True).count() == 1


def test_the_command_gives_a_role_once(teams: tuple[Team, Team]) -> None:
    bob = person("bob")
    for _ in range(2):
        call_command("grant_role", "bob", "team_admin", team="Acme/Research")
    assert [(grant.role, grant.team) for grant in Grant.objects.filter(user=bob)] == [("team_admin", teams[0])]
    for arguments in (["eve", "owner"], ["bob", "team_admin"], ["bob", "owner", "--customer", "Acme"]):
        with pytest.raises(CommandError):
            call_command("grant_role", *arguments)


def test_a_refused_page_names_the_roles_that_may(client: Client, teams: tuple[Team, Team], caplog: Any) -> None:
    client.force_login(person("dora", Role.FINANCE))
    answer = client.get(reverse("admin:keys_providerkey_changelist"))
    assert answer.status_code == 403
    text = answer.content.decode()
    assert "see provider keys" in text
    assert "<li>Key admin</li>" in text
    assert "<li>Finance</li>" not in text
    assert "site-name" in text, "it is in the site's own look"


def test_finance_and_auditors_see_no_part_of_a_secret(client: Client, teams: tuple[Team, Team]) -> None:
    echo = ProviderKey.objects.create(name="echo", provider="echo")
    alice, plain = issuing.issue_virtual_key(
        name="alice", customer=teams[0].customer, team=teams[0], provider_keys=[(echo, 1)]
    )
    ends = str(alice.credentials.get())
    for role in (Role.FINANCE, Role.AUDITOR):
        client.force_login(person(role, role))
        for url in (
            reverse("admin:keys_virtualkey_changelist"),
            reverse("admin:keys_virtualkey_change", args=[alice.pk]),
        ):
            answer = client.get(url)
            assert answer.status_code == 200
            assert ends not in answer.content.decode()
        found = client.get(reverse("admin:keys_virtualkey_changelist"), {"q": plain[-4:]})
        assert "alice" not in found.content.decode().partition("<table")[2]


def test_an_owner_adds_a_person_who_sets_a_password_by_the_link_once(client: Client, db: None) -> None:
    client.force_login(person("boss", Role.OWNER))
    form = {"username": "carol", "email": "carol@example.com", "role": "finance", "customer": "", "team": ""}
    page = client.post(reverse("admin:administration_person_add"), form)
    assert page.status_code == 200
    link = page.context["link"]
    visitor = Client()
    to_the_form = visitor.get(link)
    assert to_the_form.status_code == 302
    assert visitor.get(to_the_form["Location"]).status_code == 200
    password = {"new_password1": "correct-horse-battery", "new_password2": "correct-horse-battery"}
    assert visitor.post(to_the_form["Location"], password).status_code == 302
    assert User.objects.get(username="carol").check_password("correct-horse-battery")
    assert "has been used" in Client().get(link).content.decode()


def test_pages_give_no_role_that_the_giver_lacks(client: Client, teams: tuple[Team, Team]) -> None:
    client.force_login(person("bob", Role.TEAM_ADMIN, team=teams[0]))
    for role, said in (("owner", "owner is not one of the available choices"), ("team_admin", giving.NOT_YOURS)):
        form = {"username": "carol", "email": "", "role": role, "customer": "", "team": ""}
        answer = client.post(reverse("admin:administration_person_add"), form)
        assert said in answer.content.decode()
    assert not User.objects.filter(username="carol").exists()
