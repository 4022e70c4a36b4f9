"""The pages of the admin that have forms fit a laptop and a phone: nothing is wider than the window."""

from __future__ import annotations

import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from keys import issuing
from keys.models import CheckState, Customer, GatewayToken, ModelAlias, ProviderKeyCheck, Team, VirtualKey
from tests.support import browser
from tests.support.gateway import Web
from tests.support.issued import SECRET, make_key, make_provider_key
from tests.support.signed_in import signed_in
from usage.budgets import Budget, Override, Period, TopUp, Unit
from usage.limits import Limit, LimitKind
from usage.models import AlertTarget, Price

# A folder for pictures of what is looked at, for people.
PICTURES = os.environ.get("PICTURES_DIR", "")
SIZES = [(1280, 2000), (390, 2000)]
# Every element that is wider than its window or that has to be pushed aside to be seen whole, by what it is.
TOO_WIDE = """(() => {
    const room = document.documentElement.clientWidth;
    const wide = [...document.body.querySelectorAll("*")].filter(each => {
        const box = each.getBoundingClientRect();
        const pushed = each.scrollWidth > each.clientWidth + 1
            && ["auto", "scroll"].includes(getComputedStyle(each).overflowX);
        return box.width > 1 && box.height > 1 && (box.right > room + 1 || pushed);
    });
    return [document.documentElement.scrollWidth, room,
        wide.slice(0, 8).map(each => `${each.tagName}#${each.id}.${each.className}`)];
})()"""
OPEN = "document.querySelectorAll('.inline-group .add-row a').forEach(link => link.click())"
STYLED = "[...document.querySelectorAll('link[rel=stylesheet]')].every(link => link.sheet !== null)"


def fill(owner: Customer | Team | VirtualKey, field: str) -> None:
    """Several budgets and limits of an owner."""
    more: dict[str, Any] = {field: owner}
    patterns: list[list[str]] = [[], ["claude-opus-*", "claude-sonnet-4-5-20250929", "eu.anthropic.claude-haiku-*"]]
    for models in patterns:
        for unit, amount in ((Unit.USD, "12345.5"), (Unit.TOKENS, "5000000000")):
            for period in (Period.MONTH, Period.DAY, Period.NONE):
                Budget.objects.create(
                    unit=unit, amount=amount, period=period, model_patterns=models, thresholds=[50, 80, 95, 100], **more
                )
        for kind in LimitKind:
            Limit.objects.create(kind=kind, rate=1_000_000, model_patterns=models, **more)


@pytest.fixture
def styled(served: None, start_web: Callable[..., Web], collected: Path) -> Web:
    """A gateway that serves the files that its pages are made with."""
    return start_web(var_dir=collected, secret_key=settings.SECRET_KEY)


