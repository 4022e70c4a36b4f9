"""Claude on Google Cloud's Vertex AI: Anthropic's answers as they come, behind Google's addresses and credentials.

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
from messages_api import headers, long_bodies, provider_paths, splice
from messages_api.providers import refusals, unsupported
from messages_api.providers.anthropic import BILLED_REFUSALS, check_root
from messages_api.providers.base import COUNT_TOKENS, JSON, Outgoing, Provider, counting_probe, named, speaks
from messages_api.providers.tokens import (
    LOOPBACK,
    SECONDS,
    Token,
    TokenRefused,
    Tokens,
    check_machine,
    check_taker,
    http_client,
)
from messages_api.upstream import Answer, UpstreamClient, UpstreamError, plain

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
VERSION = b'"anthropic_version":"vertex-2023-10-16"'
MOVED = ("anthropic_version", *unsupported.IN_BODY)
# Places that are several regions have addresses of another kind.
ADDRESSES = {
    "global": "https://aiplatform.googleapis.com",
    "us": "https://aiplatform.us.rep.googleapis.com",
    "eu": "https://aiplatform.eu.rep.googleapis.com",
}
NO_REGION = ("", "global")
# Google puts a date after an @, answers with Anthropic's hyphen.
DATE = re.compile(r"-(?=\d{8}$)")
# One to count the tokens of.
SOME_MODEL = "claude-haiku-4-5@20251001"
REQUEST_IDS = (b"x-request-id", b"x-goog-request-id")
# The JSON that Google hands out, by its type, and what it can't do without.
# https://google.aip.dev/auth/4110 and those that follow
MEMBERS = {
    "service_account": ("client_email", "private_key", "token_uri"),
    "external_account": ("audience", "subject_token_type", "token_url"),
    "impersonated_service_account": ("service_account_impersonation_url",),
    "authorized_user": ("client_id", "client_secret", "refresh_token"),
}
# Who may impersonate, of those.
IMPERSONATORS = ("service_account", "authorized_user")
# Where Google takes proofs: not every host of googleapis.com is Google's own business (a bucket has a name there).
# https://docs.cloud.google.com/docs/authentication/external/externally-sourced-credentials
TAKERS = re.compile(r"(?:[a-z0-9-]+[.-])?(?:sts|iamcredentials)(?:\.[a-z0-9-]+\.rep|-[a-z0-9-]+\.p)?\.googleapis\.com")
# Where Google's models are called, private endpoints too.
MODELS = re.compile(r"(?:[a-z0-9-]+-)?aiplatform(?:\.[a-z0-9-]+\.rep|-[a-z0-9-]+\.p)?\.googleapis\.com")
# The external accounts whose proof is signed with AWS's credentials. https://google.aip.dev/auth/4117
AWS = "urn:ietf:params:aws:token-type:aws4_request"


@speaks
class Vertex(Provider):
    """Relays answers; a request's model and version are said in other places."""

    name = "vertex"
    label = "Google Vertex AI"
    own_hosts = MODELS
    takes_region = True
    takes_project = True
    price_lists = ("google",)
    guesses = ("anthropic",)
    # Google's pages say nothing of them; Anthropic's names Google Cloud.
    billed_refusals = dict.fromkeys(BILLED_REFUSALS, "")
    keeps_caches_as_asked = True

    def __init__(self, client: UpstreamClient) -> None:
        super().__init__(client)
        self.tokens = Tokens(fetch)

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
        """Answers leave out the region."""
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
        """It is free, and takes the same right as calls do.

        https://docs.cloud.google.com/gemini-enterprise-agent-platform/models/partner-models/claude/count-tokens
        """
        return await self.send(counting_probe(key, SOME_MODEL, timeouts))

    async def send(self, call: Outgoing) -> Answer:
        key = call.provider_key
        try:
            token = await self.tokens.get(key.secret)
        except TokenRefused:
            return refusals.no_token()
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
        url = f"{address(key)}/{provider_paths.model(model, safe='@')}:{method}"
        answer = plain(await self.client.send("POST", url, sent, body, call.on_write, call.timeouts))
        answer = named(answer, REQUEST_IDS)
        return answer if answer.status < 400 else await refusals.reshaped(answer, call)


def made_over(body: bytes, betas: list[str], *, counts: str) -> tuple[bytes, list[str], bool]:
    """A Messages request as Vertex takes it, the betas that go with it, and whether it asks for a stream.

    Args:
        betas: those of its header.
        counts: the model, where its tokens are to be counted.
    """
    members = splice.members_of.decode(body)
    # Counting knows none, and needs none: https://github.com/BerriAI/litellm/pull/39597 (September 2026)
    betas = [] if counts else unsupported.betas(Vertex.name, unsupported.named_betas(betas, members))
    if (taken := unsupported.without(Vertex.name, body, betas)) is not body:
        body, members = taken, splice.members_of.decode(taken)
    if counts:
        # The one request whose body names the model.
        body = splice.edited(body, members, without=MOVED, first=VERSION)
        return splice.apply(body, splice.model(body, counts)), betas, False
    streams = bytes(members.get("stream", b"")) == b"true"
    return splice.edited(body, members, without=("model", *MOVED), first=VERSION), betas, streams


