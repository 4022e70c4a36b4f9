"""Claude in Azure AI Foundry: Anthropic's API at the address of a customer's resource, with Azure's credentials.

https://platform.claude.com/docs/en/build-with-claude/claude-in-microsoft-foundry
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
from typing import Any
from urllib.parse import SplitResult

import aiohttp
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from django.conf import settings

from keys import destinations
from keys.directory import KnownProviderKey
from keys.errors import Unusable
from keys.provider_kinds import check_object, object_of
from keys.timeouts import Timeouts
from messages_api.process import long_bodies
from messages_api.providers import cloud_errors, unsupported
from messages_api.providers.access_tokens import SECONDS, Token, TokenCache, TokenRefused, check_machine, check_taker
from messages_api.providers.anthropic import BILLED_REFUSALS, check_root
from messages_api.providers.base import Outgoing, Provider, add_request_id, counting_probe, speaks
from messages_api.server import headers
from messages_api.upstream.bounded import TokenResponse
from messages_api.upstream.client import Answer, UpstreamClient, UpstreamError, plain, tls_context
from messages_api.upstream.with_aiohttp import Connector

SCOPE = "https://cognitiveservices.azure.com/.default"
# Hosts of resources. The pattern is narrow because customers' own machines have names below azure.com, too.
RESOURCES = re.compile(r"[a-z0-9-]+\.(?:services\.ai|openai|cognitiveservices)\.azure\.(?:com|us|cn)")
# The members of a service principal's JSON: these, and a secret or a certificate.
PRINCIPAL = ("tenant_id", "client_id")
SECRET, CERTIFICATE = "client_secret", "certificate"
# The model whose tokens a check counts. Deployments have the names of their models unless a customer renames them.
SOME_MODEL = "claude-haiku-4-5"
REQUEST_IDS = (b"apim-request-id", b"x-ms-request-id")


# The facts about a provider stand in its own class, even if another provider's are similar (Bedrock): each kind changes
# on its own.
@speaks
class Azure(Provider):
    name = "azure"
    label = "Azure AI Foundry"
    needs_base_url = "Azure has an address for each resource"
    price_lists = ("azure", "anthropic")
    guesses = ("openai",)
    keeps_residency = True
    # Anthropic's page names Foundry; Microsoft's pages don't mention billed refusals.
    billed_refusals = dict.fromkeys(BILLED_REFUSALS, "")
    keeps_caches_as_asked = True

    def __init__(self, client: UpstreamClient) -> None:
        super().__init__(client)
        self.tokens = TokenCache(fetch)

    @classmethod
    def check_secret(cls, secret: str) -> None:
        if secret.startswith("{"):
            check_identity(secret)
        else:
            super().check_secret(secret)

    @classmethod
    def check_use(cls, secret: str, base_url: str) -> None:
        check_taker(secret, base_url, RESOURCES)

    @classmethod
    def check_address(cls, url: str, parts: SplitResult) -> None:
        super().check_address(url, parts)
        check_root(url)

    async def probe(self, key: KnownProviderKey, timeouts: Timeouts) -> Answer | None:
        """Count tokens, because Foundry has no list of models (its page, November 2026)."""
        return await self.send(counting_probe(key, SOME_MODEL, timeouts))

    async def send(self, call: Outgoing) -> Answer:
        key = call.provider_key
        credential = (b"api-key", key.secret.encode())
        if key.secret.startswith("{"):
            try:
                credential = (b"authorization", b"Bearer " + (await self.tokens.get(key.secret)).encode())
            except TokenRefused:
                return cloud_errors.no_token()
        url = key.base_url + call.path
        if call.query:
            url += "?" + call.query.decode("latin-1")
        passed = headers.upstream(call.headers, credential)
        given = headers.beta_list(passed)
        betas = unsupported.betas(self.name, given)
        if len(betas) < len(set(given)):
            passed = headers.with_betas(passed, betas)
        body = call.body if isinstance(call.body, bytes) else await call.body.read()
        body = await long_bodies.run(made_over, body, betas)
        answer = add_request_id(
            plain(await self.client.send(call.method, url, passed, body, call.on_write, call.timeouts)),
            REQUEST_IDS,
        )
        return answer if answer.status < 400 else await cloud_errors.reshape(answer, call)


def made_over(body: bytes, betas: list[str]) -> bytes:
    """A Messages request without what Foundry refuses.

    Args:
        betas: those of the header.
    """
    return unsupported.without(Azure.name, body, betas)


def check_identity(secret: str) -> None:
    """Refuse a JSON secret that is neither a service principal nor the machine's identity.

    Raises:
        Unusable: it is neither.
    """
    members = object_of(secret)
    if "identity" in members:
        check_machine(secret, ("client_id",))
    else:
        proof = CERTIFICATE if CERTIFICATE in members else SECRET
        check_object(secret, (*PRINCIPAL, proof), ("authority",))
        if proof == CERTIFICATE:
            check_certificate(members[CERTIFICATE].encode())


def check_certificate(pem: bytes) -> None:
    """Refuse a certificate without its private key.

    https://learn.microsoft.com/python/api/azure-identity/azure.identity.certificatecredential

    Raises:
        Unusable: the PEM is invalid, or its key doesn't fit.
    """
    try:
        key = load_pem_private_key(pem, password=None)
        certificate = x509.load_pem_x509_certificate(pem)
        belong = certificate.public_key() == key.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise Unusable("the secret's certificate must be a PEM with its private key, without a password") from None
    if not isinstance(key, RSAPrivateKey):
        raise Unusable("the secret's certificate has no RSA key: Microsoft Entra takes no other")
    if not belong:
        raise Unusable("the secret's private key doesn't belong to its first certificate")


async def fetch(secret: str) -> Token[str]:
    """Get a token from Microsoft Entra for a service principal or for the machine.

    Raises:
        TokenRefused, UpstreamError: as `tokens.Fetch`.
    """
    # The first import takes hundreds of milliseconds.
    await asyncio.to_thread(importlib.import_module, "azure.identity.aio")
    from azure.core.exceptions import AzureError, ClientAuthenticationError
    from azure.core.pipeline.transport import AioHttpTransport
    from azure.identity import CredentialUnavailableError

    members, configuration = json.loads(secret), settings.CONFIGURATION
    session = aiohttp.ClientSession(
        connector=Connector(
            None if is_managed(members) or configuration.outbound_proxy else destinations.current(),
            ssl=tls_context(configuration.ca_bundle),
        ),
        # The endpoint of a managed identity is on the machine: no proxy leads there.
        proxy=None if is_managed(members) else configuration.outbound_proxy or None,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        response_class=TokenResponse,
    )
    transport = AioHttpTransport(session=session, connection_timeout=SECONDS, read_timeout=SECONDS)
    try:
        async with (
            asyncio.timeout(SECONDS),
            session,
            # Reading a certificate takes time, too.
            await asyncio.to_thread(credential, members, transport) as given,
        ):
            token = await given.get_token(SCOPE)
    except CredentialUnavailableError:  # the machine has no identity, or its endpoint doesn't answer
        raise UpstreamError("no_token", sent=False) from None
    except ClientAuthenticationError as error:
        if error.status_code == 429 or (error.status_code or 0) >= 500:
            raise UpstreamError("no_token", sent=False) from None
        raise TokenRefused from None
    except ValueError:  # an unknown or invalid tenant
        raise TokenRefused from None
    except (AzureError, TimeoutError, OSError):
        raise UpstreamError("no_token", sent=False) from None
    return Token(token.token, token.expires_on)


def is_managed(members: dict[str, str]) -> bool:
    """Whether the machine's identity is a managed one, whose tokens come from the machine's own endpoint. A federated
    token on the machine takes precedence.

    https://learn.microsoft.com/azure/aks/workload-identity-overview
    """
    return "identity" in members and not os.environ.get("AZURE_FEDERATED_TOKEN_FILE")


def credential(members: dict[str, str], transport: Any) -> Any:
    """Azure's credential object for a secret, which gets tokens.

    Raises:
        ValueError: the library rejects the secret.
    """
    from azure.identity.aio import (
        CertificateCredential,
        ClientSecretCredential,
        ManagedIdentityCredential,
        WorkloadIdentityCredential,
    )

    if is_managed(members):
        return ManagedIdentityCredential(client_id=members.get("client_id"), transport=transport)
    # With discovery, the library would look up a company's own authority at Microsoft.
    common = {"transport": transport, "retry_total": 1, "disable_instance_discovery": True}
    if "identity" in members:
        return WorkloadIdentityCredential(client_id=members.get("client_id"), **common)
    given = dict(members)
    if CERTIFICATE in given:
        return CertificateCredential(certificate_data=given.pop(CERTIFICATE).encode(), **given, **common)
    return ClientSecretCredential(**given, **common)
