"""Pages of a report belong to one state of the ledger, and say how new it is."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import User

from tests.analytics.test_reports import HOURS, refused
from tests.support.finance import MONTH, Finance, at, made_calls, token_of
from tests.support.ledger_rows import Cast, empty_ledger, make_cast, make_entry
from usage import rollups
from usage.models import RollupState

pytestmark = pytest.mark.usefixtures("apart")


@pytest.fixture
def cast(apart: str) -> Cast:
    empty_ledger()
    cast = make_cast()
    made_calls(cast)
    rollups.roll_up()
    return cast


@pytest.fixture
def finance(cast: Cast) -> Finance:
    return Finance(token_of(User.objects.create_superuser("boss")))


def test_pages_of_two_states_are_never_joined(cast: Cast, finance: Finance) -> None:
    query = [*HOURS, ("limit", "2")]
    first = finance.page("usage", query)
    make_entry(cast.bob, at(20))
    rollups.roll_up()
    # What came after the rows of the first page is on the second.
    second = finance.page("usage", [*query, ("page", first["next_page"])])
    assert sum(row["usage"]["requests"] for row in finance.rows("usage", query)) == 7
    assert second["data_refreshed_at"] == first["data_refreshed_at"]
    make_entry(cast.bob, at(1))
    rollups.roll_up()
    message = refused(finance.ask("usage", [*query, ("page", first["next_page"])]), 400, "invalid_request_error")
    assert message == "page: the figures have changed since the first page: begin again without it"


def test_the_data_are_as_new_as_the_answer_says(cast: Cast, finance: Finance) -> None:
    make_entry(cast.alice, at(4))
    RollupState.objects.update(rolled_up_at=at(1))
    page = finance.page("usage", MONTH)
    assert page["data"][0]["usage"]["requests"] == 7
    rolled_up = RollupState.objects.get().rolled_up_at
    assert rolled_up is not None
    assert page["data_refreshed_at"] == f"{rolled_up:%Y-%m-%dT%H:%M:%SZ}"
