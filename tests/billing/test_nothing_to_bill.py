"""What the commands of billing say where there is nothing to bill yet: silence looks like success."""

from __future__ import annotations

import io

import pytest
from django.core.management import call_command

from tests.support.ledger_rows import empty_ledger, make_cast
from tests.support.statement_cast import bill, make_issuer

pytestmark = pytest.mark.django_db(transaction=True)


def said(*command):
    out, err = io.StringIO(), io.StringIO()
    call_command(*command, stdout=out, stderr=err)
    assert out.getvalue() == ""
    return err.getvalue()


@pytest.mark.parametrize("confirmed", [(), ("--yes",)])
def test_closing_a_month_says_why_there_is_nothing_to_close(confirmed):
    empty_ledger()
    cast = make_cast()
    assert "no customer has billing particulars" in said("close_month", "2026-10", *confirmed)
    bill(cast.alice.customer, make_issuer())
    assert "no customer has calls in it that are on no statement" in said("close_month", "2026-10", *confirmed)


def test_verifying_says_that_no_statement_was_issued():
    assert "none was issued yet" in said("verify_statement")
