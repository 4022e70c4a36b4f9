"""A day of changes of every watched table by pages, REST, commands and SQL: each is in the audit log."""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db import transaction
from django.test import Client
from django.utils import timezone

from administration.role_names import Role
from administration.roles import giving
from keys.audit import seal_file, seals
from keys.audit.actor import acting, command
from keys.audit.models import AuditEvent, AuditName
from keys.models import Gateway, ModelAlias
from tests.support.admin_forms import save
from tests.support.audit_log import BILLED, RECONCILED, REPORTED, forge, said, sql, verified, watched
from tests.support.audit_log import folder as folder
from tests.support.issued import make_key
from tests.support.rest import Program
from usage.models import AlertTarget, Budget, KeyRules, Limit

# Each change is committed, as in a deployment.
pytestmark = pytest.mark.django_db(transaction=True)

# The ways in which the log calls those who act.
PAGE, REST, COMMAND, SQL = "boss", "boss, by API token", "manage.py", "SQL ("
PRICE = dict.fromkeys(("input", "output", "cache_read", "cache_write_5m", "cache_write_1h"), "1")
RATE = {"rate": "0.9", "source": "p"}
DATES = {"starts_at": "now()", "until": "now() + interval '1 day'"}
# A file that `apply` carries out.
FILE = """
provider_keys: [{name: main, provider: echo, models: [a-*]}]
aliases: {fast: a-7}
customers:
  - name: Globex
    language: de
    teams:
      - name: Sales
        max_tokens: 7
        key_rules: {most_days: 7}
        keys: [{name: filed, provider_keys: {main: 7}}]
"""


class Day:
    """The people, programs and rows of the day."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.boss = User.objects.create_superuser("boss")
        self.pages = Client()
        self.pages.force_login(self.boss)
        self.program = Program(self.boss)
        Gateway.objects.get_or_create(pk=1)
        self.text, self.numbers = FILE, itertools.count()
        make_key("first")
        self.key, _ = make_key("alice")
        self.customer, self.team = self.key.customer, self.key.team
        self.provider_key = self.key.provider_keys.get()
        self.budget = Budget.objects.create(virtual_key=self.key, amount=1)
        self.limit = Limit.objects.create(virtual_key=self.key, kind="rpm", rate=1)
        self.prepaid = Budget.objects.create(customer=self.key.customer, period="none")
        self.target = AlertTarget.objects.create(channel="email", address="ops@example.com")
        self.alias = ModelAlias.objects.create(name="quick", target="a-4")
        KeyRules.objects.create(team=self.team, most_rpm=1)
        self.carol = User.objects.create_user("carol", password="x", is_staff=True)
        self.group, self.right = Group.objects.create(name="old hands"), Permission.objects.earliest("pk")
        giving.give(None, self.carol, Role.FINANCE)
        self.equip()
        self.apply()

    def equip(self) -> None:
        """Give Carol what she can lose: second factors, a link, groups and permissions."""
        if not Authenticator.objects.exists():
            RecoveryCodes.activate(self.carol)
        SocialAccount.objects.get_or_create(user=self.carol, provider="sso", uid="carol-1")
        self.carol.groups.add(self.group)
        self.carol.user_permissions.add(self.right)

    def page(self, path: str, **fields: Any) -> None:
        """Save the form of a page."""
        answer = save(self.pages, f"/admin/{path}/", **fields)
        refused = answer.context and "errors" in answer.context and list(answer.context["errors"])
        assert answer.status_code in (200, 302), path
        assert not refused, (path, refused)

    def post(self, path: str, **fields: Any) -> None:
        """Press a button, or choose an action of a list."""
        assert self.pages.post(f"/admin/{path}/", fields).status_code in (200, 302), path

    def rotate(self) -> None:
        """Rotate Alice's key on its page."""
        newest = self.key.credentials.latest("pk").pk
        self.post(f"keys/virtualkey/{self.key.pk}/rotate", overlap="0", newest=newest)

    def reroute(self, weight: int) -> None:
        """Give Alice's route another weight by REST."""
        route = {"provider_key_id": self.provider_key.pk, "weight": weight}
        self.rest("PATCH", f"virtual-keys/{self.key.pk}", routes=[route])

    def grant(self) -> None:
        """Give Carol a role on her page."""
        fields = {"grants__TOTAL_FORMS": 2, "grants__1__user": self.carol.pk, "grants__1__role": "auditor"}
        self.page(f"administration/person/{self.carol.pk}/change", **fields)

    def remove_second_factors(self) -> None:
        """Remove Carol's second factors by the command."""
        self.equip()
        self.manage("remove_second_factors", "carol")

    def act_on_carol(self, action: str) -> None:
        """Carry out an action of the list of people."""
        self.equip()
        self.post("administration/person", action=action, _selected_action=[self.carol.pk])

    def rest(self, method: str, path: str, **body: Any) -> None:
        """Send a request to the REST API."""
        answer = self.program.ask(method, path, body, if_match="*")
        assert answer.status_code in (200, 201, 204), answer.content

    def manage(self, name: str, *arguments: Any, **options: Any) -> None:
        """Run a command, as manage.py does."""
        with acting(lambda: command(name)):
            call_command(name, *arguments, **options, stdout=io.StringIO(), stderr=io.StringIO())

    def apply(self, *changes: tuple[str, str]) -> None:
        """Have a file carried out, with these changes of its text since the last time."""
        for before, after in changes:
            assert before in self.text
            self.text = self.text.replace(before, after)
        path, secrets = self.folder / "keys.yaml", self.folder / f"secrets-{next(self.numbers)}.csv"
        path.write_text(self.text)
        self.manage("apply", file=path, secrets=secrets)