@pytest.fixture
def filled(served: None) -> dict[str, str]:
    """The addresses of every page with a form, by their names; each shows as much as it can."""
    key, _ = make_key("a-key-with-a-rather-long-name-for-continuous-integration", labels={"cost_centre": "4711 " * 20})
    issuing.rotate(key, issuing.MAX_OVERLAP)
    assert key.team
    main = make_provider_key("main", provider="anthropic", secret=SECRET, model_patterns=["claude-*"] * 12)
    said = "the answer of a provider that says a lot about why it does not like this key " * 2
    ProviderKeyCheck.objects.create(
        provider_key=main, state=CheckState.REFUSED, http_status=401, message=said, checked_at=timezone.now()
    )
    key.routes.create(provider_key=main)
    for owner, field in ((key.customer, "customer"), (key.team, "team"), (key, "virtual_key")):
        fill(owner, field)
    prepaid = Budget.objects.filter(period=Period.NONE, virtual_key=key).first()
    assert prepaid
    prepaid.top_up(Decimal(5), reason="invoice 2027-014 " * 8, author="boss")
    prepaid.override(Decimal(7), until=timezone.now() + issuing.MAX_OVERLAP, reason="a fair " * 10, author="boss")
    issuing.issue_gateway_token("laptop", key)
    rows = [
        key.customer,
        key.team,
        key,
        main,
        GatewayToken.objects.get(kind="gateway_token"),
        prepaid,
        Limit.objects.filter(virtual_key=key)[0],
        TopUp.objects.get(),
        Override.objects.get(),
        ModelAlias.objects.create(name="fast", target="anthropic/claude-haiku-4-5"),
        AlertTarget.objects.create(channel="webhook", address="https://example.com/" + "hook/" * 30),
    ]
    pages = {
        f"change {row._meta.model_name}": reverse(
            f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk]
        )
        for row in rows
    }
    pages |= {
        f"add {row._meta.model_name}": reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_add")
        for row in [*rows, Price()]
    }
    pages |= {
        f"{what} virtualkey": reverse(f"admin:keys_virtualkey_{what}", args=[key.pk]) for what in ("rotate", "revoke")
    }
    pages |= {"issue many": reverse("admin:issue_many"), "key": reverse("admin:key", args=[key.pk])}
    return pages | {"change gateway": reverse("admin:keys_gateway_change", args=[1])}


@pytest.mark.parametrize(
    "page", ["change customer", "change team", "change virtualkey", "change budget", "add customer"]
)
def test_rows_on_a_page_are_cards_and_no_table(client: Client, filled: dict[str, str], page: str) -> None:
    """What is seen of it without a browser."""
    client.force_login(User.objects.create_superuser("boss"))
    shown = client.get(filled[page]).content.decode()
    assert 'data-inline-type="stacked"' in shown
    assert "tabular" not in shown
    assert "keys/cards.css" in shown
    assert 'class="module cards"' in shown
    # As a content security policy wants it.
    assert "<style" not in shown
    assert " style=" not in shown


def test_every_page_with_a_form_fits_a_laptop_and_a_phone(
    chromium: browser.Window, styled: Web, filled: dict[str, str]
) -> None:
    wrong = {}
    with signed_in() as cookies:
        chromium.keep(cookies, styled.url)
        for width, height in SIZES:
            chromium.size(width, height)
            for page, address in filled.items():
                chromium.open(styled.url + address)
                assert chromium.evaluate("location.pathname") == address
                assert chromium.evaluate(STYLED), f"{page} lacks a style sheet"
                # With an empty card of each kind, as people fill them in.
                chromium.evaluate(OPEN)
                whole, room, wide = chromium.evaluate(TOO_WIDE)
                if PICTURES:
                    chromium.picture(Path(PICTURES) / f"{page} {width}.png")
                forbidden = chromium.violations()
                if whole > width or room != width or wide or forbidden:
                    wrong[f"{page}, {width}"] = (whole, wide, forbidden)
    assert wrong == {}


def test_a_rooms_pages_are_one_row_on_a_laptop_and_their_menus_open_and_close(
    chromium: browser.Window, styled: Web
) -> None:
    rows = "new Set([...document.querySelectorAll('.room-pages > ul > li')].map(each => each.offsetTop)).size"
    menus = "[...document.querySelectorAll('.page-menu summary')]"
    opened = "[...document.querySelectorAll('.page-menu[open] summary')].map(each => each.textContent)"
    with signed_in() as cookies:
        chromium.keep(cookies, styled.url)
        chromium.size(1280, 900)
        chromium.open(styled.url + reverse("admin:usage_topup_changelist"))
        assert chromium.evaluate(STYLED)
        assert chromium.evaluate(rows) == 1
        assert chromium.evaluate(opened) == []
        for menu in ("Prices", "Reconciliation"):
            chromium.evaluate(f"{menus}.find(each => each.textContent === '{menu}').click()")
            assert chromium.evaluate(opened) == [menu]
        chromium.evaluate("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'}))")
        assert chromium.evaluate(opened) == []
