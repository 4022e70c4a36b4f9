"""Every page in Chromium, for people who see it badly, hear it or have a phone: axe-core finds no fault, light or dark,
nothing is wider than the window, and nothing does what the page's policy forbids.

The pages are those that the table of roles (tests/roles/access.txt) opens to an owner or a visitor, those that look
different to other roles, those of second factors, and those of errors.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import User
from django.contrib.auth.tokens import default_token_generator
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from keys.models import Customer, ProviderKey, Team, VirtualKey
from tests.admin.test_page_widths import styled
from tests.support.browser import Window
from tests.support.gateway import Web
from tests.support.inspection import Inspection, forget, pages
from tests.support.page_looks import looks
from tests.support.role_cast import Cast, make_role_cast
from tests.support.signed_in import cookies_of, signed_in
from tests.support.signing_in import PASSWORD, code
from usage import rollups
from usage.models import Process
from usage.reporting.asked import SHOWN

__all__ = ["styled"]

# The API reference is shown by Swagger UI, whose markup isn't ours.
VIEWER = {
    "color-contrast": "its colours of methods",
    "heading-order": "its groups are h3 below its h1",
    "nested-interactive": "a link in the button that opens an operation",
    "region": "its title and its choice of servers are outside its main part",
    "select-name": "its choice of servers has no label",
}
FORGIVEN = dict.fromkeys(("docs", "rest_docs"), VIEWER)
# Who has the rights of others, or fewer of them.
ROLES = ("key admin", "billing admin", "finance", "auditor", "team admin", "member")
LONG = "with a name that is rather long"
# What a list or a report looks like without rows.
WITHOUT_ROWS = ("admin:index", "usage_report", "admin:calls", "my")
WITHOUT_TOKEN = """{
    const form = document.querySelector("#content form, main form");
    form.elements.csrfmiddlewaretoken.value = "x";
    form.submit();
}"""
TOO_MANY_FIELDS = """{
    const form = document.querySelector("#content form, main form");
    for (let number = 0; number < 1001; number++) {
        form.append(Object.assign(document.createElement("input"), {type: "hidden", name: "x"}));
    }
    form.submit();
}"""
SIGN_IN = """{
    const form = document.getElementById("login-form");
    form.elements.username.value = "dora";
    form.elements.password.value = "%s";
    form.submit();
}"""
SUBMIT = "document.querySelector('#content form').submit()"


@pytest.fixture
def cast(styled: Web) -> Iterator[Cast]:
    """The people and rows of the table of roles, with long names and a report."""
    cast = make_role_cast()
    for model in (Customer, Team, VirtualKey, ProviderKey):
        for row in model.objects.all():
            model.objects.filter(pk=row.pk).update(name=f"{row.name} {LONG}")
    rollups.roll_up()
    # The gateway takes rows of processes away that don't live.
    cast.rows["usage.process"] = Process.objects.exclude(host="host").latest("started_at")
    yield cast
    forget()


def cookies(cast: Cast, who: str) -> dict[str, str]:
    person = cast.people[who]
    return cookies_of(person) if person else {}


def test_every_page_of_an_owner_suits_everyone(chromium: Window, styled: Web, cast: Cast) -> None:
    found = pages(cast, "owner")
    more = {
        "report by key": found["usage_report"] + "?range=this_year&by=key&by=model&every=month&compare=yes",
        **{f"report: {show}": f"{found['usage_report']}?range=this_year&show={show}" for show in SHOWN},
        "key that may call": found["admin:key"] + "?model=echo-1",
        "calls that fit": found["admin:calls"] + "?status=problem",
        "list without a match": found["admin:keys_team_changelist"] + "?q=nothing",
        "popup": found["admin:keys_team_add"] + "?_popup=1",
    }
    inspection = Inspection(chromium, styled, FORGIVEN)
    inspection.visit_as(cookies(cast, "owner"))
    for title, path in (found | more).items():
        inspection.open(path)
        assert inspection.status() == 200, title
        inspection.look(title)
    assert len(inspection.seen) > 90
    assert not inspection.wrong, inspection.report()


def test_pages_that_look_different_to_other_roles_suit_everyone(
    chromium: Window, styled: Web, cast: Cast, client: Client
) -> None:
    """The overview of each role, and the pages that lack or have something that the owner's have or lack."""

    inspection = Inspection(chromium, styled)
    known: set[tuple[str, frozenset[str]]] = set()
    for who in ("owner", *ROLES):
        person = cast.people[who]
        assert person is not None
        client.force_login(person)
        inspection.visit_as(cookies_of(person))
        for title, path in pages(cast, who).items():
            look = (title, looks(client.get(path).content.decode()))
            # The test above has opened the owner's.
            if who != "owner" and (look not in known or title == "admin:index"):
                inspection.open(path)
                assert inspection.status() == 200, (who, title)
                inspection.look(f"{title} of {who}")
            known.add(look)
    assert len(inspection.seen) > 20
    assert not inspection.wrong, inspection.report()


