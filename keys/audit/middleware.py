"""Tells the audit log who makes a page's request, and from where."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from keys.audit.actor import Actor, acting


def middleware(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    def answer(request: HttpRequest) -> HttpResponseBase:
        with acting(lambda: of_request(request)):
            return get_response(request)

    return answer


def of_request(request: HttpRequest) -> Actor:
    """The signed-in person, or a visitor. The address is the client's (keys/client_address.py)."""
    address = request.META.get("REMOTE_ADDR", "")
    user = getattr(request, "user", None)
    if user is not None and user.is_authenticated:
        return Actor("person", id=user.pk, address=address)
    return Actor("visitor", address=address)
