"""Which headers pass through, in each direction. The lists are closed: a header that isn't named here doesn't pass.

A client's other headers describe its network, or carry credentials for other services. A provider's other headers would
speak to a browser in the gateway's name.
"""

from __future__ import annotations

from collections.abc import Sequence

from messages_api.upstream.client import Headers
from usage.arbitration import clean

BETA = b"anthropic-beta"
ORGANIZATION = b"anthropic-organization-id"
WORKSPACE = b"anthropic-workspace-id"
SHOULD_RETRY = b"x-should-retry"

# Headers for every provider: the client's program, and the trace of the call.
TRACED = frozenset((b"user-agent", b"traceparent", b"tracestate"))
# More headers for providers that speak Anthropic's API: how to read the body, which part of a file is requested, and
# what clients say about themselves.
UP = TRACED | {b"content-type", b"accept", b"range", b"x-app"}
UP_BEGINNINGS = (b"anthropic-", b"x-stainless-", b"x-claude-code-")
# Headers that choose in whose name a call is made, and who is billed (`billing_policy`), if a credential allows a
# choice. With one of the gateway's provider keys, the caller has no choice.
# https://platform.claude.com/docs/en/api/messages/create (`workspace_id`, `user_profile_id`; November 2026)
NOT_UP = frozenset((ORGANIZATION, WORKSPACE, b"anthropic-user-profile-id"))

# Headers that clients act on.
ACTED_ON = frozenset((b"retry-after", b"retry-after-ms", SHOULD_RETRY))
# Headers of an answer that clients get in addition to its type: how to cache it, and what support asks for.
DOWN = ACTED_ON | {
    b"content-disposition",
    b"content-range",
    b"accept-ranges",
    b"cache-control",
    b"vary",
    b"date",
    b"request-id",
    b"traceresponse",
    b"server-timing",
    b"cf-ray",
    b"cf-cache-status",
    b"content-security-policy",
    b"via",
    b"x-robots-tag",
    b"x-cloud-trace-context",
    b"x-envoy-upstream-service-time",
}
DOWN_BEGINNINGS = (b"anthropic-",)
# Headers about the provider's account and its limits.
NOT_DOWN = frozenset((ORGANIZATION, WORKSPACE))
NOT_DOWN_BEGINNINGS = (b"anthropic-ratelimit-",)

# Types that no browser runs or renders as a page. Every other type becomes plain bytes.
INERT = frozenset(
    (
        "application/json",
        "application/jsonl",
        "application/octet-stream",
        "application/pdf",
        "application/x-jsonl",
        "application/x-ndjson",
        "application/zip",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/csv",
        "text/event-stream",
        "text/markdown",
        "text/plain",
    )
)
PLAIN_BYTES = (b"content-type", b"application/octet-stream")
# Makes browsers trust the type instead of guessing one from the content.
NO_SNIFFING = (b"x-content-type-options", b"nosniff")
# Types that say nothing about the content.
UNTYPED = frozenset(("", "text/plain", "application/octet-stream"))
# nginx and similar proxies buffer an answer until it is complete, unless this header forbids it.
# https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering
UNBUFFERED = (b"x-accel-buffering", b"no")
UNCACHED = (b"cache-control", b"no-cache")


def upstream(headers: Headers, credential: tuple[bytes, bytes], *, own: bool = False) -> Headers:
    """A client's headers for a provider that speaks Anthropic's API, with the credential that the call is made with.

    Args:
        own: the credential is the caller's own, not a provider key's.
    """
    named = named_by_connection(headers)
    if not own:
        named |= NOT_UP
    passed = [
        (name, value) for name, value in headers if (name in UP or name.startswith(UP_BEGINNINGS)) and name not in named
    ]
    return [*passed, credential, (b"accept-encoding", b"identity")]


def to_cloud(headers: Headers) -> Headers:
    """A client's headers for a cloud that wraps Anthropic's API in its own."""
    passed = [
        (name, value)
        for name, value in headers
        if name in TRACED or (name.startswith(b"anthropic-") and name not in NOT_UP)
    ]
    return [*passed, (b"accept", b"application/json"), (b"accept-encoding", b"identity")]


