"""An id of a row beyond a person's roles, in a URL or in a form, makes no name visible."""

from __future__ import annotations

import pytest
from django.test import Client

from keys.models import Customer, ProviderKey, Team, VirtualKey
from tests.roles.test_access import METHODS, address, lines, urls
from tests.support import parameters
from tests.support.ledger_rows import empty_ledger
from tests.support.role_cast import VISITORS, Cast, make_role_cast

# People with a narrow scope. All but the member may choose any provider key.
NARROW = ("key admin of other customer", "member")

pytestmark = pytest.mark.django_db


@pytest.fixture
def cast() -> Cast:
    empty_ledger()
    return make_role_cast()


@pytest.fixture
def foreign(cast: Cast) -> dict[type, int]:
    """Rows of another customer, whose names no page of the others has."""
    customer = Customer.objects.create(name="zqx-customer")
    team = Team.objects.create(name="zqx-team", customer=customer)
    key = VirtualKey.objects.create(name="zqx-key", customer=customer, team=team)
    provider_key = ProviderKey.objects.create(name="zqx-provider", provider="echo", active=False)
    return {Customer: customer.pk, Team: team.pk, VirtualKey: key.pk, ProviderKey: provider_key.pk}


def about(name: str, foreign: dict[type, int]) -> int:
    """The id of the foreign row that a parameter of this name may mean."""
    words = {"customer": Customer, "team": Team, "provider": ProviderKey}
    return foreign[next((model for word, model in words.items() if word in name), VirtualKey)]


@pytest.mark.long
@pytest.mark.parametrize("who", NARROW)
def test_no_page_names_what_a_person_may_not_choose(who: str, cast: Cast, foreign: dict[type, int]) -> None:
    client, person, column = Client(), cast.people[who], VISITORS.index(who)
    assert person is not None
    client.force_login(person)
    secret = ["zqx-customer", "zqx-team", "zqx-key", *(["zqx-provider"] if who == "member" else [])]
    seen, table = [], lines()
    for name, route in urls():
        if METHODS.get(name, "GET") != "GET" or table[f"GET {name}"][column] != "200":
            continue
        url = address(name, route, cast)
        page = client.get(url)
        if page.streaming or not page.context:
            continue
        asked = {each: str(about(each, foreign)) for each in parameters.of(page)}
        if "cl" in page.context:  # a filter that can't be used hides all others
            answers = [client.get(url, {each: value}) for each, value in asked.items()]
        else:
            answers = [client.get(url, asked), *([client.post(url, asked)] if parameters.inputs(page) else [])]
        for answer in answers:
            seen.append(name)
            told = [each for each in secret if not answer.streaming and each in answer.content.decode()]
            assert not told, f"{name} names {told}"
    assert len(seen) > 15
