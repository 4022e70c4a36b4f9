"""Claude on Google Cloud's Vertex AI: Anthropic's answers, unchanged, behind Google's addresses and credentials.

https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from datetime import UTC
from types import SimpleNamespace
from typing import Any
from urllib.parse import SplitResult, urlsplit

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from keys.directory import KnownProviderKey
from keys.errors import Unusable
from keys.model_names import fold
from keys.provider_kinds import object_of
from keys.timeouts import Timeouts
from messages_api.json_text import byte_edits
from messages_api.process import long_bodies
from messages_api.providers import cloud_errors, paths, unsupported
from messages_api.providers.access_tokens import (
    LOOPBACK,
    SECONDS,
    Token,
    TokenCache,
    TokenRefused,
    check_machine,
    check_taker,
    http_client,
)
from messages_api.providers.anthropic import BILLED_REFUSALS, check_root
from messages_api.providers.base import COUNT_TOKENS, JSON, Outgoing, Provider, add_request_id, counting_probe, speaks
from messages_api.server import headers
from messages_api.upstream.client import Answer, UpstreamClient, UpstreamError, plain

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
VERSION = b'"anthropic_version":"vertex-2023-10-16"'
MOVED = ("anthropic_version", *unsupported.IN_BODY)
# Addresses of multi-region locations.
ADDRESSES = {
    "global": "https://aiplatform.googleapis.com",
    "us": "https://aiplatform.us.rep.googleapis.com",
    "eu": "https://aiplatform.eu.rep.googleapis.com",
}
NO_REGION = ("", "global")
# The hyphen before a model's date. Google's names have an @ there, but its answers have Anthropic's hyphen.
DATE = re.compile(r"-(?=\d{8}$)")
# The model whose tokens a check counts.
SOME_MODEL = "claude-haiku-4-5@20251001"
REQUEST_IDS = (b"x-request-id", b"x-goog-request-id")
# Google's JSON credentials: their types, and the required members of each.
# https://google.aip.dev/auth/4110 and the following
MEMBERS = {
    "service_account": ("client_email", "private_key", "token_uri"),
    "external_account": ("audience", "subject_token_type", "token_url"),
    "impersonated_service_account": ("service_account_impersonation_url",),
    "authorized_user": ("client_id", "client_secret", "refresh_token"),
}
# The types that may impersonate a service account.
IMPERSONATORS = ("service_account", "authorized_user")
# Hosts to which Google's clients send proofs of identity. The pattern is narrow because others control some hosts of
# googleapis.com, too: a bucket has its name there.
# https://docs.cloud.google.com/docs/authentication/external/externally-sourced-credentials
TAKERS = re.compile(r"(?:[a-z0-9-]+[.-])?(?:sts|iamcredentials)(?:\.[a-z0-9-]+\.rep|-[a-z0-9-]+\.p)?\.googleapis\.com")
# Hosts of Google's models, with private endpoints.
MODELS = re.compile(r"(?:[a-z0-9-]+-)?aiplatform(?:\.[a-z0-9-]+\.rep|-[a-z0-9-]+\.p)?\.googleapis\.com")
# The type of external accounts that prove their identity with AWS's credentials. https://google.aip.dev/auth/4117
AWS = "urn:ietf:params:aws:token-type:aws4_request"


@speaks
class Vertex(Provider):
    """Relays answers unchanged. Requests have the model and the version in another place."""

    name = "vertex"
    label = "Google Vertex AI"
    own_hosts = MODELS
    takes_region = True
    takes_project = True
    price_lists = ("google",)
    guesses = ("anthropic",)
    # Anthropic's page names Google Cloud; Google's pages don't mention billed refusals.
    billed_refusals = dict.fromkeys(BILLED_REFUSALS, "")
    keeps_caches_as_asked = True

    def __init__(self, client: UpstreamClient) -> None:
        super().__init__(client)
        self.tokens = TokenCache(fetch)

    @classmethod
    def check_secret(cls, secret: str) -> None:
        members = object_of(secret)
        if "identity" in members:
            check_machine(secret)
        else:
            check_credentials(members)

    @classmethod
    def check_address(cls, url: str, parts: SplitResult) -> None:
        super().check_address(url, parts)
        check_root(url)

    @classmethod
    def check_use(cls, secret: str, base_url: str) -> None:
        check_taker(secret, base_url, MODELS)

    @classmethod
    def project_of(cls, secret: str) -> str:
        members = object_of(secret)
        return str(members.get("project_id") or members.get("quota_project_id") or "")

    @classmethod
    def sold_as(cls, region: str, asked: str, answered: str) -> str:
        """The name with the region, which answers leave out."""
        name = super().sold_as(region, asked, answered)
        return name if region in NO_REGION else f"{region}/{name}"

    @classmethod
    def called(cls, sold: str) -> str:
        return sold.partition("/")[2] or sold

    @classmethod
    def listed(cls, sold: str) -> tuple[str, str, bool]:
        called = cls.called(sold)
        name = DATE.sub("@", fold(called))
        return name, name, called != sold

    async def probe(self, key: KnownProviderKey, timeouts: Timeouts) -> Answer | None:
        """Count tokens, which is free and needs the same right as a call.

        https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/partner-models/claude/count-tokens
        """
        return await self.send(counting_probe(key, SOME_MODEL, timeouts))

    async def send(self, call: Outgoing) -> Answer:
        key = call.provider_key
        try:
            token = await self.tokens.get(key.secret)
        except TokenRefused:
            return cloud_errors.no_token()
        body = call.body if isinstance(call.body, bytes) else await call.body.read()
        model, counts = DATE.sub("@", call.model), call.path == COUNT_TOKENS
        body, betas, streams = await long_bodies.run(
            made_over, body, headers.beta_list(call.headers), counts=model if counts else ""
        )
        method = "streamRawPredict" if streams else "rawPredict"
        if counts:
            model = "count-tokens"
        sent = [
            *(
                (name, value)
                for name, value in headers.with_betas(headers.to_cloud(call.headers), betas)
                if name != b"anthropic-version"
            ),
            JSON,
            (b"authorization", b"Bearer " + token.encode()),
        ]
        url = f"{address(key)}/{paths.model(model, safe='@')}:{method}"
        answer = plain(await self.client.send("POST", url, sent, body, call.on_write, call.timeouts))
        answer = add_request_id(answer, REQUEST_IDS)
        return answer if answer.status < 400 else await cloud_errors.reshape(answer, call)


def made_over(body: bytes, betas: list[str], *, counts: str) -> tuple[bytes, list[str], bool]:
    """A Messages request in Vertex's form, its betas, and whether it asks for a stream.

    Args:
        betas: those of the header.
        counts: the model, if the request is to count tokens.
    """
    members = byte_edits.members_of.decode(body)
    # Vertex refuses betas in requests to count tokens: https://github.com/BerriAI/litellm/pull/39597 (September 2026)
    betas = [] if counts else unsupported.betas(Vertex.name, unsupported.named_betas(betas, members))
    if (taken := unsupported.without(Vertex.name, body, betas)) is not body:
        body, members = taken, byte_edits.members_of.decode(taken)
    if counts:
        # Only this kind of request names the model in its body.
        body = byte_edits.edited(body, members, without=MOVED, first=VERSION)
        return byte_edits.apply(body, byte_edits.model(body, counts)), betas, False
    streams = bytes(members.get("stream", b"")) == b"true"
    return byte_edits.edited(body, members, without=("model", *MOVED), first=VERSION), betas, streams


def check_credentials(members: dict[str, Any]) -> None:
    """Refuse a secret that isn't one of Google's JSON credentials, or isn't safe to use.

    https://docs.cloud.google.com/docs/authentication/external/externally-sourced-credentials

    Raises:
        Unusable: it isn't.
    """
    check_members(members, tuple(MEMBERS))
    if members["type"] == "external_account":
        check_source(members.get("credential_source"))
        check_takers(members)
    elif members["type"] == "impersonated_service_account":
        source = members.get("source_credentials")
        check_members(source if isinstance(source, dict) else {}, IMPERSONATORS)
    try:
        read(members)
    except ValueError:
        raise Unusable("Google's own library can't read the JSON in the secret") from None


def check_members(members: dict[str, Any], types: tuple[str, ...]) -> None:
    """Refuse JSON of another type than these, or with missing members.

    Raises:
        Unusable: it is, or its private key can't be read.
    """
    kind = members.get("type")
    if kind not in types:
        raise Unusable(f"the secret is not a usable JSON of Google's: its type must be one of {', '.join(types)}")
    if missing := [name for name in MEMBERS[kind] if not isinstance(members.get(name), str) or not members[name]]:
        raise Unusable(f"the secret is a JSON of the type {kind} without {' and '.join(missing)}")
    if kind == "service_account":
        try:
            serialization.load_pem_private_key(members["private_key"].encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise Unusable("the secret's private key can't be read") from None


def check_source(source: object) -> None:
    """Refuse an unsupported source of an external account's proof of identity.

    Raises:
        Unusable: the source is missing, an executable or a certificate.
    """
    if not isinstance(source, dict):
        raise Unusable("the secret is a JSON of the type external_account without credential_source")
    if "executable" in source:
        raise Unusable("the secret's credential_source is an executable: the gateway runs none for a provider key")
    if "certificate" in source:
        raise Unusable("the secret's credential_source is a certificate: it must be a file, a URL or AWS")


def check_takers(members: dict[str, Any]) -> None:
    """Refuse an external account whose proof would go to another server than Google's. Otherwise each person who may
    add a provider key could have any file of the machine sent to their own server.

    Raises:
        Unusable: an address isn't Google's.
    """
    for name in ("token_url", "token_info_url", "service_account_impersonation_url"):
        if url := members.get(name):
            try:
                parts = urlsplit(url)
                host = parts.hostname or ""
            except (ValueError, TypeError, AttributeError):
                raise Unusable(f"the secret's {name} can't be read") from None
            if not (parts.scheme == "https" and TAKERS.fullmatch(host)) and host not in LOOPBACK:
                raise Unusable(f"the secret's {name} must be an address of Google's (https://sts.googleapis.com/…)")


def address(key: KnownProviderKey) -> str:
    """The address of Anthropic's models for the project."""
    base = key.base_url or ADDRESSES.get(key.region) or f"https://{key.region}-aiplatform.googleapis.com"
    return f"{base}/v1/projects/{key.project}/locations/{key.region}/publishers/anthropic/models"


