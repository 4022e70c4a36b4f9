"""The revisions by which a process notices that what it knows of a key is out of date."""

from __future__ import annotations

import pytest

from keys.models import Gateway, ProviderKey, VirtualKey
from tests.support.issued import make_key, make_provider_key

pytestmark = [pytest.mark.either_server, pytest.mark.django_db]


@pytest.fixture
def gateway():
    return Gateway.objects.get_or_create(id=1)[0]


def revision():
    return VirtualKey.objects.get().revision


def test_every_way_of_changing_a_key_moves_its_revision():
    make_key()
    before = revision()
    VirtualKey.objects.update(owner="Bob")
    assert revision() == before + 1


def test_a_route_moves_the_revision_of_its_key():
    alice, _ = make_key()
    seen = [revision()]
    route = alice.routes.create(provider_key=make_provider_key("another"))
    seen.append(revision())
    alice.routes.update(weight=5)
    seen.append(revision())
    route.delete()
    seen.append(revision())
    assert seen == sorted(set(seen))


def test_a_provider_key_moves_the_revision_of_the_catalogue(gateway):
    seen = [gateway.catalogue_revision]
    for change in (
        make_provider_key,
        lambda: ProviderKey.objects.update(active=False),
        lambda: ProviderKey.objects.all().delete(),
    ):
        change()
        gateway.refresh_from_db()
        seen.append(gateway.catalogue_revision)
    assert seen == sorted(set(seen))
