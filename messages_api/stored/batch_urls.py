"""The URL of a batch's results: it points at the gateway, because clients call it with their virtual key."""

from __future__ import annotations

import re

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from messages_api.json_text.lenient import mapping, text
from messages_api.json_text.outline import decode
from messages_api.relay import story
from messages_api.relay.call import Call
from messages_api.server.handler import ApiRequest, RawResponse
from messages_api.upstream.client import Answer

PATH = "/v1/messages/batches"
RESULTS_URL = re.compile(rb'("results_url"\s*:\s*)"[^"]*"')
RESULTS_PATH = re.compile(rb'("results_url"\s*:\s*")[^"]*(/v1/messages/batches/[^"/]+/results")')


def shown(call: Call, answer: Answer, body: bytes, name: str = "") -> RawResponse:
    """The provider's description of a batch for the client, with the gateway's URL for its results.

    Args:
        name: the provider's id of the batch, if the description lacks it.
    """
    if answer.status == 200:
        name = name or text(mapping(decode(body)).get("id"))
        body = with_our_url(body, whereabouts(call.http_request), name)
    return story.response(call, answer, body)


def with_our_url(body: bytes, base: bytes, name: str) -> bytes:
    """A description with the gateway's `results_url`, if it has one.

    Args:
        base: as `whereabouts`.
    """
    return RESULTS_URL.sub(lambda found: b'%b"%b%b/%b/results"' % (found[1], base, PATH.encode(), name.encode()), body)


def with_our_urls(body: bytes, base: bytes) -> bytes:
    """The same for a list of descriptions."""
    return RESULTS_PATH.sub(rb"\1" + base + rb"\2", body)


def whereabouts(http: ApiRequest) -> bytes:
    """The URL under which the caller reached this gateway, up to `/v1`.

    Clients send their key to `results_url`, so its host is one that ALLOWED_HOSTS names. It is empty for a caller that
    says another one: what begins with `/v1` is then a path, which Anthropic's clients add to their base URL.
    """
    host = next((value for name, value in http.scope["headers"] if name == b"host"), b"").decode("latin-1")
    named = [each for each in settings.ALLOWED_HOSTS if each != "*"]
    if not validate_host(split_domain_port(host)[0], named):
        return b""
    scheme: str = "https" if settings.CONFIGURATION.tls_in_front else http.scheme or "http"
    prefix: str = http.scope["path"].partition("/v1/")[0]
    return f"{scheme}://{host}{prefix}".encode()
