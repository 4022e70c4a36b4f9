"""Anthropic, or whoever speaks its Messages API: the bytes go through as they came."""

from __future__ import annotations

from messages_api import headers
from messages_api.providers.base import Outgoing
from messages_api.upstream import Answer, UpstreamClient, plain

BASE_URL = "https://api.anthropic.com"
# OAuth tokens are taken as Bearer only; API keys in either header (SDK 2 sends them as Bearer, SDK 1 as x-api-key).
OAUTH_PREFIX = "sk-ant-oat"


class Anthropic:
    """Relays over HTTP."""

    def __init__(self, client: UpstreamClient) -> None:
        self.client = client

    async def send(self, call: Outgoing) -> Answer:
        url = (call.provider_key.base_url or BASE_URL) + call.path
        if call.query:
            url += "?" + call.query.decode("latin-1")
        passed = headers.upstream(call.headers, credential(call.provider_key.secret))
        return plain(await self.client.send(call.method, url, passed, call.body, call.on_write, call.timeouts))


def credential(secret: str) -> tuple[bytes, bytes]:
    """The header that carries a provider key's secret."""
    if secret.startswith(OAUTH_PREFIX):
        return b"authorization", b"Bearer " + secret.encode()
    return b"x-api-key", secret.encode()
