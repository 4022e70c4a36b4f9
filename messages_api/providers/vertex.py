"""Claude on Google Cloud's Vertex AI: Anthropic's answers as they come, behind Google's addresses and credentials.

https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai
"""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC
from types import SimpleNamespace
from typing import Any
from urllib.parse import SplitResult, quote

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from django.conf import settings

from keys.directory import KnownProviderKey
from keys.errors import Unusable
from keys.provider_kinds import object_of
from messages_api import schema
from messages_api.providers import refusals
from messages_api.providers.anthropic import check_root
from messages_api.providers.base import COUNT_TOKENS, JSON, Outgoing, Provider, named, passed, speaks
from messages_api.providers.tokens import SECONDS, Token, TokenRefused, Tokens
from messages_api.upstream import Answer, UpstreamClient, UpstreamError, plain, tls_context

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
VERSION = b'"anthropic_version":"vertex-2023-10-16"'
# Places that are several regions have addresses of another kind.
ADDRESSES = {
    "global": "https://aiplatform.googleapis.com",
    "us": "https://aiplatform.us.rep.googleapis.com",
    "eu": "https://aiplatform.eu.rep.googleapis.com",
}
NO_REGION = ("", "global")
# Google puts a date after an @, answers with Anthropic's hyphen.
DATE = re.compile(r"-(?=\d{8}$)")
REQUEST_IDS = (b"x-request-id", b"x-goog-request-id")


@speaks
class Vertex(Provider):
    """Relays answers; a request's model and version are said in other places."""

    name = "vertex"
    label = "Google Vertex AI"
    takes_region = True
    takes_project = True
    price_lists = ("google",)
    guesses = ("anthropic",)

    def __init__(self, client: UpstreamClient) -> None:
        super().__init__(client)
        self.tokens = Tokens(fetch)

    @classmethod
    def check_secret(cls, secret: str) -> None:
        check_service_account(secret)

    @classmethod
    def check_address(cls, url: str, parts: SplitResult) -> None:
        super().check_address(url, parts)
        check_root(url)

    @classmethod
    def project_of(cls, secret: str) -> str:
        return str(object_of(secret).get("project_id") or "")

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
        name = DATE.sub("@", called.lower())
        return name, name, called != sold

    async def send(self, call: Outgoing) -> Answer:
        key = call.provider_key
        try:
            token = await self.tokens.get(key.secret)
        except TokenRefused:
            return refusals.no_token()
        body = call.body if isinstance(call.body, bytes) else await call.body.read()
        members = schema.members_of.decode(body)
        model = DATE.sub("@", call.model)
        if call.path == COUNT_TOKENS:
            # The one request whose body names the model.
            body = schema.with_model(schema.edited(body, members, without=("anthropic_version",), first=VERSION), model)
            model, method = "count-tokens", "rawPredict"
        else:
            body = schema.edited(body, members, without=("model", "anthropic_version"), first=VERSION)
            method = "streamRawPredict" if bytes(members.get("stream", b"")) == b"true" else "rawPredict"
        sent = [
            *((name, value) for name, value in passed(call.headers) if name != b"anthropic-version"),
            JSON,
            (b"authorization", b"Bearer " + token.encode()),
        ]
        url = f"{address(key)}/{quote(model, safe='@')}:{method}"
        answer = plain(await self.client.send("POST", url, sent, body, call.on_write, call.timeouts))
        answer = named(answer, REQUEST_IDS)
        return answer if answer.status < 400 else await refusals.reshaped(answer, call)


def check_service_account(secret: str) -> None:
    """Refuse what is no JSON key of a Google service account.

    Raises:
        Unusable: it is none, or its private key can't be read.
    """
    members = object_of(secret)
    if members.get("type") != "service_account":
        raise Unusable("the secret is no JSON key of a Google service account: its type is another one")
    named = ("client_email", "private_key", "token_uri")
    if missing := [name for name in named if not isinstance(members.get(name), str) or not members[name]]:
        raise Unusable(f"the secret is a service account's key without {' and '.join(missing)}")
    try:
        serialization.load_pem_private_key(members["private_key"].encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unusable("the private key in the secret can't be read") from None


def address(key: KnownProviderKey) -> str:
    """Where the project finds Anthropic's models."""
    base = key.base_url or ADDRESSES.get(key.region) or f"https://{key.region}-aiplatform.googleapis.com"
    return f"{base}/v1/projects/{key.project}/locations/{key.region}/publishers/anthropic/models"


async def fetch(secret: str) -> Token[str]:
    """A token for a service account.

    Raises:
        TokenRefused: as `tokens.Fetch`.
        UpstreamError: likewise.
    """
    # The library waits for its answers, and takes long to import.
    return await asyncio.to_thread(fetched, secret)


def fetched(secret: str) -> Token[str]:
    """A token for a service account, once it is there; raises as `fetch`."""
    from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError
    from google.oauth2.service_account import Credentials

    configuration = settings.CONFIGURATION
    http = httpx.Client(
        timeout=SECONDS,
        verify=tls_context(configuration.ca_bundle),
        proxy=configuration.outbound_proxy or None,
        trust_env=False,
    )

    def ask(url: str, method: str = "GET", body: bytes | None = None, headers: Any = None, **_: object) -> object:
        try:
            answer = http.request(method, url, content=body, headers=headers)
        except httpx.HTTPError as error:
            raise TransportError(type(error).__name__) from None  # type: ignore[no-untyped-call]
        return SimpleNamespace(status=answer.status_code, headers=answer.headers, data=answer.content)

    try:
        with http:
            credentials = Credentials.from_service_account_info(  # type: ignore[no-untyped-call]
                json.loads(secret), scopes=[SCOPE]
            )
            credentials.refresh(ask)
    except RefreshError as error:
        if error.retryable:
            raise UpstreamError("no_token", sent=False) from None
        raise TokenRefused from None
    except TransportError:
        raise UpstreamError("no_token", sent=False) from None
    except (GoogleAuthError, ValueError):
        raise TokenRefused from None
    return Token(credentials.token, credentials.expiry.replace(tzinfo=UTC).timestamp())
