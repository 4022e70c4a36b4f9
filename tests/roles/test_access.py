"""What each URL and each action of a list answers to each role: access.txt is the table.

Its head explains the answers. A URL or an action without a line in it fails, and so does a line without one. A URL that
takes no GET has a line with its method. `▸` names an action of a list, tried on a row of Alice's team.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib import admin
from django.db import transaction
from django.test import Client
from django.urls import URLPattern, get_resolver

from billing.models import Statement
from tests.support.ledger_rows import empty_ledger
from tests.support.role_cast import VISITORS, Cast, make_role_cast

TABLE = Path(__file__).with_name("access.txt")
ARGUMENT = re.compile(r"<(?:(?:\w+):)?(\w+)>")
METHODS = {
    "admin:keys_virtualkey_pause": "POST",
    "admin:keys_virtualkey_resume": "POST",
    "admin:keys_virtualkey_end_old": "POST",
    "admin:keys_providerkey_test": "POST",
    "admin:usage_alerttarget_test": "POST",
    "admin:administration_person_invite": "POST",
    "admin:logout": "POST",
    "cancel_sign_in": "POST",
    "single_sign_on_begin_link": "POST",
    "single_sign_on_unlink": "POST",
    "my_sign_out": "POST",
    "admin:provider_key_call": "POST",
    "admin:provider_key_reset": "POST",
    "admin:provider_key_secret": "POST",
    "admin:saved_report_subscription": "POST",
}

pytestmark = pytest.mark.django_db


def urls(patterns: Any = None, prefix: str = "", space: str = "") -> Iterator[tuple[str, str]]:
    """Every URL: its name, or its route if it has none, and its route."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = prefix + str(pattern.pattern)
        if not isinstance(pattern, URLPattern):
            inner = f"{space}{pattern.namespace}:" if pattern.namespace else space
            if not route.startswith("api/v1/"):  # the REST API, which takes tokens only: tests/rest/
                yield from urls(pattern.url_patterns, route, inner)
        elif not route.endswith("/<path:object_id>/"):  # Django's redirect to the page of a row, which shows nothing
            yield (f"{space}{pattern.name}" if pattern.name else route), route


def actions() -> Iterator[tuple[str, Any, Any]]:
    """Every action of a list: its line's name, its page and its own name."""
    for model, page in admin.site._registry.items():
        for action in page.actions or ():
            yield f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist ▸ {action}", page, action


def lines() -> dict[str, list[str]]:
    """The table: the answers in the order of the columns, by method and name."""
    found: dict[str, list[str]] = {}
    for line in TABLE.read_text().splitlines():
        if line and not line.startswith("#"):
            *name, answers = re.split(r"\s{2,}", line, maxsplit=1)
            assert name[0] not in found, f"a second line: {name[0]}"
            found[name[0]] = answers.split()
    return found


def address(name: str, route: str, cast: Cast) -> str:
    """A URL of this route for the row of Alice's team."""
    label = re.match(r"admin:([a-z]+(?:_api)?)_([a-z]+)_\w+$", name)
    row = cast.rows.get(f"{label[1]}.{label[2]}") if label else None

    def argument(match: re.Match[str]) -> str:
        given = {"app_label": "keys", "model_name": "virtualkey", "content_type_id": "1", "uidb64": "MQ", "token": "x"}
        if match[1] == "object_id":
            return str(row.pk if row is not None else cast.row("keys.virtualkey").pk)
        if match[1] in ("number", "customer", "month", "name"):
            document = cast.row("billing.statement")
            assert isinstance(document, Statement)
            values = {"number": document.number, "customer": document.customer_id, "month": "2026-10", "name": "pdf"}
            return str(values[match[1]])
        if match[1] == "call":
            return str(cast.row("usage.ledgerentry").pk)
        if match[1] == "pk" and ":saved_report" in name:
            return str(cast.row("usage.savedreport").pk)
        if match[1] == "pk" and ":provider_key" in name:
            return str(cast.row("keys.providerkey").pk)
        if match[1] in ("pk", "key"):
            kind = next((kind for kind in ("team", "customer") if name.endswith(f":{kind}")), "virtualkey")
            return str(cast.row(f"keys.{kind}").pk)
        return given[match[1]]

    text = route.replace("^(?P<app_label>", "(?P<app_label>")
    text = re.sub(r"\(\?P<app_label>[^)]*\)/\$?", "keys/", text)
    text = re.sub(r"\(\?P<url>\.\*\)\$", "no-such-page/", text)
    choices = "?app_label=usage&model_name=budget&field_name=virtual_key" if name.endswith("autocomplete/") else ""
    return f"/{ARGUMENT.sub(argument, text)}{choices}"


def answer(client: Client, method: str, url: str, data: dict[str, Any] | None = None) -> str:
    """The status of an answer, undone afterwards."""
    with transaction.atomic():
        status = client.generic(method, url).status_code if data is None else client.post(url, data).status_code
        transaction.set_rollback(True)
    return str(status)


def answers(cast: Cast, who: str) -> dict[str, str]:
    """What the product really answers to this visitor, by the table's lines."""
    client, person = Client(), cast.people[who]
    if person is not None:
        client.force_login(person)
    found = {}
    for name, route in urls():
        method = METHODS.get(name, "GET")
        found[f"{method} {name}"] = answer(client, method, address(name, route, cast))
        if person is not None and "logout" in name:
            client.force_login(person)
    offered: dict[str, set[str] | None] = {}
    for name, page, action in actions():
        data = {"action": action, "_selected_action": str(cast.row(page.model._meta.label_lower).pk)}
        url = f"/admin/{page.opts.app_label}/{page.opts.model_name}/"
        if url not in offered:
            offered[url] = offers(client, url)
        found[f"POST {name}"] = f"{answer(client, 'POST', url, data)}{mark(offered[url], action)}"
    return found


def offers(client: Client, url: str) -> set[str] | None:
    """The values that the list's page offers, its actions among them; None where there is no list."""
    page = client.get(url)
    return set(re.findall(r'value="(\w+)"', page.content.decode())) if page.status_code == 200 else None


def mark(offered: set[str] | None, action: str) -> str:
    """`+` for an action that the list offers, else `-`; nothing where there is no list."""
    if offered is None:
        return ""
    return "+" if action in offered else "-"


@pytest.fixture
def cast() -> Cast:
    empty_ledger()
    return make_role_cast()


def test_each_url_and_action_has_a_line() -> None:
    expected = lines().keys()
    found = {f"{METHODS.get(name, 'GET')} {name}" for name, _ in urls()} | {f"POST {name}" for name, _, _ in actions()}
    missing, gone = sorted(found - expected), sorted(expected - found)
    assert not missing, "add a line to access.txt for each:\n" + "\n".join(missing)
    assert not gone, "these lines of access.txt have no URL:\n" + "\n".join(gone)


@pytest.mark.long
@pytest.mark.parametrize("who", VISITORS)
def test_each_url_and_action_answers_each_role_as_the_table_says(cast: Cast, who: str) -> None:
    column, found = VISITORS.index(who), answers(cast, who)
    faults = [
        f"{name}: {found[name]}, and not {row[column]}"
        for name, row in lines().items()
        if found.get(name, row[column]) != row[column]
    ]
    assert not faults, "\n".join(faults)