async def fetch(secret: str) -> Token[str]:
    """Get a token for the identity in a secret.

    Raises:
        TokenRefused, UpstreamError: as `tokens.Fetch`.
    """
    # The library blocks its thread, and takes long to import.
    return await asyncio.to_thread(fetch_blocking, secret)


def fetch_blocking(secret: str) -> Token[str]:
    """As `fetch`, but blocking."""
    from google.auth.credentials import with_scopes_if_required
    from google.auth.exceptions import GoogleAuthError

    members = json.loads(secret)
    # The other credentials never need a machine's metadata server, so they may not call one.
    with http_client(metadata_hosts() if asks_metadata(members) else ()) as http:
        asking = GoogleTransport(http)
        try:
            # Users' credentials already have scopes; the others ask for them.
            credentials = with_scopes_if_required(found(members, asking), [SCOPE])  # type: ignore[no-untyped-call]
            credentials.refresh(asking)
            return Token(credentials.token, credentials.expiry.replace(tzinfo=UTC).timestamp())
        except GoogleAuthError as error:
            # Most of these errors don't say whether there was an answer.
            if asking.refused and not error.retryable:
                raise TokenRefused from None
            raise UpstreamError("no_token", sent=False) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # files and answers that can't be read
            raise UpstreamError("no_token", sent=False) from None


