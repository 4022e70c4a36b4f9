"""A keyboard at the window of Chromium, and what the focus is on."""

from __future__ import annotations

from typing import Any

from tests.support.browser import Window

# The element that has the focus, in words: a name that is the same for no other element of the page, and how it shows
# the focus. An outline of the browser's own (auto) is seen on all colours.
FOCUS = """(() => {
    const each = document.activeElement;
    if (!each || each === document.body) return null;
    const light = colour => {
        const [r, g, b] = colour.match(/[\\d.]+/g).map(Number)
            .map(part => part / 255).map(part => part <= .03928 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4);
        return .2126 * r + .7152 * g + .0722 * b;
    };
    let behind = each.parentElement;
    while (behind.parentElement && /, 0(\\.\\d+)?\\)$/.test(getComputedStyle(behind).backgroundColor))
        behind = behind.parentElement;
    const ring = getComputedStyle(each);
    const colours = [ring.outlineColor, getComputedStyle(behind).backgroundColor];
    const [dim, bright] = colours.map(light).sort((a, b) => a - b);
    const box = each.getBoundingClientRect();
    return {
        name: [...document.querySelectorAll("*")].indexOf(each) + " " + each.outerHTML.slice(0, 120),
        id: each.id,
        text: each.textContent.trim().slice(0, 40),
        ring: ring.outlineStyle === "auto" ? 21
            : ring.outlineStyle === "none" || parseFloat(ring.outlineWidth) < 1.5 ? 0 : (bright + .05) / (dim + .05),
        inside: box.right > 0 && box.bottom + scrollY > 0 && box.width > 1 && box.height > 1,
    };
})()"""
# What people can click and a keyboard doesn't reach: neither the element nor what it is in takes the focus.
UNREACHABLE = """(() => {
    const reached = "a[href], button, input, select, textarea, summary, label, option, [tabindex='0']";
    return [...document.body.querySelectorAll("*")]
        .filter(each => each.checkVisibility({visibilityProperty: true}))
        .filter(each => getComputedStyle(each).cursor === "pointer" || each.matches("[onclick], [role=button]"))
        .filter(each => !each.closest(reached))
        .map(each => each.outerHTML.slice(0, 120));
})()"""
# What takes the focus, in the order of the page. Of radio buttons of a name, one does.
STOPS = """[...document.querySelectorAll("a[href], button, input, select, textarea, summary, [tabindex='0']")]
    .filter(each => each.checkVisibility({visibilityProperty: true}) && !each.disabled && each.tabIndex >= 0)
    .filter(each => each.type !== "hidden" && each.type !== "radio")
    .map(each => [...document.querySelectorAll("*")].indexOf(each) + " " + each.outerHTML.slice(0, 120))"""
# Some pages begin in a field.
BEGINNING = """(() => {
    document.body.tabIndex = -1;
    document.body.focus();
    document.body.removeAttribute("tabindex");
})()"""
MOST_STOPS = 400


class Keyboard:
    """Presses keys as a person does, one after the other."""

    def __init__(self, window: Window) -> None:
        self.window = window

    def press(self, key: str) -> None:
        """Press a key and let it go."""
        self.window.run(self.window.page.keyboard.press(key))

    def focus(self) -> dict[str, Any] | None:
        """What has the focus; None: nothing has it."""
        found: dict[str, Any] | None = self.window.evaluate(FOCUS)
        return found

    def text(self) -> str:
        """The text of what has the focus."""
        found = self.focus()
        return found["text"] if found else ""

    def tour(self) -> list[dict[str, Any]]:
        """All that Tab moves to, from the page's beginning to its end."""
        self.window.evaluate(BEGINNING)
        stops: list[dict[str, Any]] = []
        names = set[str]()
        for _ in range(MOST_STOPS):
            self.press("Tab")
            found = self.focus()
            if found and stops and found["name"] == stops[-1]["name"]:
                # A box of a date has a stop for each of its parts.
                continue
            if found is None or found["name"] in names:
                return stops
            names.add(found["name"])
            stops.append(found)
        raise AssertionError("Tab doesn't reach the end of the page")
