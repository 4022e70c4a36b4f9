"""Pages work without a mouse: Tab reaches what can be clicked, the focus is seen, "/" and Escape do as expected."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.urls import reverse

from tests.admin.test_page_widths import filled, styled
from tests.support.browser import Colours, Window
from tests.support.gateway import Web
from tests.support.inspection import UNFOLD, Inspection
from tests.support.keyboard import STOPS, UNREACHABLE, Keyboard
from tests.support.signed_in import signed_in

__all__ = ["filled", "styled"]

ACTIVE = "document.activeElement"
COLOURS: tuple[Colours, ...] = ("light", "dark")
# One page of each style sheet.
IN_DARK = ("start", "my", "list", "form", "report")


@pytest.fixture
def keyboard(chromium: Window) -> Keyboard:
    return Keyboard(chromium)


@pytest.fixture
def pages(chromium: Window, styled: Web, filled: dict[str, str]) -> Iterator[Inspection]:
    """The window of an owner of a gateway whose pages show much."""
    inspection = Inspection(chromium, styled)
    with signed_in() as boss:
        inspection.visit_as(boss)
        yield inspection


def focus(window: Window, selector: str) -> None:
    window.evaluate(f"document.querySelector({selector!r}).focus()")


def has_focus(window: Window, selector: str) -> bool:
    return bool(window.evaluate(f"{ACTIVE}.matches({selector!r})"))


def test_tab_reaches_all_that_can_be_clicked_and_the_focus_is_seen(
    chromium: Window, styled: Web, filled: dict[str, str], keyboard: Keyboard
) -> None:
    """On a page of each kind, in light and dark colours. The first stop leads to the content."""
    paths = {
        "sign in": reverse("admin:login"),
        "start": "/",
        "my": reverse("my"),
        "overview": reverse("admin:index"),
        "list": reverse("admin:keys_virtualkey_changelist"),
        "form": filled["change virtualkey"],
        "price": filled["add price"],
        "issue": filled["issue many"],
        "key": filled["key"] + "?model=claude-opus-4-8",
        "calls": reverse("admin:calls"),
        "report": reverse("usage_report"),
        "account": reverse("account"),
    }
    inspection = Inspection(chromium, styled)
    wrong: dict[str, list[str]] = {}
    inspection.visit_as({})
    with signed_in() as boss:
        for title, path in paths.items():
            if title == "overview":
                inspection.visit_as(boss)
            for colours in COLOURS:
                inspection.open(path)
                chromium.paint(colours)
                chromium.evaluate(f"{UNFOLD}; 0")
                stops = keyboard.tour()
                reached = {stop["name"] for stop in stops}
                faults = [f"not reached: {name}" for name in chromium.evaluate(STOPS) if name not in reached]
                faults += [f"only for a mouse: {name}" for name in chromium.evaluate(UNREACHABLE)]
                faults += [f"the focus isn't seen: {s['ring']:.1f} {s['name']}" for s in stops if s["ring"] < 3]
                faults += [f"the focus is outside: {stop['name']}" for stop in stops if not stop["inside"]]
                if title != "start" and not stops[0]["text"].startswith("Skip to"):
                    faults.append("the first stop doesn't lead to the content")
                if faults:
                    wrong[f"{title} {colours}"] = faults
    assert wrong == {}, "\n".join(f"{title}: {fault}" for title, faults in wrong.items() for fault in faults)


def test_the_first_stop_leads_past_the_bar(chromium: Window, pages: Inspection, keyboard: Keyboard) -> None:
    for path in (reverse("admin:keys_virtualkey_changelist"), reverse("my")):
        pages.open(path)
        keyboard.press("Tab")
        assert keyboard.text().startswith("Skip to"), path
        keyboard.press("Enter")
        keyboard.press("Tab")
        assert chromium.evaluate(f"{ACTIVE}.closest('main') !== null"), (path, keyboard.focus())


def test_slash_moves_to_the_search_box_and_escape_back(chromium: Window, pages: Inspection, keyboard: Keyboard) -> None:
    pages.open(reverse("admin:keys_virtualkey_changelist"))
    for selector in (".rooms a", ".action-select"):
        focus(chromium, selector)
        keyboard.press("/")
        assert has_focus(chromium, "#site-search"), selector
        assert chromium.evaluate(f"{ACTIVE}.value") == ""
        keyboard.press("/")
        assert chromium.evaluate(f"{ACTIVE}.value") == "/", "it is typed there"
        keyboard.press("Escape")
        assert has_focus(chromium, selector)
    focus(chromium, "#searchbar")
    keyboard.press("/")
    assert has_focus(chromium, "#searchbar")
    assert chromium.evaluate(f"{ACTIVE}.value") == "/"


def test_escape_closes_what_is_open_and_gives_the_focus_back(
    chromium: Window, pages: Inspection, filled: dict[str, str], keyboard: Keyboard
) -> None:
    pages.open(reverse("admin:keys_virtualkey_changelist"))
    for menu in ("details.account", "details.filter-menu"):
        focus(chromium, f"{menu} summary")
        keyboard.press("Enter")
        assert chromium.evaluate(f"document.querySelector({menu!r}).open"), menu
        keyboard.press("Tab")
        assert has_focus(chromium, f"{menu} a"), "the menu's first link"
        keyboard.press("Escape")
        assert not chromium.evaluate(f"document.querySelector({menu!r}).open"), menu
        assert has_focus(chromium, f"{menu} summary")
    pages.open(filled["issue many"])
    focus(chromium, ".select2-selection")
    keyboard.press("Enter")
    assert chromium.evaluate("document.querySelector('.select2-dropdown') !== null")
    keyboard.press("Escape")
    assert not chromium.evaluate("document.querySelector('.select2-dropdown') !== null")
    assert has_focus(chromium, ".select2-selection")