def check_credentials(members: dict[str, Any]) -> None:
    """Refuse what is no JSON of Google's that tokens are got with, or none that is safe to use.

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
        raise Unusable("the JSON in the secret can't be read by Google's own library") from None


def check_members(members: dict[str, Any], types: tuple[str, ...]) -> None:
    """Refuse a JSON of another type than these, or one that is incomplete.

    Raises:
        Unusable: it is, or its private key can't be read.
    """
    kind = members.get("type")
    if kind not in types:
        raise Unusable(f"the secret is no JSON of Google's that can be used: its type is none of {', '.join(types)}")
    if missing := [name for name in MEMBERS[kind] if not isinstance(members.get(name), str) or not members[name]]:
        raise Unusable(f"the secret is a JSON of the type {kind} without {' and '.join(missing)}")
    if kind == "service_account":
        try:
            serialization.load_pem_private_key(members["private_key"].encode(), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise Unusable("the private key in the secret can't be read") from None


def check_source(source: object) -> None:
    """Refuse a place that an external account's proof doesn't come from.

    Raises:
        Unusable: it doesn't.
    """
    if not isinstance(source, dict):
        raise Unusable("the secret is a JSON of the type external_account without credential_source")
    if "executable" in source:
        raise Unusable("the secret's credential_source is an executable: nothing is run for a provider key")
    if "certificate" in source:
        raise Unusable("the secret's credential_source is a certificate: it has to be a file, a URL or AWS")


def check_takers(members: dict[str, Any]) -> None:
    """Refuse an external account whose proof would go to anybody but Google: or else whoever may add a provider key
    could have any file of the machine sent to a server of their own.

    Raises:
        Unusable: it would.
    """
    for name in ("token_url", "token_info_url", "service_account_impersonation_url"):
        if url := members.get(name):
            try:
                parts = urlsplit(url)
                host = parts.hostname or ""
            except (ValueError, TypeError, AttributeError):
                raise Unusable(f"the secret's {name} can't be read") from None
            if not (parts.scheme == "https" and TAKERS.fullmatch(host)) and host not in LOOPBACK:
                raise Unusable(f"the secret's {name} is no address of Google's for it (https://sts.googleapis.com/…)")


def address(key: KnownProviderKey) -> str:
    """Where the project finds Anthropic's models."""
    base = key.base_url or ADDRESSES.get(key.region) or f"https://{key.region}-aiplatform.googleapis.com"
    return f"{base}/v1/projects/{key.project}/locations/{key.region}/publishers/anthropic/models"


async def fetch(secret: str) -> Token[str]:
    """A token for whomever the secret is about.

    Raises:
        TokenRefused: as `tokens.Fetch`.
        UpstreamError: likewise.
    """
    # The library waits for its answers, and takes long to import.
    return await asyncio.to_thread(fetched, secret)


def fetched(secret: str) -> Token[str]:
    """A token for whomever the secret is about, once it is there; raises as `fetch`."""
    from google.auth.credentials import with_scopes_if_required
    from google.auth.exceptions import GoogleAuthError

    members = json.loads(secret)
    # Only an identity that Google or another cloud vouches for begins at a machine's metadata.
    with http_client(metadata_hosts() if asks_metadata(members) else ()) as http:
        asking = Asking(http)
        try:
            # Users have agreed to scopes, others get those that they ask for.
            credentials = with_scopes_if_required(found(members, asking), [SCOPE])  # type: ignore[no-untyped-call]
            credentials.refresh(asking)
            return Token(credentials.token, credentials.expiry.replace(tzinfo=UTC).timestamp())
        except GoogleAuthError as error:
            # Most of them don't say whether anybody has answered.
            if asking.refused and not error.retryable:
                raise TokenRefused from None
            raise UpstreamError("no_token", sent=False) from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):  # files and answers that can't be read
            raise UpstreamError("no_token", sent=False) from None


class Asking:
    """How Google's library asks: over the gateway's own client.

    https://googleapis.dev/python/google-auth/latest/reference/google.auth.transport.html
    """

    def __init__(self, http: httpx.Client) -> None:
        self.http = http
        # Whether the last answer was a no.
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
        GoogleAuthError: the machine has none.
    """
    import google.auth

    if "identity" in members:
        return google.auth.default(request=asking)[0]
    try:
        return read(members)
    except ValueError:
        raise TokenRefused from None


def read(members: dict[str, Any]) -> Any:
    """Google's credentials of its JSON, each by its own class: what loads them all can run executables.

    Raises:
        ValueError: it can't be read.
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
        raise ValueError("no credentials of Google's") from None


def asks_metadata(members: dict[str, Any]) -> bool:
    """Whether credentials may begin with a proof of the machine's own cloud."""
    return "identity" in members or members.get("type") == "external_account"


def metadata_hosts() -> set[str]:
    """Where machines ask for their own identity; no proxy leads there."""
    named = (os.environ.get(f"GCE_METADATA_{each}", "") for each in ("HOST", "ROOT", "IP"))
    return {"metadata.google.internal", "169.254.169.254", "[fd00:ec2::254]", *filter(None, named)}