Do = Callable[[Day], object]
TOMORROW = timezone.now() + timedelta(days=1)


def on_page(model: str, row: str, **fields: Any) -> Do:
    """Change a row, which the day has as this attribute, on its page."""
    return lambda day: day.page(f"{model}/{getattr(day, row).pk}/change", **fields)


def by_rest(path: str, row: str, **body: Any) -> Do:
    """Change a row by REST."""
    return lambda day: day.rest("PATCH", f"{path}/{getattr(day, row).pk}", **body)


def by_sql(statement: str) -> Do:
    """Run SQL; `{row}` in it is the key of the row that the day has as this attribute."""
    return lambda day: sql(statement.format(**{name: getattr(row, "pk", row) for name, row in vars(day).items()}))


def inserted(table: str, **values: str) -> Do:
    """Insert a row by SQL; each value is SQL, too."""
    columns = ", ".join(f'"{name}"' for name in values)
    return by_sql(f"INSERT INTO {table} ({columns}) VALUES ({', '.join(values.values())})")


def by_file(before: str, after: str) -> Do:
    """Apply the file with another value."""
    return lambda day: day.apply((before, after))


def by_command(name: str, *arguments: Any, **options: Any) -> Do:
    """Run a command."""
    return lambda day: day.manage(name, *arguments, **options)


