"""Claude in Azure AI Foundry: Anthropic's API at an address of the customer's, with Azure's credentials.

https://platform.claude.com/docs/en/build-with-claude/claude-in-microsoft-foundry
"""

from __future__ import annotations

import asyncio
import importlib
import json
from urllib.parse import SplitResult

import aiohttp
from django.conf import settings

from keys.provider_kinds import check_object
from messages_api import headers
from messages_api.providers import refusals
from messages_api.providers.anthropic import check_root
from messages_api.providers.base import Outgoing, Provider, named, speaks
from messages_api.providers.tokens import SECONDS, Token, TokenRefused, Tokens
from messages_api.upstream import Answer, UpstreamClient, UpstreamError, plain, tls_context

SCOPE = "https://cognitiveservices.azure.com/.default"
# A service principal's JSON.
PRINCIPAL = ("tenant_id", "client_id", "client_secret")
REQUEST_IDS = (b"apim-request-id", b"x-ms-request-id")


@speaks
class Azure(Provider):
    """Relays over HTTP."""

    name = "azure"
    label = "Azure AI Foundry"
    needs_base_url = "Azure has an address for each resource"
    price_lists = ("azure", "anthropic")
    guesses = ("openai",)
    keeps_residency = True

    def __init__(self, client: UpstreamClient) -> None:
        super().__init__(client)
        self.tokens = Tokens(fetch)

    @classmethod
    def check_secret(cls, secret: str) -> None:
        if secret.startswith("{"):
            check_object(secret, PRINCIPAL, ("authority",))
        else:
            super().check_secret(secret)

    @classmethod
    def check_address(cls, url: str, parts: SplitResult) -> None:
        super().check_address(url, parts)
        check_root(url)

    async def send(self, call: Outgoing) -> Answer:
        key = call.provider_key
        credential = (b"api-key", key.secret.encode())
        if key.secret.startswith("{"):
            try:
                credential = (b"authorization", b"Bearer " + (await self.tokens.get(key.secret)).encode())
            except TokenRefused:
                return refusals.no_token()
        url = key.base_url + call.path
        if call.query:
            url += "?" + call.query.decode("latin-1")
        passed = headers.upstream(call.headers, credential)
        answer = named(
            plain(await self.client.send(call.method, url, passed, call.body, call.on_write, call.timeouts)),
            REQUEST_IDS,
        )
        return answer if answer.status < 400 else await refusals.reshaped(answer, call)


async def fetch(secret: str) -> Token[str]:
    """A token of Microsoft Entra's for a service principal.

    Raises:
        TokenRefused: as `tokens.Fetch`.
        UpstreamError: likewise.
    """
    # Hundreds of milliseconds, the first time.
    await asyncio.to_thread(importlib.import_module, "azure.identity.aio")
    from azure.core.exceptions import AzureError, ClientAuthenticationError
    from azure.core.pipeline.transport import AioHttpTransport
    from azure.identity.aio import ClientSecretCredential

    configuration = settings.CONFIGURATION
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls_context(configuration.ca_bundle)),
        proxy=configuration.outbound_proxy or None,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )
    transport = AioHttpTransport(session=session, connection_timeout=SECONDS, read_timeout=SECONDS)
    # Without discovery, an authority of a company's own isn't looked up at Microsoft's.
    principal = json.loads(secret) | {"disable_instance_discovery": True}
    try:
        async with (
            asyncio.timeout(SECONDS),
            ClientSecretCredential(**principal, transport=transport, retry_total=1) as credential,
        ):
            token = await credential.get_token(SCOPE)
    except (ClientAuthenticationError, ValueError):  # no such tenant, or none that could be
        raise TokenRefused from None
    except (AzureError, TimeoutError):
        raise UpstreamError("no_token", sent=False) from None
    return Token(token.token, token.expires_on)
