"""What a page looks like, whatever its texts and however many rows it shows: two pages with the same looks need one
inspection."""

from __future__ import annotations

import re
from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "rect", "line", "source", "wbr"}
# Attributes that change what an element is, besides its classes.
TELLING = ("type", "role", "disabled", "readonly", "open", "aria-current", "style")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.path: list[str] = []
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        classes = sorted(re.sub(r"\d+", "0", given.get("class") or "").split())
        name = ".".join([tag, *classes, *(f"{each}={given[each]}" for each in TELLING if each in given)])
        if "main" in self.path or tag == "main":
            self.found.add("/".join([*self.path, name]))
        if tag not in VOID:
            self.path.append(tag if tag == "main" else name)

    def handle_endtag(self, tag: str) -> None:
        while self.path and tag not in VOID:
            if self.path.pop().partition(".")[0] == tag:
                break


def looks(html: str) -> frozenset[str]:
    """The kinds of elements in the main part of a page, each with those around it."""
    reader = _Reader()
    reader.feed(html)
    return frozenset(reader.found)
