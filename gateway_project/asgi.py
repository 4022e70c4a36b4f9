"""The ASGI application: pages and the administration's REST API go to Django, with limits on size, time and number;
everything else goes to the Messages API.

If one machine serves both, a process of its own serves the pages (page_process.py).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")

import django

django.setup(set_prefix=False)

from django.conf import settings  # noqa: E402

from gateway_project import content_security, health, page_socket, static_files  # noqa: E402
from gateway_project.page_paths import is_page  # noqa: E402
from gateway_project.page_process import PageProcess, as_sent  # noqa: E402
from gateway_project.pages import Handler, Pages, bound_statements  # noqa: E402
from gateway_project.pages_alone import PagesAlone  # noqa: E402
from keys.client_address import as_pages_see_it  # noqa: E402
from messages_api.relay import runtime  # noqa: E402
from messages_api.server import cors, handler  # noqa: E402
from usage import figures, metrics, request_ids  # noqa: E402

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]

bound_statements(settings.DATABASES["default"]["OPTIONS"])
pages = Pages(
    Handler(), at_once=settings.CONFIGURATION.pages_of_a_process, most_bytes=settings.CONFIGURATION.max_page_bytes
)
static = static_files.Files()
SERVES_API = "api" in settings.CONFIGURATION.roles
# Without CORS_ORIGINS, requests skip the CORS layer.
ORIGINS = frozenset(settings.CONFIGURATION.cors_origins)
api = cors.allowing(ORIGINS, handler.handle) if ORIGINS else handler.handle
SERVES_PAGES = "admin" in settings.CONFIGURATION.roles
page_process = PageProcess(os.environ[page_socket.PATH]) if page_socket.PATH in os.environ else None
IS_PAGE_PROCESS = page_socket.IS_PAGE_PROCESS in os.environ


async def application(scope: Any, receive: Receive, send: Send) -> None:
    """Answer an HTTP request, or handle the server's start and stop (`lifespan`)."""
    if scope["type"] == "lifespan":
        await live(receive, send)
    elif scope["type"] != "http":
        raise ValueError(f"unexpected scope: {scope['type']}")
    elif scope["path"] in health.PATHS:
        await say(send, *await health.answer(scope))
    elif scope["path"] == "/metrics" and settings.CONFIGURATION.metrics_token:
        await say(send, *await metrics.answer(scope))
    elif SERVES_PAGES and is_page(scope):
        if scope["path"].startswith(settings.STATIC_URL):
            await static(scope, receive, send)
        elif IS_PAGE_PROCESS:
            await pages(*as_sent(scope, receive, send))
        elif page_process is not None:
            await page_process(scope, receive, named(send))
        else:
            await pages(as_pages_see_it(scope), receive, named(send))
    elif SERVES_API:
        await api(scope, receive, send)
    else:
        await say(send, 404, b"not found\n")


async def live(receive: Receive, send: Send) -> None:
    alone, sharing = PagesAlone(), None
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            try:
                if SERVES_API:
                    handler.load_views()
                await (runtime.start() if SERVES_API else alone.start())
            except Exception as error:
                await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
                return
            if settings.CONFIGURATION.metrics_token:
                role = "pages" if IS_PAGE_PROCESS else "web"
                sharing = asyncio.create_task(figures.share(metrics.folder(), role))
            await send({"type": "lifespan.startup.complete"})
        elif message["type"] == "lifespan.shutdown":
            if sharing is not None:
                sharing.cancel()
            await (runtime.stop() if SERVES_API else alone.stop())
            await send({"type": "lifespan.shutdown.complete"})
            return


def named(send: Send) -> Send:
    """Give a page's request an id: its lines in the log have it, and the answer's head, so that a person can name it.
    Returns the `send` that adds it.
    """
    page = request_ids.new_id()
    request_ids.CURRENT.set(page)
    header = (b"x-bf-request-id", request_ids.request_id(page).encode())

    async def send_named(message: Any) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message["headers"], header]}
        await send(message)

    return send_named


async def say(send: Send, status: int, body: bytes, headers: Headers = ((b"content-type", b"text/plain"),)) -> None:
    sized = [*headers, content_security.NO_SNIFFING, (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": sized})
    await send({"type": "http.response.body", "body": body})
