"""A new provider is one file: what is true of it is said by its class, and nowhere else."""

from __future__ import annotations

import pkgutil
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial

import pytest

from keys import provider_keys, provider_kinds
from keys.errors import Unusable
from keys.models import ProviderKey
from messages_api import providers
from messages_api.providers.base import JSON, SPOKEN, Outgoing, Provider, Whole, speaks
from usage import pricing


@pytest.fixture
def parrot():
    """A provider that repeats what it is asked."""

    @speaks
    class Parrot(Provider):
        name = "parrot"
        label = "Parrot"
        takes_region = True
        price_lists = ("anthropic",)

        @classmethod
        def check_secret(cls, secret):
            provider_kinds.check_object(secret, ("cracker",))

        async def send(self, call: Outgoing):
            return Whole(200, [JSON], b"{}")

    yield Parrot
    del SPOKEN["parrot"], provider_kinds._kinds["parrot"]


@pytest.mark.django_db
def test_its_keys_are_checked_by_its_own_rules(parrot):
    add = partial(provider_keys.add_provider_key, name="polly", provider="parrot")
    with pytest.raises(Unusable, match="lacks cracker"):
        add(region="cage", secret="{}")
    with pytest.raises(Unusable, match="the region is missing"):
        add(secret='{"cracker": "yes"}')
    made = add(region="cage", secret='{"cracker": "yes"}')
    made.full_clean()
    assert ProviderKey.objects.get().get_provider_display() == "Parrot"
    assert ("parrot", "Parrot") in provider_kinds.choices()


def test_its_models_are_priced_and_called(parrot):
    price = pricing.build([]).learn("parrot", "claude-haiku-4-5", datetime.now(UTC))
    assert (price.input, price.output) == (Decimal(1), Decimal(5))
    assert providers.find("parrot") is parrot


def test_every_file_of_the_folder_that_has_a_provider_is_known():
    names = {module.name for module in pkgutil.iter_modules(providers.__path__)}
    assert set(SPOKEN) <= names
    assert set(SPOKEN) == set(provider_kinds.names()) == {"anthropic", "azure", "bedrock", "echo", "openai", "vertex"}
    assert all(kind.label for kind in SPOKEN.values())
