"""Whether an OpenAI-compatible address takes a secret: its list of models is asked for, which costs nothing."""

from __future__ import annotations

from urllib.parse import urlsplit

from keys.directory import KnownProviderKey
from keys.timeouts import Timeouts
from messages_api.lenient import mapping
from messages_api.outline import decode_all
from messages_api.providers.base import Inconclusive
from messages_api.providers.openai import dialects
from messages_api.upstream import Answer, Headers, UpstreamClient, plain

# Anybody may see OpenRouter's list; this tells a key of itself (November 2026).
# https://openrouter.ai/docs/api/api-reference/api-keys/get-current-api-key
OPENROUTER_KEY = "/key"
# Azure's with an `api-version`: not of deployments, but it is given to those only that are known.
# https://learn.microsoft.com/rest/api/azureopenai/models/list
AZURE_MODELS = "/openai/models"
# OpenAI's restricted keys may call models without it: "Missing scopes: api.model.read" (November 2026).
# https://platform.openai.com/docs/api-reference/authentication
LISTING_RIGHT = "api.model.read"
ASKING: Headers = [(b"accept", b"application/json"), (b"accept-encoding", b"identity")]


def address(base_url: str) -> str:
    """What is asked for."""
    parts = urlsplit(base_url or dialects.BASE_URL)
    if dialects.API_VERSION in parts.query:
        return f"{parts.scheme}://{parts.netloc}{AZURE_MODELS}?{parts.query}"
    path = OPENROUTER_KEY if dialects.dialect(base_url) is dialects.OPENROUTER else dialects.MODELS
    return dialects.root(base_url) + path


async def ask(client: UpstreamClient, key: KnownProviderKey, timeouts: Timeouts) -> Answer:
    """Ask with the secret; where that is granted, once more without it, for some show their list to anybody.

    Raises:
        UpstreamError: there was no answer.
        Inconclusive: the list is for anybody.
    """
    url = address(key.base_url)
    given = [dialects.credential(key.base_url, key.secret), *ASKING]
    answer = plain(await client.send("GET", url, given, b"", None, timeouts))
    if answer.status != 200:
        return answer
    unasked = await client.send("GET", url, ASKING, b"", None, timeouts)
    unasked.close()
    if unasked.status == 200:
        answer.close()
        raise Inconclusive("it lists its models for anybody, so that the secret could not be tried")
    return answer


def is_answered(body: bytes) -> bool:
    """Whether this is a list, or what OpenRouter tells a key of itself."""
    told = decode_all(body)
    return isinstance(told, list) or isinstance(mapping(told).get("data"), list | dict)
