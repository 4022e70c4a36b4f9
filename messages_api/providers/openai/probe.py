"""The check of a secret at an OpenAI-compatible address: a request for the list of models, which costs nothing."""

from __future__ import annotations

from urllib.parse import urlsplit

from keys.directory import KnownProviderKey
from keys.timeouts import Timeouts
from messages_api.json_text.lenient import mapping
from messages_api.json_text.outline import decode_all
from messages_api.providers.base import Inconclusive
from messages_api.providers.openai import dialects
from messages_api.upstream.client import Answer, Headers, UpstreamClient, plain

# OpenRouter's list of models is public; this path describes the key itself (November 2026).
# https://openrouter.ai/docs/api/api-reference/api-keys/get-current-api-key
OPENROUTER_KEY = "/key"
# Azure's list of models, for addresses with an `api-version`. It lacks deployments, but needs a valid key.
# https://learn.microsoft.com/rest/api/azureopenai/models/list
AZURE_MODELS = "/openai/models"
# A scope that OpenAI's restricted keys may lack while they can call models: "Missing scopes: api.model.read"
# (November 2026).
# https://platform.openai.com/docs/api-reference/authentication
LISTING_RIGHT = "api.model.read"
ASKING: Headers = [(b"accept", b"application/json"), (b"accept-encoding", b"identity")]


def address(base_url: str) -> str:
    """The address that the check calls."""
    parts = urlsplit(base_url or dialects.BASE_URL)
    if dialects.API_VERSION in parts.query:
        return f"{parts.scheme}://{parts.netloc}{AZURE_MODELS}?{parts.query}"
    path = OPENROUTER_KEY if dialects.dialect(base_url) is dialects.OPENROUTER else dialects.MODELS
    return dialects.root(base_url) + path


async def ask(client: UpstreamClient, key: KnownProviderKey, timeouts: Timeouts) -> Answer:
    """Ask with the secret. If that succeeds, ask once more without it, because some lists are public.

    Raises:
        UpstreamError: there was no answer.
        Inconclusive: the list is public.
    """
    url = address(key.base_url)
    given = [dialects.credential(key.base_url, key.secret), *ASKING]
    answer = plain(await client.send("GET", url, given, b"", None, timeouts))
    if answer.status != 200:
        return answer
    public = await client.send("GET", url, ASKING, b"", None, timeouts)
    public.close()
    if public.status == 200:
        answer.close()
        raise Inconclusive("its list of models is public, so that the secret could not be checked")
    return answer


def is_answered(body: bytes) -> bool:
    """Whether a body is a list of models, or OpenRouter's description of a key."""
    answer = decode_all(body)
    return isinstance(answer, list) or isinstance(mapping(answer).get("data"), list | dict)
