"""Breadcrumbs: room, page, and what stands on it. They come from the rooms, so no template writes its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from administration import rooms


@dataclass(frozen=True, slots=True)
class Crumb:
    """A step of the way to a page. The template adds the page's own title at the end."""

    title: str
    url: str


def crumbs(user: Any, view_name: str) -> list[Crumb]:
    """The room and the page that the URL of this name belongs to. Empty on the room's first page and elsewhere."""
    room, page = rooms.room_of(view_name), rooms.page_of(view_name)
    if room is None or page is None or rooms.is_front(room, user, view_name):
        return []
    found = [Crumb(each.title, rooms.url_of(each)) for each in room.open_to(user)[:1]]
    if found and found[0].title != room.title:
        found = [Crumb(room.title, found[0].url)]
    if page.linked and page.name != view_name and page.is_open_to(user) and page.title != room.title:
        found.append(Crumb(page.title, rooms.url_of(page)))
    return found