# Each way to change a table, and what the log says then. A table without a way can't be changed that way.
CHANGES: dict[str, dict[str, tuple[Do, str]]] = {
    "keys_gateway": {
        PAGE: (lambda day: day.page("keys/gateway/1/change", paused="on"), "paused: false → true"),
        SQL: (by_sql("UPDATE keys_gateway SET paused = false"), "paused: true → false"),
    },
    "keys_customer": {
        PAGE: (on_page("keys/customer", "customer", language="de"), "language: en → de"),
        REST: (by_rest("customers", "customer", language="fr"), "language: de → fr"),
        COMMAND: (by_file("language: de", "language: it"), "language: de → it"),
        SQL: (by_sql("UPDATE keys_customer SET time_zone = 'Europe/Rome'"), "time_zone: UTC → Europe/Rome"),
    },
    "keys_team": {
        PAGE: (on_page("keys/team", "team", max_tokens="5"), "max_tokens: null → 5"),
        REST: (by_rest("teams", "team", max_tokens=6), "max_tokens: 5 → 6"),
        COMMAND: (by_file("max_tokens: 7", "max_tokens: 8"), "max_tokens: 7 → 8"),
        SQL: (by_sql("UPDATE keys_team SET paused = true"), "paused: false → true"),
    },
    "keys_providerkey": {
        PAGE: (on_page("keys/providerkey", "provider_key", total_seconds="50"), "total_seconds: null → 50"),
        REST: (by_rest("provider-keys", "provider_key", models=["echo-*"]), 'model_patterns: [] → ["echo-*"]'),
        COMMAND: (by_file("[a-*]", "[b-*]"), 'model_patterns: ["a-*"] → ["b-*"]'),
        SQL: (by_sql("UPDATE keys_providerkey SET secret_ciphertext = 'x'"), "secret_ciphertext: secret → secret"),
    },
    "keys_modelalias": {
        PAGE: (on_page("keys/modelalias", "alias", target="a-5"), "target: a-4 → a-5"),
        REST: (by_rest("aliases", "alias", target="a-6"), "target: a-5 → a-6"),
        COMMAND: (by_file("fast: a-7", "fast: a-8"), "target: a-7 → a-8"),
        SQL: (by_sql("DELETE FROM keys_modelalias WHERE id = {alias}"), "target: a-6 → nothing"),
    },
    "keys_virtualkey": {
        PAGE: (on_page("keys/virtualkey", "key", owner="ann"), "owner:  → ann"),
        REST: (by_rest("virtual-keys", "key", owner="bob"), "owner: ann → bob"),
        COMMAND: (by_command("revoke_virtual_key", "first", reason="lost"), "revoke_reason:  → lost"),
        SQL: (by_sql("UPDATE keys_virtualkey SET active = false"), "active: true → false"),
    },
    "keys_virtualkeyroute": {
        PAGE: (on_page("keys/virtualkey", "key", routes__0__weight="5"), "weight: 1 → 5"),
        REST: (lambda day: day.reroute(6), "weight: 5 → 6"),
        COMMAND: (by_file("main: 7", "main: 8"), "weight: 7 → 8"),
        SQL: (by_sql("UPDATE keys_virtualkeyroute SET weight = 9"), "weight: 8 → 9"),
    },
    "keys_credential": {
        PAGE: (Day.rotate, "digest: nothing → secret"),
        REST: (lambda day: day.rest("POST", f"virtual-keys/{day.key.pk}/rotate"), "digest: nothing → secret"),
        COMMAND: (by_command("rotate_virtual_key", "alice", overlap="1h"), "digest: nothing → secret"),
        SQL: (by_sql("UPDATE keys_credential SET name = 'n'"), "name:  → n"),
    },
    "auth_user": {
        PAGE: (on_page("administration/person", "carol", first_name="Caro"), "first_name:  → Caro"),
        COMMAND: (
            by_command("createsuperuser", interactive=False, username="ops", email="o@example.com"),
            "username: nothing → ops",
        ),
        SQL: (by_sql("UPDATE auth_user SET password = 'x' WHERE id = {carol}"), "password: secret → secret"),
    },
    "auth_group": {SQL: (by_sql("UPDATE auth_group SET name = 'new'"), "name: old hands → new")},
    "auth_group_permissions": {
        SQL: (
            inserted("auth_group_permissions", group_id="{group}", permission_id="{right}"),
            "nothing",
        )
    },
    "auth_user_groups": {
        PAGE: (lambda day: day.act_on_carol("leave_only_roles"), "→ nothing"),
        SQL: (inserted("auth_user_groups", user_id="{carol}", group_id="{group}"), "nothing →"),
    },
    "auth_user_user_permissions": {
        PAGE: (lambda day: day.act_on_carol("leave_only_roles"), "→ nothing"),
        SQL: (
            inserted("auth_user_user_permissions", user_id="{carol}", permission_id="{right}"),
            "nothing →",
        ),
    },
    "usage_budget": {
        PAGE: (on_page("usage/budget", "budget", amount="2"), "amount: 1.000000000000 → 2.000000000000"),
        REST: (by_rest("budgets", "budget", amount="3"), "amount: 2.000000000000 → 3.000000000000"),
        COMMAND: (by_command("set_budget", "key:alice", "4/month"), "amount: 3.000000000000 → 4.000000000000"),
        SQL: (by_sql("UPDATE usage_budget SET enforcement = 'soft'"), "enforcement: hard → soft"),
    },
    "usage_limit": {
        PAGE: (on_page("usage/limit", "limit", rate="2"), "rate: 1 → 2"),
        REST: (by_rest("limits", "limit", rate=3), "rate: 2 → 3"),
        COMMAND: (by_command("set_limit", "key:alice", rpm="4"), "rate: 3 → 4"),
        SQL: (by_sql("UPDATE usage_limit SET rate = 5"), "rate: 4 → 5"),
    },
    "usage_topup": {
        PAGE: (lambda day: day.page("usage/topup/add", budget=day.prepaid.pk, amount="2", reason="p"), "→ p"),
        REST: (lambda day: day.rest("POST", "top-ups", budget_id=day.prepaid.pk, amount="3", reason="r"), "→ r"),
        COMMAND: (by_command("top_up", "customer:Acme", "4", reason="c"), "→ c"),
        SQL: (
            inserted("usage_topup", budget_id="{prepaid}", amount="5", reason="'s'", author="'x'"),
            "amount: nothing → 5.000000000000; budget_id: nothing",
        ),
    },
    "usage_override": {
        PAGE: (
            lambda day: day.page("usage/override/add", budget=day.budget.pk, amount="2", windows="1", reason="p"),
            "→ p",
        ),
        REST: (
            lambda day: day.rest("POST", "overrides", budget_id=day.budget.pk, amount="3", windows=1, reason="r"),
            "→ r",
        ),
        SQL: (
            inserted("usage_override", budget_id="{budget}", amount="5", reason="'s'", author="'x'", **DATES),
            "amount: nothing → 5.000000000000",
        ),
    },
    "usage_price": {
        PAGE: (lambda day: day.page("usage/price/add", model="p-1", **PRICE), "model: nothing → p-1"),
        REST: (lambda day: day.rest("POST", "prices", model="r-1", **PRICE), "model: nothing → r-1"),
        SQL: (by_sql("UPDATE usage_price SET note = 'n' WHERE model = 'p-1'"), "note:  → n"),
    },
    "usage_exchangerate": {
        PAGE: (lambda day: day.page("usage/exchangerate/add", currency="EUR", **RATE), "currency: nothing → EUR"),
        REST: (lambda day: day.rest("POST", "exchange-rates", currency="CHF", **RATE), "currency: nothing → CHF"),
        SQL: (by_sql("UPDATE usage_exchangerate SET source = 's' WHERE currency = 'EUR'"), "source: p → s"),
    },
    "usage_alerttarget": {
        PAGE: (on_page("usage/alerttarget", "target", active=None), "active: true → false"),
        REST: (by_rest("alert-targets", "target", active=True), "active: false → true"),
        SQL: (by_sql("UPDATE usage_alerttarget SET address = 'b@example.com'"), "ops@example.com → b@example.com"),
    },
    "usage_keyrules": {
        PAGE: (on_page("keys/team", "team", key_rules__0__most_rpm="2"), "most_rpm: 1 → 2"),
        REST: (by_rest("teams", "team", key_rules={"most_rpm": 3}), "most_rpm: 2 → 3"),
        COMMAND: (by_file("most_days: 7", "most_days: 8"), "most_days: 7 → 8"),
        SQL: (by_sql("DELETE FROM usage_keyrules"), "most_rpm: 3 → nothing"),
    },
    "administration_grant": {
        PAGE: (Day.grant, "role: nothing → auditor"),
        COMMAND: (by_command("grant_role", "carol", "billing_admin"), "role: nothing → billing_admin"),
        SQL: (by_sql("DELETE FROM administration_grant"), "role: auditor → nothing"),
    },
    "administration_apitoken": {
        PAGE: (lambda day: day.page("administration/apitoken/add", name="p", scopes=["all:read"]), "name: nothing → p"),
        COMMAND: (by_command("issue_api_token", "c", user="boss"), "name: nothing → c"),
        SQL: (by_sql("UPDATE administration_apitoken SET scopes = '{{}}'"), '["all:write"] → []'),
    },
    "mfa_authenticator": {
        PAGE: (lambda day: day.act_on_carol("remove_second_factors"), "data: secret → nothing"),
        COMMAND: (Day.remove_second_factors, "data: secret → nothing"),
        SQL: (
            inserted("mfa_authenticator", type="'totp'", data="'{{}}'", user_id="{carol}", created_at="now()"),
            "type: nothing → totp",
        ),
    },
    "socialaccount_socialaccount": {
        PAGE: (lambda day: day.act_on_carol("remove_second_factors"), "uid: carol-1 → nothing"),
        COMMAND: (Day.remove_second_factors, "uid: carol-1 → nothing"),
        SQL: (
            inserted(
                "socialaccount_socialaccount",
                provider="'sso'",
                uid="'u'",
                user_id="{carol}",
                extra_data="'{{}}'",
                last_login="now()",
                date_joined="now()",
            ),
            "uid: nothing → u",
        ),
    },
    "socialaccount_socialapp": {
        SQL: (
            inserted(
                "socialaccount_socialapp",
                provider="'sso'",
                provider_id="''",
                name="'n'",
                client_id="''",
                secret="'hidden'",
                key="''",
                settings="'{{}}'",
            ),
            "secret: nothing → secret",
        ),
    },
    "account_emailaddress": {
        SQL: (
            inserted(
                "account_emailaddress", email="'c@example.com'", verified="true", primary="true", user_id="{carol}"
            ),
            "email: nothing → c@example.com",
        ),
    },
}


