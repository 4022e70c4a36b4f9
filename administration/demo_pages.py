"""How the pages, files and REST answers of a deployment with demo data say so (keys/demo_data.py).

Pages have a line at their top, from a variable of every template. All answers of the rooms, of `/my/` and of the REST
API have a header, and the names of downloaded files begin with `demo-data-`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from keys.demo_data import FILE_PREFIX, HEADER, VALUE, is_demo

# Where data is shown. Other pages, such as the API reference, need no database.
PLACES = ("/admin/", "/my/", "/api/v1/")
FILENAME = re.compile(r'filename="(?!' + FILE_PREFIX + ")")


class Middleware:
    """Adds the header, and renames downloads."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response = self.get_response(request)
        # A redirection shows no data, so a stranger who is sent to the sign-in page causes no query.
        shows_data = request.path.startswith(PLACES) and not 300 <= response.status_code < 400
        if shows_data and says_demo(request):
            response.headers[HEADER] = VALUE
            if (disposition := response.headers.get("Content-Disposition")) is not None:
                response.headers["Content-Disposition"] = FILENAME.sub(f'filename="{FILE_PREFIX}', disposition)
        return response


def context(request: HttpRequest) -> dict[str, Any]:
    """The variable `demo_data` of all templates: a function, so that a page that doesn't show it makes no query."""
    return {"demo_data": lambda: says_demo(request)}


def says_demo(request: HttpRequest) -> bool:
    """Whether an answer must say that it is about demo data. It is looked up once for a request.

    False as well if the database can't be asked: such an answer shows no data.
    """
    known: bool | None = getattr(request, "_demo_data", None)
    if known is None:
        try:
            known = is_demo()
        except (DatabaseError, InterfaceError):
            known = False
        request._demo_data = known  # type: ignore[attr-defined]
    return known
