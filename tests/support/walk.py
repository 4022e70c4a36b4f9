"""A person's way through the pages in a real browser: what they press, what they read, and what goes wrong."""

from __future__ import annotations

import base64
import itertools
import os
from pathlib import Path
from typing import Any, Literal

from playwright.async_api import ConsoleMessage, Download, Locator, Request, Response, WebError

from tests.support.browser import Colours, Window
from tests.support.gateway import Web, wait_until
from tests.support.signing_in import PASSWORD

# A folder for pictures of each step.
PICTURES = os.environ.get("PICTURES_DIR", "")
LAPTOP, PHONE = (1280, 800), (390, 800)
# A4 at 110 pixels an inch.
PAPER = (909, 1286)
# The most that a picture shows of a long page.
MOST_PIXELS = {LAPTOP: 960, PHONE: 1040}
# Pixels of a picture for each of the page's: all pictures together stay small.
SCALES = {LAPTOP: 0.75, PHONE: 0.9}

# How each step is shown: the ending of its file, the window's size, the colours.
SHOTS: tuple[tuple[str, tuple[int, int], Colours], ...] = (
    ("", LAPTOP, "light"),
    ("-dark", LAPTOP, "dark"),
    ("-phone", PHONE, "light"),
)

ABORTED = "net::ERR_ABORTED"

Role = Literal["link", "button", "checkbox"]


class Walk:
    """A person in a window of their own.

    Attributes:
        presses: how often this person has pressed or sent something since the sign-in.
        faults: errors on the console, requests that failed, and what a policy forbade, by page.
    """

    def __init__(self, window: Window, web: Web, name: str) -> None:
        self.window, self.web, self.name = window, web, name
        self.run = window.run
        self.page = window.page
        self.presses = 0
        self.faults: list[str] = []
        self.steps = itertools.count(1)
        self._watch()

    def _watch(self) -> None:
        context = self.page.context
        context.on("console", self._note_message)
        context.on("weberror", self._note_error)
        context.on("requestfailed", self._note_failure)
        context.on("response", self._note_status)

    def _fault(self, what: str) -> None:
        self.faults.append(f"{self.page.url.removeprefix(self.web.url)}: {what}")

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._fault(f"the console has {message.text}")

    def _note_error(self, error: WebError) -> None:
        self._fault(f"a script failed: {error.error}")

    def _note_failure(self, request: Request) -> None:
        self._fault(f"{request.method} {request.url} failed: {request.failure}")

    def _note_status(self, response: Response) -> None:
        if response.status >= 400:
            self._fault(f"{response.request.method} {response.url} has the status {response.status}")

    # What a person does

    def open(self, path: str) -> None:
        """Type an address of the gateway."""
        self.window.open(self.web.url + path)

    def sign_in(self, username: str) -> None:
        """Sign in with a password. Presses are counted from here on."""
        self.run(self._see_form())
        self.fill("Username:", username)
        self.fill("Password:", PASSWORD)
        self.press("Sign in", "button")
        self.presses = 0

    async def _see_form(self) -> None:
        # The page's script sends the browser's time zone once. A person is slower than that.
        async with self.page.expect_response("**/time-zone/"):
            await self.page.goto(f"{self.web.url}/admin/")

    def press(self, name: str, role: Role = "link", *, within: str = "body", stays: bool = False) -> None:
        """Press what is called so.

        Args:
            within: a selector of the part of the page where it is, if the page has several of them.
            stays: it leads to no other page.
        """
        self.presses += 1
        what = self.page.locator(within).get_by_role(role, name=name, exact=True)
        self.run(what.click() if stays else self._follow(what))

    async def _follow(self, what: Locator) -> None:
        async with self.page.expect_navigation():
            await what.click()

    def go(self, room: str) -> None:
        """Press a room in the bar."""
        self.press(room, within=".rooms")

    def fill(self, label: str, text: str) -> None:
        """Type into a field."""
        self.run(self.page.get_by_label(label, exact=True).fill(text))

    def choose(self, label: str, option: str) -> None:
        """Choose from a list, which takes a press."""
        self.presses += 1
        self.run(self.page.get_by_label(label, exact=True).select_option(label=option))

    def tick(self, label: str) -> None:
        """Tick a box."""
        self.presses += 1
        self.run(self.page.get_by_role("checkbox", name=label, exact=True).check())

    def download(self, name: str) -> str:
        """Press a link that leads to a file; the file's text."""
        return self.file(name).decode("utf-8-sig")

    def file(self, name: str) -> bytes:
        """Press a link that leads to a file; the file."""
        self.presses += 1
        url, found = self.run(self._download(name))
        # Chromium says that the navigation was aborted, since it became a download.
        self.faults = [fault for fault in self.faults if not fault.endswith(f"GET {url} failed: {ABORTED}")]
        return found

    async def _download(self, name: str) -> tuple[str, bytes]:
        async with self.page.expect_download() as coming:
            await self.page.get_by_role("link", name=name, exact=True).click()
        download: Download = await coming.value
        return download.url, Path(await download.path()).read_bytes()

    # What a person sees

    def text(self, selector: str = "#content") -> str:
        """The text of a part of the page."""
        found: str = self.run(self.page.locator(selector).inner_text())
        return found

    def count(self, selector: str) -> int:
        """How many of these the page has."""
        found: int = self.run(self.page.locator(selector).count())
        return found

    def see(self, text: str) -> None:
        """Open the page again until it has this text: the log of refusals is written after the answer."""
        wait_until(lambda: text in self.text() or (self.run(self.page.reload()) and False))

    def value(self, label: str) -> str:
        """What a field has."""
        return self.run(self.page.get_by_label(label, exact=True).input_value())

    def attribute(self, selector: str, name: str) -> Any:
        """An attribute of an element."""
        return self.run(self.page.locator(selector).get_attribute(name))

    def step(self, title: str, part: str = "body") -> None:
        """The end of a step: nothing went wrong until here. With `PICTURES_DIR`, how the page looks is kept: on a
        laptop in light and dark, and on a phone.

        Args:
            part: a selector of where the picture begins.
        """
        self.faults += [f"{self.page.url}: {violation}" for violation in self.window.violations()]
        assert self.faults == [], f"{self.name}, up to “{title}”"
        if not PICTURES:
            return
        file = self.picture_of(title)
        for ending, size, colours in SHOTS:
            self.window.size(*size)
            self.window.paint(colours)
            self.window.picture(Path(PICTURES) / f"{file}{ending}.webp", MOST_PIXELS[size], part, SCALES[size])
        self.window.size(*LAPTOP)

    def picture_of(self, title: str) -> str:
        """The name of the next step's picture, without its ending."""
        return f"{self.name}-{next(self.steps)}-{title}"

    def paper(self, title: str, png: bytes) -> None:
        """The end of a step that gave a sheet of paper. With `PICTURES_DIR`, its picture is kept: paper is white, in
        the dark and on a phone, too."""
        assert png.startswith(b"\x89PNG")
        if not PICTURES:
            return
        file = self.picture_of(title)
        sheet = f"<body style='margin: 0'><img src='data:image/png;base64,{base64.b64encode(png).decode()}'>"
        self.window.size(*PAPER)
        self.run(self.page.goto("about:blank"))
        self.run(self.page.set_content(sheet))
        self.window.picture(Path(PICTURES) / f"{file}.webp", scale=SCALES[LAPTOP])
