"""Pages offer no link that leads to a refusal."""

from __future__ import annotations

import re
from html import unescape

import pytest
from django.test import Client
from django.urls import reverse

from tests.support.ledger_rows import empty_ledger
from tests.support.role_cast import make_role_cast
from usage import request_ids, rollups
from usage.models import Budget

pytestmark = pytest.mark.django_db
LINK = re.compile(r"<a [^>]*?href=\"([^\"#]+)\"")


@pytest.mark.long
@pytest.mark.parametrize("who", ["member", "team admin", "finance"])
def test_no_page_links_to_what_its_reader_may_not_do(who: str) -> None:
    empty_ledger()
    cast, client = make_role_cast(), Client()
    rollups.roll_up()
    reader = cast.people[who]
    assert reader is not None
    client.force_login(reader)
    key = cast.row("keys.virtualkey")
    call = request_ids.request_id(cast.row("usage.ledgerentry").pk)
    names = ("index", "calls", "usage_budget_changelist", "keys_virtualkey_changelist")
    pages = [*(reverse(f"admin:{name}") for name in names), reverse("usage_report")]
    pages += [reverse("admin:key", args=[key.pk]), reverse("admin:call", args=[call])]
    wrong: dict[str, str] = {}
    seen = set()
    for page in pages:
        answer = client.get(page)
        assert answer.status_code == 200, page
        for link in LINK.findall(answer.content.decode()):
            path = unescape(link)
            url = page + path if path.startswith("?") else path
            # The order of a list's columns and the pages of a list refuse no reader.
            if not url.startswith("/") or "o=" in url or url in seen:
                continue
            seen.add(url)
            if client.get(url).status_code in (403, 404):
                wrong[url] = page
    assert not wrong
    assert len(seen) > 10


def test_the_page_of_a_refused_download_names_the_roles_that_may() -> None:
    empty_ledger()
    cast, client = make_role_cast(), Client()
    member = cast.people["member"]
    assert member is not None
    client.force_login(member)
    for url, deed in ((reverse("usage_report"), "export the usage report"), (reverse("admin:calls"), "export calls")):
        refused = client.get(url, {"format": "csv"})
        assert refused.status_code == 403
        page = refused.content.decode()
        assert f"You may not {deed} here" in page
        assert "Finance" in page
        assert "No role allows this" not in page


@pytest.mark.parametrize("who", ["member", "team admin"])
def test_the_overview_leaves_out_budgets_that_its_reader_does_not_see(who: str) -> None:
    empty_ledger()
    cast, client = make_role_cast(), Client()
    Budget.objects.create(customer_id=cast.row("keys.customer").pk, amount=5000, period="month")
    reader = cast.people[who]
    assert reader is not None
    client.force_login(reader)
    page = client.get(reverse("admin:index")).content.decode()
    assert "Spent this month" in page
    assert "No customer" not in page
    assert "No budget is exhausted" not in page
