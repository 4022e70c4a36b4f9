"""Which provider key a reported key is, is found by the ends of its secret, and otherwise chosen by a person."""

from __future__ import annotations

import pytest

from keys import provider_keys
from reconciliation import key_hints, running
from reconciliation.models import ReportedKey
from reconciliation.reading import Run
from tests.support.reported import HINT, MONTH, OURS, SECRET, Organisation, at, compared, moment

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _soon_after(acme: Organisation, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is early in the month: fewer days are read."""
    moment(monkeypatch, at(9, 7))


def read(acme: Organisation) -> None:
    assert running.run(acme.admin_key, Run(since=MONTH.date())) == ""


def test_keys_are_mapped_without_typing(acme: Organisation) -> None:
    acme.reports.keys.append({"id": "apikey_x", "name": "other", "partial_key_hint": "sk-ant-api03-zzz...zzzz"})
    read(acme)
    rows = {row.api_key_id: row.provider_key for row in ReportedKey.objects.all()}
    assert rows == {OURS: acme.key, "apikey_x": None}


def test_a_hint_that_several_secrets_fit_maps_none(acme: Organisation) -> None:
    provider_keys.add_provider_key(name="twin", provider="anthropic", secret=SECRET)
    read(acme)
    [row] = ReportedKey.objects.all()
    assert (row.provider_key, row.candidates) == (None, 2)


def test_two_reported_keys_with_the_same_ends_are_both_open(acme: Organisation) -> None:
    acme.reports.keys.append({"id": "apikey_twin", "name": "twin", "partial_key_hint": HINT})
    read(acme)
    assert [(row.provider_key, row.candidates) for row in ReportedKey.objects.all()] == [(None, 2), (None, 2)]


def test_a_person_may_choose_and_the_choice_stays(acme: Organisation) -> None:
    twin = provider_keys.add_provider_key(name="twin", provider="anthropic", secret=SECRET)
    acme.counted(at(3))
    read(acme)
    key_hints.choose(ReportedKey.objects.get(), twin)
    key_hints.note(acme.admin_key, [])
    read(acme)
    assert ReportedKey.objects.get().provider_key == twin
    from reconciliation import comparing

    comparing.compare_days(acme.admin_key, [at(3).date()])
    assert [row.provider_key for row in compared()] == [twin]


def test_a_replaced_secret_keeps_what_was_found_for_the_old_one(acme: Organisation) -> None:
    read(acme)
    provider_keys.set_secret(acme.key, "sk-ant-api03-NEW" + "y" * 60 + "newA")
    acme.reports.keys.append({"id": "apikey_new", "name": "new", "partial_key_hint": "sk-ant-api03-NEW...newA"})
    read(acme)
    assert {row.api_key_id: row.provider_key for row in ReportedKey.objects.all()} == {
        OURS: acme.key,
        "apikey_new": acme.key,
    }


def test_a_key_that_only_a_report_names_can_be_chosen(acme: Organisation) -> None:
    acme.counted(at(3), api_key_id="apikey_deleted")
    read(acme)
    assert ReportedKey.objects.filter(api_key_id="apikey_deleted", provider_key=None).exists()
