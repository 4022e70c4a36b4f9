"""Anthropic, or whoever speaks its Messages API: the bytes go through as they came."""

from __future__ import annotations

from messages_api import headers
from messages_api.metering import decode, mapping
from messages_api.providers.base import Outgoing, Provider
from messages_api.upstream import Answer, UpstreamClient, plain

BASE_URL = "https://api.anthropic.com"
# OAuth tokens are taken as Bearer only; API keys in either header (SDK 2 sends them as Bearer, SDK 1 as x-api-key).
OAUTH_PREFIX = "sk-ant-oat"


# How Anthropic says that an account is spent, by HTTP 400 or 429: what its message begins with (a caller's own words
# may come later in one), or the end of its error code.
SPENT = ("You have reached your specified API usage limits", "Your credit balance is too low")
SPENT_CODE = "spend_limit_reached"


class Anthropic(Provider):
    """Relays over HTTP."""

    def __init__(self, client: UpstreamClient) -> None:
        self.client = client

    async def send(self, call: Outgoing) -> Answer:
        url = (call.provider_key.base_url or BASE_URL) + call.path
        if call.query:
            url += "?" + call.query.decode("latin-1")
        passed = headers.upstream(call.headers, credential(call.provider_key.secret))
        return plain(await self.client.send(call.method, url, passed, call.body, call.on_write, call.timeouts))

    def is_about_us(self, status: int, body: bytes) -> bool:
        return super().is_about_us(status, body) or (status in (400, 429) and spent(body))


def spent(body: bytes) -> bool:
    """Whether an error says that our account is spent."""
    error = mapping(mapping(decode(body)).get("error"))
    code = mapping(error.get("details")).get("error_code")
    return str(error.get("message")).startswith(SPENT) or str(code).endswith(SPENT_CODE)


def credential(secret: str) -> tuple[bytes, bytes]:
    """The header that carries a provider key's secret."""
    if secret.startswith(OAUTH_PREFIX):
        return b"authorization", b"Bearer " + secret.encode()
    return b"x-api-key", secret.encode()
