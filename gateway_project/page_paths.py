"""Which requests are for pages for people, for the administration's REST API, or for its reports."""

from __future__ import annotations

import re
from typing import Any

from administration.analytics.paths import is_report

PAGES = re.compile(r"/(?:(?:admin|my|api/v1|docs)(?:/.*)?|(?:invitation|static)/.*|favicon\.ico)?", re.DOTALL)
# Where only programs have business: paths of the API, also below the prefixes in messages_api/urls.py.
PROGRAMS = re.compile(r"/+(?:v1|anthropic|pydanticai|api)(?:/.*)?", re.DOTALL)


def is_page(scope: Any) -> bool:
    """Whether an ASGI request is for Django's URLs. Everything else gets the Messages API's answer: a client with a
    wrong base URL can read a JSON error, but not an HTML page. A person who opens a wrong address gets a page."""
    path, opens = scope["path"], scope["method"] in ("GET", "HEAD")
    if PAGES.fullmatch(path) is not None:
        return path != "/" or opens
    if is_report(path):
        return True
    return opens and wants_html(scope) and PROGRAMS.fullmatch(path) is None


def wants_html(scope: Any) -> bool:
    """Whether the request's first choice is HTML, as it is a browser's for what a person opens."""
    accepted: bytes = next((value for name, value in scope["headers"] if name == b"accept"), b"")
    return re.split(rb"[,;]", accepted)[0].strip().lower() == b"text/html"
