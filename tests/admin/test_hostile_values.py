"""Whatever a URL or a form of the pages carries, the answer is a page, and never the failure of one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import transaction
from django.test import Client

from tests.roles.test_access import METHODS, address, lines, urls
from tests.support import parameters
from tests.support.ledger_rows import empty_ledger
from tests.support.role_cast import VISITORS, Cast, make_role_cast

# Letters, a character that PostgreSQL doesn't take, a number that no column takes, a negative one, and two values.
HOSTILE: tuple[str | list[str], ...] = ("abc", "a\0b", "9" * 30, ["-1", "abc"])
# Forms with pickers.
ADDED = (
    *("keys/team", "keys/gatewaytoken", "keys/virtualkey", "administration/person"),
    *("usage/budget", "usage/limit", "usage/override", "usage/topup", "usage/alerttarget"),
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    empty_ledger()
    return make_role_cast()


@pytest.fixture
def owner(cast: Cast) -> Client:
    client, person = Client(raise_request_exception=False), cast.people["owner"]
    assert person is not None
    client.force_login(person)
    return client


def pages(cast: Cast, client: Client) -> Iterator[tuple[str, Any]]:
    """The URLs that an owner may open, and their pages."""
    table, column = lines(), VISITORS.index("owner")
    for name, route in urls():
        if METHODS.get(name, "GET") == "GET" and table[f"GET {name}"][column] == "200":
            url = address(name, route, cast)
            page = client.get(url)
            if not page.streaming and page.context:
                yield url, page


def send(client: Client, method: str, url: str, data: dict[str, Any]) -> int:
    """The status of an answer, undone afterwards."""
    with transaction.atomic():
        answer = getattr(client, method)(url, data)
        transaction.set_rollback(True)
    return int(answer.status_code)


@pytest.mark.parametrize("row", ADDED)
def test_no_value_makes_a_form_that_adds_a_row_fail(row: str, owner: Client) -> None:
    url = f"/admin/{row}/add/"
    names = [*parameters.inputs(owner.get(url)), *parameters.OF_FORMS[1:6]]
    for hostile in HOSTILE:
        assert send(owner, "get", url, dict.fromkeys(names, hostile)) == 200
        assert send(owner, "post", url, dict.fromkeys(names, hostile)) == 200


@pytest.mark.long
def test_no_value_of_a_parameter_makes_a_page_fail(cast: Cast, owner: Client) -> None:
    faults = []
    for url, page in pages(cast, owner):
        for hostile in HOSTILE:
            names = parameters.of(page)
            if "cl" in page.context:  # a filter that can't be used hides the others
                apart = [*({name: hostile} for name in names), dict.fromkeys(parameters.OF_LISTS, hostile)]
            else:
                apart = [dict.fromkeys(names, hostile)]
            faults += [f"{url} {each}" for each in apart if send(owner, "get", url, each) >= 500]
    assert not faults, "\n".join(faults)


@pytest.mark.long
def test_no_value_of_a_form_makes_a_page_fail(cast: Cast, owner: Client) -> None:
    faults, sent = [], 0
    for url, page in pages(cast, owner):
        if "cl" in page.context or not (names := parameters.inputs(page)):
            continue
        for hostile in HOSTILE:
            sent += 1
            if send(owner, "post", url, dict.fromkeys(names, hostile)) >= 500:
                faults.append(f"{url} {hostile!r}")
    assert not faults, "\n".join(faults)
    assert sent > 100


@pytest.mark.parametrize("hostile", ["a\0b", "\0", "9" * 30, "%", "\\", "x" * 1000])
def test_no_search_of_a_picker_makes_it_fail(hostile: str, owner: Client) -> None:
    for field in ("customer", "team", "virtual_key", "provider_key"):
        asked = {"app_label": "usage", "model_name": "budget", "field_name": field}
        assert owner.get("/admin/autocomplete/", asked | {"term": hostile}).status_code == 200
        for name in ("page", "app_label", "model_name", "field_name"):
            assert owner.get("/admin/autocomplete/", asked | {name: hostile}).status_code in (403, 404)
