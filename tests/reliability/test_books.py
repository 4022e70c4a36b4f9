"""The judge reads the ledger with its own queries, from a real database."""

from __future__ import annotations

import pytest
from django.db import connection

from gateway_project import database
from reliability import judge
from reliability.judge import Books
from reliability.load import Call
from tests.support.ledger_rows import empty_ledger, make_cast, make_entry

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_call_without_its_row_is_found_in_the_ledger_itself():
    empty_ledger()
    cast = make_cast()
    for number in (1, 2):
        make_entry(cast.alice, client_labels={"request_id": f"a-{number}"}, output_tokens=7)
    make_entry(cast.alice, client_labels={"request_id": "b-1"})
    books = Books(database.url_of(connection.settings_dict))
    calls = [Call(f"a-{number}", "json", number, 0.1, "200") for number in (1, 2, 3)]
    upstream = {call.id: 1 for call in calls}
    assert {row.id for row in books.rows("a")} == {"a-1", "a-2"}
    assert judge.compare(calls[:2], {"a-1": 1, "a-2": 1}, books.rows("a"), killed=False) == []
    said = ["calls reached the provider and have no row: 1 (a-3)"]
    assert judge.compare(calls, upstream, books.rows("a"), killed=False) == said
    assert books.holds() == 0