def test_every_list_without_rows_suits_everyone(chromium: Window, styled: Web) -> None:
    found = pages(Cast({}, {}), "owner")
    inspection = Inspection(chromium, styled)
    with signed_in() as boss:
        inspection.visit_as(boss)
        for title, path in found.items():
            if title.endswith("_changelist") or title in WITHOUT_ROWS:
                inspection.open(path)
                inspection.look(f"empty {title}")
    assert not inspection.wrong, inspection.report()


def test_pages_for_visitors_and_pages_of_errors_suit_everyone(chromium: Window, styled: Web, cast: Cast) -> None:
    member = cast.people["member"]
    assert member is not None
    link = [urlsafe_base64_encode(force_bytes(member.pk)), default_token_generator.make_token(member)]
    login, my = reverse("admin:login"), reverse("my")
    opened = pages(cast, "visitor") | {"invitation that works": reverse("invitation", args=link)}
    opened |= {"404": "/my/nope/", "405": reverse("my_sign_out")}
    forms = {
        "wrong password": (login, SIGN_IN % "wrong"),
        "wrong key": (my, "document.getElementById('key').value = 'sk-bf-x'; document.querySelector('form').submit()"),
        "form that is too old": (login, WITHOUT_TOKEN),
        "too many fields": (my, TOO_MANY_FIELDS),
    }
    inspection = Inspection(chromium, styled, FORGIVEN)
    inspection.visit_as({})
    for title, (path, script) in {**{title: (path, "") for title, path in opened.items()}, **forms}.items():
        inspection.open(path, leads_on=title.startswith("invitation"))
        if script:
            inspection.submit(script)
        inspection.look(title)
    inspection.visit_as(cookies_of(member))
    refused = {"403": reverse("admin:keys_providerkey_changelist"), "404 in the site": "/admin/nope/"}
    for title, path in (refused | {"405 in the site": reverse("admin:logout")}).items():
        inspection.open(path)
        inspection.look(title)
    inspection.open(reverse("account"))
    inspection.submit(WITHOUT_TOKEN.replace("#content form, main form", "#logout-form"))
    inspection.look("form that is too old in the site")
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE usage_rollup RENAME TO usage_rollup_away")
        try:
            inspection.open(reverse("usage_report"))
        finally:
            cursor.execute("ALTER TABLE usage_rollup_away RENAME TO usage_rollup")
    inspection.look("500")
    assert not inspection.wrong, inspection.report()


def test_the_pages_of_second_factors_suit_everyone(chromium: Window, styled: Web) -> None:
    dora = User.objects.create_superuser("dora", password=PASSWORD)
    passkey = Authenticator.Type.WEBAUTHN
    inspection = Inspection(chromium, styled)
    # However slow the machine is, dora has proved lately who she is.
    proof = {"method": "password", "at": time.time() + 3600, "username": "dora", "reauthenticated": True}
    proofs: dict[str, object] = {
        "account_authentication_methods": [proof],
        "account_authentication_methods_user": str(dora.pk),
    }
    inspection.visit_as(cookies_of(dora, **proofs))

    def look(name: str, *args: object) -> None:
        inspection.open(reverse(name, args=args))
        inspection.look(name)

    def enter(text: str) -> None:
        inspection.submit(f"document.querySelector('[name=code]').value = '{text}'; {SUBMIT}")

    look("account")
    look("mfa_activate_totp")
    secret = chromium.evaluate("document.querySelector('.typed').textContent")
    enter("123")
    inspection.look("wrong code")
    enter(code(secret))
    inspection.look("recovery codes")
    for name in ("account", "usersessions_list", "mfa_deactivate_totp", "mfa_generate_recovery_codes"):
        look(name)
    for name in ("mfa_add_webauthn", "account_reauthenticate", "mfa_reauthenticate"):
        look(name)
    key = Authenticator.objects.create(user=dora, type=passkey, data={"name": "Phone", "credential": {}})
    look("mfa_edit_webauthn", key.pk)
    look("mfa_remove_webauthn", key.pk)
    key.delete()
    inspection.visit_as({})
    inspection.open(reverse("admin:login"))
    inspection.submit(SIGN_IN % PASSWORD)
    inspection.look("mfa_authenticate")
    assert inspection.window.evaluate("document.querySelector('[name=code]') !== null")
    assert not inspection.wrong, inspection.report()
