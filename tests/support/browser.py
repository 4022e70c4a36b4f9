"""A headless Chromium, where the machine has one, driven by Playwright.

https://playwright.dev/python/docs/api/class-playwright
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import shutil
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from playwright.async_api import CDPSession, Error, Page, async_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless_shell")
OPTIONS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-proxy-server")
# A busy machine must not fail a test.
PATIENCE_MS = 60_000
# Of WebP: texts stay sharp.
QUALITY = 50
# What a page's content security policy forbade since it was loaded.
NOTE_VIOLATIONS = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", ({violatedDirective, blockedURI, sourceFile, lineNumber}) =>
        window.violations.push(`${violatedDirective} ${blockedURI} ${sourceFile}:${lineNumber}`));
"""
# Changes of colour that are still under way.
FINISH = "document.getAnimations().forEach(each => each.finish())"
# The width and height of the page, and where an element of it begins.
SIZE = """part => {
    const { clientWidth, scrollHeight } = document.documentElement;
    const top = document.querySelector(part).getBoundingClientRect().top + window.scrollY;
    return [clientWidth, scrollHeight, Math.max(0, Math.floor(top) - 14)];
}"""

Colours = Literal["light", "dark"]
Result = TypeVar("Result")


def find() -> str | None:
    """The browser's program."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """The running program.

    Playwright's own synchronous interface keeps an event loop running in the test's thread, in which Django then
    refuses every query. Here the loop runs only during a call.
    """

    def __init__(self, program: str) -> None:
        self.runner = asyncio.Runner()
        try:
            self.run(self._start(program))
        except BaseException:
            self.runner.close()
            raise

    async def _start(self, program: str) -> None:
        self.playwright = await async_playwright().start()
        self.chromium = await self.playwright.chromium.launch(executable_path=program, args=OPTIONS)

    def run(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """The result of a call of Playwright."""
        return self.runner.run(coroutine)

    @contextlib.contextmanager
    def window(self, **terms: Any) -> Iterator[Window]:
        """A window with a profile of its own. `terms`: of Playwright's `new_context`."""
        context = self.run(self.chromium.new_context(no_viewport=True, **terms))
        context.set_default_timeout(PATIENCE_MS)
        try:
            self.run(context.add_init_script(NOTE_VIOLATIONS))
            page = self.run(context.new_page())
            yield Window(self, page, self.run(context.new_cdp_session(page)))
        finally:
            self.run(context.close())

    def close(self) -> None:
        """End it."""
        self.run(self.chromium.close())
        self.run(self.playwright.stop())
        self.runner.close()


class Window:
    """A window. `page` is Playwright's."""

    def __init__(self, browser: Browser, page: Page, link: CDPSession) -> None:
        self.browser, self.page, self.link = browser, page, link
        self.run = browser.run
        self.size(1280, 900)

    def say(self, method: str, **terms: Any) -> dict[str, Any]:
        """Send a command of the DevTools protocol; its result."""
        said: dict[str, Any] = self.run(self.link.send(method, terms))
        return said

    def size(self, width: int, height: int) -> None:
        """Make the window so large, in CSS pixels; a narrow one is a phone's."""
        terms: dict[str, Any] = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.say("Emulation.setDeviceMetricsOverride", **terms)

    def paint(self, colours: Colours) -> None:
        """Prefer light or dark pages, as a system does."""
        self.run(self.page.emulate_media(color_scheme=colours))

    def keep(self, cookies: Mapping[str, str], url: str) -> None:
        """Keep cookies of a site."""
        self.run(
            self.page.context.add_cookies([{"name": name, "value": cookies[name], "url": url} for name in cookies])
        )

    def forget(self) -> None:
        """Forget all cookies."""
        self.run(self.page.context.clear_cookies())

    def open(self, url: str) -> None:
        """Load a page, to its end, whatever its status."""
        try:
            self.run(self.page.goto(url))
        except Error as error:
            # An error without a body, for which Chromium shows a page of its own.
            if "ERR_HTTP_RESPONSE_CODE_FAILURE" not in error.message:
                raise

    def evaluate(self, script: str) -> Any:
        """What an expression of JavaScript is worth on the page."""
        return self.run(self.page.evaluate(script))

    def violations(self) -> list[str]:
        """What the page's content security policy forbade."""
        found: list[str] = self.evaluate("window.violations")
        return found

    def picture(self, file: Path, most: int | None = None, part: str = "body", scale: float = 1) -> None:
        """Save how the page looks, as a PNG or WebP by the file's name.

        Args:
            most: pixels of its height; None: the whole page.
            part: a selector of where it begins.
            scale: pixels of the picture for each of the page's.
        """
        self.evaluate(FINISH)
        width, height, top = self.run(self.page.evaluate(SIZE, part))
        clip = {"x": 0, "y": top, "width": width, "height": min(height - top, most or height), "scale": scale}
        kind = {"format": "webp", "quality": QUALITY} if file.suffix == ".webp" else {"format": "png"}
        said = self.say("Page.captureScreenshot", captureBeyondViewport=True, clip=clip, **kind)
        file.write_bytes(base64.b64decode(said["data"]))
