"""Which requests are for pages for people, or for the administration's REST API."""

from __future__ import annotations

import re
from typing import Any

PAGES = re.compile(r"/(?:(?:admin|my|api/v1|docs)(?:/.*)?|(?:invitation|static)/.*|favicon\.ico)?", re.DOTALL)


def is_page(scope: Any) -> bool:
    """Whether an ASGI request is for Django's URLs. Everything else gets the Messages API's answer: a client with a
    wrong base URL can read a JSON error, but not an HTML page."""
    path: str = scope["path"]
    return PAGES.fullmatch(path) is not None and (path != "/" or scope["method"] in ("GET", "HEAD"))