def traced(headers: Headers) -> Headers:
    """A client's headers for a provider that doesn't speak Anthropic's API."""
    return [(name, value) for name, value in headers if name in TRACED]


def acted_on(headers: Headers) -> Headers:
    """Those of a provider's headers that clients act on; the others describe the gateway's account."""
    return [(name, value) for name, value in headers if name in ACTED_ON]


def downstream(headers: Headers, request_id: str) -> Headers:
    """A provider's headers for the client, with the gateway's request id beside the provider's."""
    named = named_by_connection(headers)
    passed = [
        (name, value)
        for name, value in headers
        if (name in DOWN or (name.startswith(DOWN_BEGINNINGS) and not is_of_account(name))) and name not in named
    ]
    passed += [inert(value) for name, value in headers if name == b"content-type"][:1]
    if is_stream(headers):
        passed.append(UNBUFFERED)
        if not value_of(passed, UNCACHED[0]):
            passed.append(UNCACHED)
    passed.append((b"x-bf-request-id", request_id.encode()))
    return passed


def named_by_connection(headers: Headers) -> frozenset[bytes]:
    """Headers that a `Connection` header makes hop-by-hop."""
    return frozenset(
        part.strip().lower() for name, value in headers if name == b"connection" for part in value.split(b",")
    )


def is_of_account(name: bytes) -> bool:
    """Whether a header describes the provider's account that answered."""
    return name in NOT_DOWN or name.startswith(NOT_DOWN_BEGINNINGS)


def inert(kind: bytes) -> tuple[bytes, bytes]:
    """The `content-type` of an answer, or that of plain bytes if a browser would run or render this type."""
    named = kind.partition(b";")[0].strip().lower().decode("latin-1")
    return (b"content-type", kind) if named in INERT else PLAIN_BYTES


def answered_by(provider: str, model: str, attempts: int) -> Headers:
    """Headers that name the provider and model that answered, and the number of attempts."""
    return [
        (b"x-bf-provider", provider.encode()),
        (b"x-bf-model", model.encode("ascii", "replace")),
        attempts_made(attempts),
    ]


def attempts_made(count: int) -> tuple[bytes, bytes]:
    return b"x-bf-attempts", b"%d" % count


def value_of(headers: Headers, name: bytes) -> str:
    """The first value of a header; empty: the header is missing."""
    for other, value in headers:
        if other == name:
            return value.decode("latin-1")
    return ""


def is_stream(headers: Headers) -> bool:
    """Whether an answer is server-sent events."""
    return value_of(headers, b"content-type").lower().startswith("text/event-stream")


def label_stream(headers: Headers) -> None:
    """Set the type of a stream if the vendor gives none, or that of plain bytes (ding113/claude-code-hub#1458, August
    2026). An answer with any other type is not a stream."""
    kind = value_of(headers, b"content-type").partition(";")[0].strip().lower()
    if kind in UNTYPED:
        headers[:] = [header for header in headers if header[0] != b"content-type"]
        headers.append((b"content-type", b"text/event-stream"))


def account(headers: Headers) -> tuple[str, str]:
    """The organisation and workspace at the provider that answered; empty: unknown."""
    organization = workspace = ""
    for name, value in headers:
        if name == ORGANIZATION:
            organization = clean(value.decode("latin-1"))
        elif name == WORKSPACE:
            workspace = clean(value.decode("latin-1"))
    return organization, workspace


def beta_list(headers: Headers) -> list[str]:
    return [beta for given in betas(headers).split(",") if (beta := given.strip())]


def with_betas(headers: Headers, betas: Sequence[str]) -> Headers:
    """The headers with these values of `anthropic-beta` instead of their own."""
    others = [header for header in headers if header[0] != BETA]
    return [*others, (BETA, ",".join(betas).encode("latin-1"))] if betas else others


def betas(headers: Headers) -> str:
    """Every value of `anthropic-beta`, separated by commas."""
    return ",".join(value.decode("latin-1") for name, value in headers if name == BETA)
