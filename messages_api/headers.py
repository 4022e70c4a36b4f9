"""Which headers pass through, in each direction. Open lists: what isn't named here passes."""

from __future__ import annotations

from collections.abc import Sequence

from messages_api.upstream import Headers
from usage.arbitration import clean

# RFC 9110, 7.6.1, and those that frame a body, which each side frames anew.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"content-length",
    )
)

# The caller's credentials and whereabouts, and what we decide ourselves.
NOT_UPSTREAM = HOP_BY_HOP | {
    b"authorization",
    b"x-api-key",
    b"api-key",
    b"host",
    b"cookie",
    b"expect",
    b"accept-encoding",
    b"forwarded",
    b"x-forwarded-for",
    b"x-forwarded-host",
    b"x-forwarded-port",
    b"x-forwarded-proto",
    b"x-real-ip",
}

ORGANIZATION = b"anthropic-organization-id"
WORKSPACE = b"anthropic-workspace-id"

SHOULD_RETRY = b"x-should-retry"
# Types that say nothing of what comes.
UNTYPED = frozenset(("", "text/plain", "application/octet-stream"))

# What describes the upstream account or its front end.
NOT_DOWNSTREAM = HOP_BY_HOP | {
    b"set-cookie",
    b"server",
    b"alt-svc",
    b"strict-transport-security",
    ORGANIZATION,
    WORKSPACE,
    b"x-bf-request-id",
}
BETA = b"anthropic-beta"
# Of its accounts' limits, and of the pages that may call it.
NOT_DOWNSTREAM_BEGINNINGS = (b"anthropic-ratelimit-", b"access-control-")
# nginx and its like keep an answer until it is whole, unless they are told not to.
# https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering
UNBUFFERED = (b"x-accel-buffering", b"no")
UNCACHED = (b"cache-control", b"no-cache")
OURS = b"x-bf-"


def named_by_connection(headers: Headers) -> frozenset[bytes]:
    """Headers that a `Connection` header makes hop-by-hop."""
    names = [part.strip().lower() for name, value in headers if name == b"connection" for part in value.split(b",")]
    return frozenset(names) - {b"keep-alive", b"close", b""}


def upstream(headers: Headers, credential: tuple[bytes, bytes]) -> Headers:
    """A caller's headers for the provider, with our credential in place of the caller's."""
    dropped = NOT_UPSTREAM | named_by_connection(headers)
    passed = [(name, value) for name, value in headers if name not in dropped and not name.startswith(OURS)]
    return [*passed, credential, (b"accept-encoding", b"identity")]


def downstream(headers: Headers, request_id: str) -> Headers:
    """A provider's headers for the caller, with our request id beside the provider's."""
    dropped = NOT_DOWNSTREAM | named_by_connection(headers)
    passed = [
        (name, value)
        for name, value in headers
        if name not in dropped and not name.startswith(NOT_DOWNSTREAM_BEGINNINGS)
    ]
    if is_stream(headers):
        passed = [header for header in passed if header[0] != UNBUFFERED[0]] + [UNBUFFERED]
        if not value_of(passed, UNCACHED[0]):
            passed.append(UNCACHED)
    passed.append((b"x-bf-request-id", request_id.encode()))
    return passed


def answered_by(provider: str, model: str, attempts: int) -> Headers:
    """What tells a caller who answered, and how often it was tried."""
    return [
        (b"x-bf-provider", provider.encode()),
        (b"x-bf-model", model.encode("ascii", "replace")),
        attempts_made(attempts),
    ]


def attempts_made(count: int) -> tuple[bytes, bytes]:
    """How often a call was tried."""
    return b"x-bf-attempts", b"%d" % count


def value_of(headers: Headers, name: bytes) -> str:
    """The first value of a header, empty where it is missing."""
    return next((value.decode("latin-1") for other, value in headers if other == name), "")


def is_stream(headers: Headers) -> bool:
    """Whether an answer is server-sent events."""
    return value_of(headers, b"content-type").lower().startswith("text/event-stream")


def label_stream(headers: Headers) -> None:
    """Name a stream as one whose vendor gives it no type or that of plain bytes (ding113/claude-code-hub#1458, August
    2026); what says that it is something else isn't one."""
    kind = value_of(headers, b"content-type").partition(";")[0].strip().lower()
    if kind in UNTYPED:
        headers[:] = [header for header in headers if header[0] != b"content-type"]
        headers.append((b"content-type", b"text/event-stream"))


def account(headers: Headers) -> tuple[str, str]:
    """The provider's organisation and workspace that gave an answer, empty where it doesn't say."""
    organization = workspace = ""
    for name, value in headers:
        if name == ORGANIZATION:
            organization = clean(value.decode("latin-1"))
        elif name == WORKSPACE:
            workspace = clean(value.decode("latin-1"))
    return organization, workspace


def beta_list(headers: Headers) -> list[str]:
    """Each value of `anthropic-beta`."""
    return [beta for given in betas(headers).split(",") if (beta := given.strip())]


def with_betas(headers: Headers, betas: Sequence[str]) -> Headers:
    """Headers with these values of `anthropic-beta` in place of theirs."""
    others = [header for header in headers if header[0] != BETA]
    return [*others, (BETA, ",".join(betas).encode("latin-1"))] if betas else others


def betas(headers: Headers) -> str:
    """Every value of `anthropic-beta`, separated by commas."""
    return ",".join(value.decode("latin-1") for name, value in headers if name == BETA)