class GoogleTransport:
    """The transport of Google's library, through the gateway's own HTTP client.

    https://googleapis.dev/python/google-auth/latest/reference/google.auth.transport.html
    """

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        # Whether the last answer was a refusal.
        self.refused = False

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Any = None,
        timeout: float | None = None,
        **_: object,
    ) -> object:
        from google.auth.exceptions import TransportError

        self.refused = False
        patience = min(timeout or SECONDS, SECONDS)
        try:
            answer = self.http.request(method, url, content=body, headers=headers, timeout=patience)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TransportError(type(error).__name__) from None  # type: ignore[no-untyped-call]
        self.refused = 400 <= answer.status_code < 500 and answer.status_code != 429
        return SimpleNamespace(status=answer.status_code, headers=answer.headers, data=answer.content)


def found(members: dict[str, Any], asking: Any) -> Any:
    """The credentials in a secret, or those of the machine.

    https://docs.cloud.google.com/docs/authentication/application-default-credentials

    Raises:
        TokenRefused: the secret can't be read.
        GoogleAuthError: the machine has no credentials.
    """
    import google.auth

    if "identity" in members:
        return google.auth.default(request=asking)[0]
    try:
        return read(members)
    except ValueError:
        raise TokenRefused from None


def read(members: dict[str, Any]) -> Any:
    """The credentials object for Google's JSON, by type. Google's function for all types isn't used: it may run
    executables.

    Raises:
        ValueError: the JSON can't be read.
    """
    from google.auth import aws, identity_pool, impersonated_credentials
    from google.auth.exceptions import GoogleAuthError
    from google.oauth2 import credentials, service_account

    load: dict[str, Any] = {
        "service_account": service_account.Credentials.from_service_account_info,
        "external_account": (aws if members.get("subject_token_type") == AWS else identity_pool).Credentials.from_info,
        "impersonated_service_account": (impersonated_credentials.Credentials.from_impersonated_service_account_info),
        "authorized_user": credentials.Credentials.from_authorized_user_info,
    }
    try:
        return load[members["type"]](members)
    except (GoogleAuthError, ValueError, KeyError, TypeError, AttributeError):
        raise ValueError("unreadable credentials") from None


def asks_metadata(members: dict[str, Any]) -> bool:
    """Whether credentials may need the metadata server of the machine's cloud."""
    return "identity" in members or members.get("type") == "external_account"


def metadata_hosts() -> set[str]:
    """Hosts of clouds' metadata servers; they are called without a proxy."""
    named = (os.environ.get(f"GCE_METADATA_{each}", "") for each in ("HOST", "ROOT", "IP"))
    return {"metadata.google.internal", "169.254.169.254", "[fd00:ec2::254]", *filter(None, named)}
