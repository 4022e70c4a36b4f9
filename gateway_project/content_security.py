"""Security headers of pages. They restrict what a browser may do with a page.

The middleware is a stand-in for Django 6's `SECURE_CSP` until the project uses Django 6.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

# No page uses any of these browser features.
PERMISSIONS = "camera=(), display-capture=(), geolocation=(), microphone=(), payment=(), usb=()"

# Browsers must not guess another content type.
NO_SNIFFING = (b"x-content-type-options", b"nosniff")
RESTRICTIONS = [
    NO_SNIFFING,
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"same-origin"),
]
# The headers of an answer in plain text, and of one in JSON.
PLAIN = [(b"content-type", b"text/plain; charset=utf-8"), *RESTRICTIONS]
JSON = [(b"content-type", b"application/json"), *RESTRICTIONS]


class ContentSecurityPolicyMiddleware(MiddlewareMixin):
    """Sets the policy from the settings on every page."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        response.headers["content-security-policy"] = policy(settings.SECURE_CSP)
        response.headers["permissions-policy"] = PERMISSIONS
        return response


def policy(directives: Mapping[str, Sequence[str]]) -> str:
    """The value of the `Content-Security-Policy` header."""
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in directives.items())
