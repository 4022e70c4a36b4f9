"""Which headers pass through, in each direction. Closed lists: what isn't named here stays where it came from.

A caller's other headers say where it is, or carry credentials for somebody else; a provider's would speak to a browser
in the gateway's name.
"""

from __future__ import annotations

from collections.abc import Sequence

from messages_api.upstream import Headers
from usage.arbitration import clean

BETA = b"anthropic-beta"
ORGANIZATION = b"anthropic-organization-id"
WORKSPACE = b"anthropic-workspace-id"
SHOULD_RETRY = b"x-should-retry"

# What any provider may know of a call: by which program, in which trace.
TRACED = frozenset((b"user-agent", b"traceparent", b"tracestate"))
# What whoever speaks Anthropic's API gets besides: how the body is to be read, which part of a file is asked for, and
# what clients say of themselves.
UP = TRACED | {b"content-type", b"accept", b"range", b"x-app"}
UP_BEGINNINGS = (b"anthropic-", b"x-stainless-", b"x-claude-code-")
# In whose name a call is made, and who is billed for it (`billing_policy`), where a credential leaves the choice. Where
# that is a provider key of ours, the caller has none.
# https://platform.claude.com/docs/en/api/messages/create (`workspace_id`, `user_profile_id`; November 2026)
NOT_UP = frozenset((ORGANIZATION, WORKSPACE, b"anthropic-user-profile-id"))

# What clients act on.
ACTED_ON = frozenset((b"retry-after", b"retry-after-ms", SHOULD_RETRY))
# What callers get besides its type: how an answer may be kept, and what support asks for.
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
# What describes the upstream account and its limits.
NOT_DOWN = frozenset((ORGANIZATION, WORKSPACE))
NOT_DOWN_BEGINNINGS = (b"anthropic-ratelimit-",)

# Types that no browser runs or renders as a page. Anything else is said to be plain bytes.
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
# A browser takes the type's word for it.
NO_SNIFFING = (b"x-content-type-options", b"nosniff")
# Types that say nothing of what comes.
UNTYPED = frozenset(("", "text/plain", "application/octet-stream"))
# nginx and its like keep an answer until it is whole, unless they are told not to.
# https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_buffering
UNBUFFERED = (b"x-accel-buffering", b"no")
UNCACHED = (b"cache-control", b"no-cache")


def upstream(headers: Headers, credential: tuple[bytes, bytes], *, own: bool = False) -> Headers:
    """A caller's headers for who speaks Anthropic's API, with the credential that the call is made with.

    Args:
        own: that credential is the caller's own.
    """
    named = named_by_connection(headers)
    if not own:
        named |= NOT_UP
    passed = [
        (name, value) for name, value in headers if (name in UP or name.startswith(UP_BEGINNINGS)) and name not in named
    ]
    return [*passed, credential, (b"accept-encoding", b"identity")]


def to_cloud(headers: Headers) -> Headers:
    """A caller's headers for a cloud that speaks Anthropic's API in words of its own."""
    passed = [
        (name, value)
        for name, value in headers
        if name in TRACED or (name.startswith(b"anthropic-") and name not in NOT_UP)
    ]
    return [*passed, (b"accept", b"application/json"), (b"accept-encoding", b"identity")]


def traced(headers: Headers) -> Headers:
    """A caller's headers for who doesn't speak Anthropic's API."""
    return [(name, value) for name, value in headers if name in TRACED]


def acted_on(headers: Headers) -> Headers:
    """A provider's headers, where the rest tells of our account there."""
    return [(name, value) for name, value in headers if name in ACTED_ON]


def downstream(headers: Headers, request_id: str) -> Headers:
    """A provider's headers for the caller, with our request id beside the provider's."""
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
    """The header of an answer's type, or of plain bytes where it is one that a browser would run or render."""
    named = kind.partition(b";")[0].strip().lower().decode("latin-1")
    return (b"content-type", kind) if named in INERT else PLAIN_BYTES


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
