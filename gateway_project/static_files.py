"""The static files of pages: collected before a gateway starts, compressed, with hashes in their names."""

from __future__ import annotations

import hashlib
from pathlib import Path

import django
import servestatic
from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.http import HttpRequest, HttpResponse
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_safe
from servestatic.storage import CompressedManifestStaticFilesStorage

# Of drf-spectacular's two viewers we show the other one.
UNUSED = ["redoc"]
STAMP = "collected"


class Storage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]
    """Names with hashes, as they were collected; plain ones where nothing was, as in tests."""

    def stored_name(self, name: str) -> str:
        stored: str = super().stored_name(name) if self.hashed_files else name
        return stored


def collect() -> None:
    """Bring the collected files up to date; that takes seconds, so it is done only where one has changed or is gone.

    Raises:
        OSError: the folder can't be written.
        ValueError: a file names another one that isn't there.
    """
    root = Path(settings.STATIC_ROOT)
    wanted = fingerprint()
    if not are_whole(root, wanted):
        # Cleared: a file that is older than the one it replaces would be left out.
        call_command("collectstatic", verbosity=0, interactive=False, clear=True, ignore_patterns=UNUSED)
        (root / STAMP).write_text(wanted)


def fingerprint() -> str:
    """Of the files' names and contents, and of what collects them."""
    digest = hashlib.sha256(f"{django.VERSION} {servestatic.__version__}".encode())
    for finder in finders.get_finders():
        for name, storage in sorted(finder.list(UNUSED), key=lambda found: found[0]):
            with storage.open(name) as file:
                content = file.read()
            digest.update(f"\n{name} {len(content)} ".encode() + content)
    return digest.hexdigest()


def are_whole(root: Path, wanted: str) -> bool:
    """Whether all that was collected is there, and from files of this fingerprint."""
    stamp = root / STAMP
    if not stamp.is_file() or stamp.read_text() != wanted:
        return False
    sizes = {root / name: stat[6] for name, stat in Storage().load_manifest_stats().items()}
    return bool(sizes) and all(file.is_file() and file.stat().st_size == size for file, size in sizes.items())


@require_safe
@cache_control(public=True, max_age=86_400)
def favicon(request: HttpRequest) -> HttpResponse:
    """The icon where browsers look for it if a page names none."""
    found = finders.find("keys/favicon.ico")
    assert isinstance(found, str)
    return HttpResponse(Path(found).read_bytes(), content_type="image/x-icon")
