"""A headless Chromium, where the machine has one, over the DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "headless_shell")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
# What a page's content security policy forbade since it was loaded.
NOTE_VIOLATIONS = """
    window.violations = [];
    document.addEventListener("securitypolicyviolation", ({violatedDirective, blockedURI, sourceFile, lineNumber}) =>
        window.violations.push(`${violatedDirective} ${blockedURI} ${sourceFile}:${lineNumber}`));
"""


def find() -> str | None:
    """The browser's program."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Browser:
    """One window of it."""

    def __init__(self, program: str) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="gateway-browser-", dir="/tmp", ignore_cleanup_errors=True)
        command = [program, *OPTIONS, f"--user-data-dir={self.folder.name}", "about:blank"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.runner = asyncio.Runner()
        self.numbers = itertools.count(1)
        self.http: aiohttp.ClientSession | None = None
        try:
            self.runner.run(self._connect())
        except BaseException:
            self.close()
            raise

    async def _connect(self) -> None:
        said = Path(self.folder.name) / "DevToolsActivePort"
        deadline = time.monotonic() + 60
        while not (said.exists() and said.read_text().count("\n") == 1):
            assert self.process.poll() is None, "the browser ended"
            assert time.monotonic() < deadline, "the browser does not start"
            await asyncio.sleep(0.05)
        at = f"http://127.0.0.1:{said.read_text().split()[0]}"
        self.http = aiohttp.ClientSession()
        async with self.http.put(f"{at}/json/new?about:blank") as answer:
            page = await answer.json()
        self.link = await self.http.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0)
        for domain in ("Page", "Network"):
            await self._say(f"{domain}.enable")
        await self._say("Page.addScriptToEvaluateOnNewDocument", source=NOTE_VIOLATIONS)

    async def _say(self, method: str, then: str = "", **terms: Any) -> dict[str, Any]:
        """Send a command; its result, once the event `then` has happened, if one is named."""
        number = next(self.numbers)
        await self.link.send_json({"id": number, "method": method, "params": terms})
        result: dict[str, Any] | None = None
        async with asyncio.timeout(60):
            while result is None or then:
                told = await self.link.receive_json()
                if told.get("id") == number:
                    assert "error" not in told, told
                    result = told["result"]
                elif told.get("method") == then:
                    then = ""
        return result

    def say(self, method: str, then: str = "", **terms: Any) -> dict[str, Any]:
        """Send a command of the protocol; its result."""
        return self.runner.run(self._say(method, then, **terms))

    def size(self, width: int, height: int) -> None:
        """Make the window so large, in CSS pixels; a narrow one is a phone's."""
        terms: dict[str, Any] = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.say("Emulation.setDeviceMetricsOverride", **terms)

    def open(self, url: str) -> None:
        """Load a page, to its end."""
        self.say("Page.navigate", then="Page.loadEventFired", url=url)

    def evaluate(self, script: str) -> Any:
        """What an expression of JavaScript is worth on the page."""
        said = self.say("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    def violations(self) -> list[str]:
        """What the page's content security policy forbade."""
        found: list[str] = self.evaluate("window.violations")
        return found

    def picture(self, file: Path) -> None:
        """Save how the whole page looks, as a PNG."""
        said = self.say("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(said["data"]))

    def close(self) -> None:
        """End it."""
        if self.http is not None:
            self.runner.run(self.http.close())
        self.runner.close()
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.folder.cleanup()
