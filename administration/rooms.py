"""The rooms of the bar and their pages.

A module adds its pages when it is imported; `administration/admin.py` imports all of them:

    rooms.CALLS.add(Page("Calls", "admin:calls", ("usage.view_ledgerentry",), route="calls/", view=calls))

A page with a `route` is served by the site, for people with one of its permissions. A page without one, such as a list
of Django's admin, is only linked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse

View = Callable[..., HttpResponseBase]
User = AbstractBaseUser | AnonymousUser
# The views of a list of Django's admin have this ending.
LIST = "_changelist"


@dataclass(frozen=True, slots=True)
class Page:
    """A page, or the list of a model with the pages of its rows.

    Args:
        title: what links and headings call it.
        name: of its URL, like `admin:calls`.
        permissions: one of them suffices to see it. Empty: everyone who may sign in sees it.
        route: below the site's root, like `calls/` or `calls/<uuid:call>/`. None: another module serves it.
        view: what serves `route`.
        linked: whether the room links to it. A route with parameters has no link.
        also: names of further URLs that belong to it, so that they show the same room.
    """

    title: str
    name: str
    permissions: tuple[str, ...] = ()
    route: str | None = None
    view: View | None = None
    linked: bool = True
    also: tuple[str, ...] = ()

    def is_open_to(self, user: Any) -> bool:
        """Whether this user may see the page."""
        return not self.permissions or any(user.has_perm(permission) for permission in self.permissions)

    def includes(self, view_name: str) -> bool:
        """Whether the URL of this name shows the page, or a page of a row of its list."""
        if view_name in (self.name, *self.also):
            return True
        return self.name.endswith(LIST) and view_name.startswith(self.name.removesuffix(LIST) + "_")

    def guarded(self) -> View:
        """The view, for people who may see the page.

        Raises:
            PermissionDenied: from the view, for other people.
        """
        view = self.view
        assert view is not None

        def guarded(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not self.is_open_to(request.user):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return guarded


@dataclass(slots=True)
class Room:
    """A link in the bar, and the pages behind it in the order of their links.

    Attributes:
        menus: titles with the names of pages that stand behind one menu, so that a room with many pages has one row.
    """

    title: str
    pages: list[Page] = field(default_factory=list)
    menus: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def add(self, *pages: Page, first: bool = False) -> None:
        """Add pages after the others. `first`: before them, so that the bar links to the first one."""
        self.pages[:] = [*pages, *self.pages] if first else [*self.pages, *pages]

    def open_to(self, user: Any) -> list[Page]:
        """The pages that the room links to for this user."""
        return [page for page in self.pages if page.linked and page.is_open_to(user)]

    def includes(self, view_name: str) -> bool:
        """Whether the URL of this name shows a page of the room."""
        return any(page.includes(view_name) for page in self.pages)


def listed(title: str, model: str, *permissions: str) -> Page:
    """The list of a model in Django's admin, like `listed("Teams", "keys.team")`.

    Args:
        permissions: instead of those to view or change the model.
    """
    app, _, name = model.partition(".")
    return Page(
        title, f"admin:{app}_{name}{LIST}", permissions or tuple(f"{app}.{may}_{name}" for may in ("view", "change"))
    )


OVERVIEW = Room("Overview")
KEYS = Room(
    "Keys",
    [
        listed("Virtual keys", "keys.virtualkey"),
        listed("Teams", "keys.team"),
        listed("Customers", "keys.customer"),
        listed("Gateway tokens", "keys.gatewaytoken"),
        listed("Budgets", "usage.budget"),
        listed("Limits", "usage.limit"),
    ],
)
CALLS = Room(
    "Calls",
    [
        listed("Refusals", "usage.refusal"),
        listed("In progress", "usage.hold"),
        listed("Interrupted", "usage.retained"),
        listed("Overruns", "usage.overrun"),
        listed("Free calls", "usage.freecalls"),
        listed("Batches", "messages_api.batch"),
        listed("Files", "messages_api.file"),
    ],
)
USAGE = Room("Usage", [Page("Usage report", "usage_report", ("usage.view_rollup",))])
BILLING = Room(
    "Billing",
    [
        listed("Own prices", "usage.price"),
        listed("Exchange rates", "usage.exchangerate"),
        listed("Top-ups", "usage.topup"),
        listed("Overrides", "usage.override"),
        listed("Adjustments", "usage.adjustment"),
    ],
    {
        "Prices": (
            *("admin:prices", "admin:price", f"admin:usage_price{LIST}", f"admin:usage_exchangerate{LIST}"),
            *("admin:reprice", "admin:what_if"),
        ),
        "Statements": ("admin:statements", f"admin:billing_particulars{LIST}"),
        "Top-ups and adjustments": tuple(f"admin:usage_{name}{LIST}" for name in ("topup", "override", "adjustment")),
        "Reconciliation": (
            *("admin:reconciliation", "admin:adjusted_estimates", "admin:reported_keys", "admin:bills"),
            f"admin:reconciliation_billformat{LIST}",
        ),
    },
)
PROVIDERS = Room(
    "Providers",
    [
        listed("Provider keys", "keys.providerkey"),
        listed("Cool-downs", "keys.cooldown"),
        listed("Performance", "keys.performance"),
        listed("Model aliases", "keys.modelalias"),
    ],
)
SETTINGS = Room(
    "Settings",
    [
        listed("People", "administration.person"),
        Page("API tokens", "admin:administration_apitoken_changelist"),
        listed("Alerts", "usage.alert"),
        listed("Alert targets", "usage.alerttarget"),
        listed("Deliveries", "usage.delivery"),
        Page(
            "Gateway",
            "admin:keys_gateway_changelist",
            ("keys.view_gateway", "keys.change_gateway"),
        ),
        listed("Processes", "usage.process"),
        listed("Workers", "usage.worker"),
        listed("Audit log", "keys.auditevent"),
    ],
)
# The bar, from left to right. Settings stand apart, at its right end.
ROOMS = (OVERVIEW, KEYS, CALLS, USAGE, BILLING, PROVIDERS, SETTINGS)
# Pages of no room, such as the search.
ELSEWHERE = Room("")


@dataclass(frozen=True, slots=True)
class Link:
    """A link as templates show it. `current`: the visitor is there."""

    title: str
    url: str
    current: bool


@dataclass(frozen=True, slots=True)
class Menu:
    """Several links behind one title."""

    title: str
    links: list[Link]

    @property
    def current(self) -> bool:
        """Whether the visitor is at one of them."""
        return any(link.current for link in self.links)


def bar(user: Any, view_name: str) -> list[Link]:
    """The rooms that have a page for this user, each with the URL of its first one."""
    return [
        Link(room.title, url_of(pages[0]), room.includes(view_name)) for room in ROOMS if (pages := room.open_to(user))
    ]


def room_of(view_name: str) -> Room | None:
    """The room that the URL of this name belongs to."""
    return next((room for room in ROOMS if room.includes(view_name)), None)


def page_of(view_name: str) -> Page | None:
    """The page that the URL of this name belongs to."""
    return next((page for room in ROOMS for page in room.pages if page.includes(view_name)), None)


def is_front(room: Room, user: Any, view_name: str) -> bool:
    """Whether the URL of this name is where the bar leads for this user."""
    pages = room.open_to(user)
    return bool(pages) and pages[0].name == view_name


def links(user: Any, view_name: str) -> list[Link | Menu]:
    """The pages of the room that the visitor is in, some of them behind menus; empty if it has only one page. A menu
    with one page is its link."""
    room = room_of(view_name)
    pages = room.open_to(user) if room else []
    if room is None or len(pages) < 2:
        return []
    found: dict[str, list[Link]] = {}
    titles = {name: title for title, names in room.menus.items() for name in names}
    for page in pages:
        link = Link(page.title, url_of(page), page.includes(view_name))
        found.setdefault(titles.get(page.name, f"page {page.name}"), []).append(link)
    return [each[0] if len(each) == 1 else Menu(title, each) for title, each in found.items()]


def served() -> Iterator[Page]:
    """The pages that the site serves itself."""
    return (page for room in (*ROOMS, ELSEWHERE) for page in room.pages if page.route is not None)


def url_of(page: Page) -> str:
    """The URL of a page without parameters.

    Raises:
        NoReverseMatch: no URL has its name.
    """
    return reverse(page.name)
