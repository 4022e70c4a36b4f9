"""What browsers may do with a page: Django 6's `SECURE_CSP` and its middleware, until this is Django 6; and the rest of
what a page's headers say to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

# Nothing of ours asks a browser for any of these.
PERMISSIONS = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"

# A browser takes the type's word for it.
NO_SNIFFING = (b"x-content-type-options", b"nosniff")
# The headers of an answer of a line of text.
PLAIN = [
    (b"content-type", b"text/plain; charset=utf-8"),
    NO_SNIFFING,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"same-origin"),
]


class ContentSecurityPolicyMiddleware(MiddlewareMixin):
    """Gives every page the policy of the settings."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response.headers["content-security-policy"] = policy(settings.SECURE_CSP)
        response.headers["permissions-policy"] = PERMISSIONS
        return response


def policy(directives: Mapping[str, Sequence[str]]) -> str:
    """The header's value."""
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in directives.items())