def in_words(event: AuditEvent, names: dict[int, str]) -> str:
    """The changes of an event by column: `name: a → b`. What isn't there before or after it is `nothing`."""

    def one(change: dict[str, Any], end: str) -> str:
        value = change.get(end, "nothing")
        if isinstance(value, dict):
            return names[value["name"]] if "name" in value else "secret"
        return "null" if value is None else str(value)

    return "; ".join(f"{name}: {one(each, 'from')} → {one(each, 'to')}" for name, each in sorted(event.changes.items()))


def missing(day: Day) -> list[str]:
    """Make all changes; what the log doesn't say of them."""
    gaps = []
    for table, ways in CHANGES.items():
        for way, (do, expected) in ways.items():
            before = AuditEvent.objects.latest("id").pk
            do(day)
            events = AuditEvent.objects.filter(id__gt=before, table_name=table)
            names = dict(AuditName.objects.filter(table_name=table).values_list("pk", "value"))
            found = [(said(event)[0], in_words(event, names), event.address) for event in events]
            address = "127.0.0.1" if way in (PAGE, REST) else ""
            if not any(who.startswith(way) and expected in what and place == address for who, what, place in found):
                gaps.append(f"{table} by {way}: {expected!r} is not in {found}")
    return gaps


def forgeries() -> dict[str, str]:
    """Changes of the log's first, a middle and its last row."""
    ids = list(AuditEvent.objects.order_by("id").values_list("id", flat=True))
    found = {}
    for which in (ids[0], ids[len(ids) // 2], ids[-1]):
        found[f"changed {which}"] = f"UPDATE keys_auditevent SET actor = 'other' WHERE id = {which}"
        found[f"deleted {which}"] = f"DELETE FROM keys_auditevent WHERE id = {which}"
    # An id that a transaction that was rolled back has left out.
    gap = next(each for each in itertools.count(ids[0]) if each not in set(ids))
    assert gap < ids[-1]
    found[f"inserted {gap}"] = (
        f"INSERT INTO keys_auditevent OVERRIDING SYSTEM VALUE SELECT {gap}, at, actor_kind, actor_id, actor, address, "
        f"action, table_name, object, about, changes FROM keys_auditevent WHERE id = {ids[-1]}"
    )
    return found


def test_a_day_of_changes_is_in_the_log_and_each_change_of_the_log_is_found(folder: Path, settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    # Demo data never changes: tests/money/test_demo_data.py; the others: billing/ and reconciliation/test_audit.py.
    assert watched() == CHANGES.keys() | {"keys_demodata"} | RECONCILED | BILLED | REPORTED
    day = Day(folder)
    seals.seal()
    assert missing(day) == []
    with transaction.atomic():
        sql("UPDATE keys_gateway SET paused = true")
        transaction.set_rollback(True)
    sql("UPDATE keys_gateway SET paused = true")
    seals.seal()
    assert verified()[0] == 0
    kept = (file := seal_file.path()).read_bytes()
    for name, statement in forgeries().items():
        with transaction.atomic():
            forge(statement)
            code, words = verified()
            assert (code, "event" in words) == (1, True), f"{name} is not found"
            # A forger with the rights of the database's owner computes all seals again.
            forge("DELETE FROM keys_auditseal")
            file.unlink()
            seals.seal()
            assert verified()[0] == 0
            file.write_bytes(kept)
            assert "computed again" in verified()[1], f"{name} is not found by the file"
            transaction.set_rollback(True)
    assert verified()[0] == 0
