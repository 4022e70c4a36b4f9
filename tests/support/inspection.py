"""A look at the pages of a running gateway in Chromium: what is wrong with each."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from django.db import connection

from administration.models import ApiToken
from tests.roles.test_access import METHODS, address, lines, urls
from tests.support import axe
from tests.support.browser import Window
from tests.support.gateway import Web
from tests.support.role_cast import VISITORS, Cast

# A folder for pictures of what is looked at, for people.
PICTURES = os.environ.get("PICTURES_DIR", "")
LAPTOP, PHONE = (1280, 1000), (390, 1000)
# URLs that answer 200 with something else than a page.
NO_PAGES = {
    *("favicon.ico", "openapi", "rest_openapi", "admin/autocomplete/", "admin:jsi18n"),
    *("admin:keys_auditevent_export", "admin:keys_virtualkey_export", "admin:statement_file"),
}
# What is folded away is a part of the page. A menu would lie above other parts.
UNFOLD = """document.querySelectorAll("details:not(.account, .filter-menu, .page-menu)").forEach(part => {
    part.removeAttribute("name");
    part.open = true;
})"""
# The width of the page once what follows the window's size has followed it.
WIDTH = """new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(() =>
    done(document.documentElement.scrollWidth)))))"""
# What is beyond the window's right edge.
WIDEST = """[...document.body.querySelectorAll("*")]
    .filter(each => each.checkVisibility() && each.getBoundingClientRect().right > innerWidth + 1)
    .slice(-2).map(each => each.outerHTML.slice(0, 160)).join("; ")"""
# The API reference is drawn by a script.
DRAWN = """new Promise(done => {
    const look = () => document.querySelectorAll(".opblock").length > 5 ? done(true) : setTimeout(look, 50);
    look();
})"""


class Inspection:
    """The pages that were looked at, by their titles, with their faults.

    Args:
        forgiven: rules of axe by the page's title, for what isn't ours to mend.
    """

    def __init__(self, window: Window, web: Web, forgiven: Mapping[str, Collection[str]] | None = None) -> None:
        self.window = window
        self.web = web
        self.forgiven = forgiven or {}
        self.seen: list[str] = []
        self.wrong: dict[str, list[str]] = {}

    def visit_as(self, cookies: Mapping[str, str]) -> None:
        """Be the person of these cookies; a visitor without any."""
        self.window.forget()
        self.window.keep({"time_zone": "UTC", **cookies}, self.web.url)

    def open(self, path: str, *, leads_on: bool = False) -> None:
        """Open a page as on a laptop, in light colours. `leads_on`: it redirects to another one."""
        self.window.size(*LAPTOP)
        self.window.paint("light")
        self.window.open(self.web.url + path)
        shown = self.window.evaluate("location.pathname")
        assert leads_on or shown == path.partition("?")[0], f"{path} led to {shown}"
        if path.startswith("/docs/"):
            self.window.evaluate(DRAWN)

    def status(self) -> int:
        """The HTTP status of the page that is open."""
        status: int = self.window.evaluate("performance.getEntriesByType('navigation')[0].responseStatus")
        return status

    def submit(self, script: str) -> None:
        """Do what leads to another page, and wait for that page."""
        self.window.run(self._follow(script))

    async def _follow(self, script: str) -> None:
        async with self.window.page.expect_navigation():
            await self.window.page.evaluate(script)

    def look(self, title: str) -> None:
        """Note what is wrong with the page that is open."""
        self.window.evaluate(f"{UNFOLD}; 0")
        found = axe.faults(self.window)
        self.picture(title)
        self.window.paint("dark")
        found += [f"dark: {fault}" for fault in axe.faults(self.window, axe.COLOURS)]
        self.picture(f"{title} dark")
        forgiven = self.forgiven.get(title, ())
        self.measure(title, [fault for fault in found if not any(f" {rule}:" in fault for rule in forgiven)])

    def measure(self, title: str, found: Sequence[str] = ()) -> None:
        """Note what was found on the page that is open, and whether it is wider than a laptop or a phone."""
        self.seen.append(title)
        faults = [*found, *(f"the policy forbids {what}" for what in self.window.violations())]
        for width, height in (PHONE, LAPTOP):
            self.window.size(width, height)
            if (wide := self.window.evaluate(WIDTH)) > width:
                faults.append(f"{wide} pixels wide on {width}: {self.window.evaluate(WIDEST)}")
            if width < LAPTOP[0]:
                forgiven = self.forgiven.get(title, ())
                found = axe.faults(self.window, axe.WIDTHS)
                faults += [f"phone: {fault}" for fault in found if not any(f" {rule}:" in fault for rule in forgiven)]
                self.picture(f"{title} phone")
        if faults:
            self.wrong.setdefault(title, []).extend(faults)

    def report(self) -> str:
        """All faults, the same ones of several pages once."""
        pages: dict[str, list[str]] = {}
        for title, faults in self.wrong.items():
            for fault in faults:
                pages.setdefault(fault, []).append(title)
        return "\n".join(f"{fault}\n    {len(titles)}: {', '.join(titles[:4])}" for fault, titles in pages.items())

    def picture(self, title: str) -> None:
        """Save a picture, if there is a folder for it."""
        if PICTURES:
            self.window.picture(Path(PICTURES) / f"{re.sub(r'[^a-z0-9 _?=&-]', ' ', title.lower())}.png")


def pages(cast: Cast, who: str) -> dict[str, str]:
    """The addresses of all pages that the table of roles opens to this visitor, by the names of their URLs. Without
    rows, only those that need none."""
    column, known = VISITORS.index(who), lines()
    return {
        name: address(name, route, cast)
        for name, route in urls()
        if name not in METHODS and name not in NO_PAGES and known[f"GET {name}"][column] == "200"
        if cast.rows or not re.search(r"[<(]", route)
    }


def forget() -> None:
    """Take away the rows of `make_role_cast` that the next test of a running gateway would find."""
    ApiToken.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM usage_price; DELETE FROM usage_exchangerate; DELETE FROM usage_worker WHERE host = 'host'"
        )
        cursor.execute("DELETE FROM usage_process WHERE host = 'host'; DELETE FROM usage_rollup")
