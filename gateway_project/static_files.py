"""The static files of pages. They are collected before the gateway starts, compressed, with hashes in their names.

Serving one takes no thread, so it doesn't count towards the limit of pages at once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import django
import servestatic
from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from servestatic.middleware import ServeStaticMiddleware
from servestatic.storage import CompressedManifestStaticFilesStorage

from gateway_project import content_security

# drf-spectacular has two viewers; the gateway uses the other one.
UNUSED = ["redoc"]
STAMP = "collected"


Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

# Bytes read and sent at a time.
PART = 64 * 1024
MISSING = b"not found\n"


class Files:
    """Serves the static files that existed when the process started. ServeStatic's middleware finds them from Django's
    settings."""

    def __init__(self) -> None:
        async def nothing(request: HttpRequest) -> HttpResponse:
            raise NotImplementedError

        self.known = ServeStaticMiddleware(nothing)

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        file = self.known.find_file(path) if self.known.autorefresh else self.known.files.get(path)
        if file is None:
            headers = [*content_security.PLAIN, (b"content-length", b"%d" % len(MISSING))]
            await send({"type": "http.response.start", "status": 404, "headers": headers})
            await send({"type": "http.response.body", "body": MISSING})
            return
        asked = {
            "HTTP_" + name.decode("latin-1").upper().replace("-", "_"): value.decode("latin-1")
            for name, value in scope["headers"]
        }
        answer = file.get_response(scope["method"], asked)
        headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers if value]
        headers.append(content_security.NO_SNIFFING)
        await send({"type": "http.response.start", "status": int(answer.status), "headers": headers})
        if answer.file is not None:
            with answer.file:
                while part := answer.file.read(PART):
                    await send({"type": "http.response.body", "body": part, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


class Storage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]
    """Names with hashes if the files were collected; else plain names, as in tests."""

    def stored_name(self, name: str) -> str:
        stored: str = super().stored_name(name) if self.hashed_files else name
        return stored


def collect() -> None:
    """Collect the files if one has changed or is missing. Otherwise nothing is done, since collecting takes seconds.

    Raises:
        OSError: the folder can't be written.
        ValueError: a file refers to a missing one.
    """
    root = Path(settings.STATIC_ROOT)
    wanted = fingerprint()
    if not are_whole(root, wanted):
        # Clear the folder: collectstatic skips a file that is older than the collected one.
        call_command("collectstatic", verbosity=0, interactive=False, clear=True, ignore_patterns=UNUSED)
        (root / STAMP).write_text(wanted)


def fingerprint() -> str:
    """A digest of the files' names and contents, and of the versions of the tools that collect them."""
    digest = hashlib.sha256(f"{django.VERSION} {servestatic.__version__}".encode())
    for finder in finders.get_finders():
        for name, storage in sorted(finder.list(UNUSED), key=lambda found: found[0]):
            with storage.open(name) as file:
                content = file.read()
            digest.update(f"\n{name} {len(content)} ".encode() + content)
    return digest.hexdigest()


def are_whole(root: Path, wanted: str) -> bool:
    """Whether the collected files are complete and have this fingerprint."""
    stamp = root / STAMP
    if not stamp.is_file() or stamp.read_text() != wanted:
        return False
    sizes = {root / name: stat[6] for name, stat in Storage().load_manifest_stats().items()}
    return bool(sizes) and all(file.is_file() and file.stat().st_size == size for file, size in sizes.items())


@require_safe
@cache_control(public=True, max_age=86_400)
def favicon(request: HttpRequest) -> HttpResponse:
    """The icon at the path that browsers request if a page doesn't name one."""
    found = finders.find("keys/favicon.ico")
    assert isinstance(found, str)
    return HttpResponse(Path(found).read_bytes(), content_type="image/x-icon")
