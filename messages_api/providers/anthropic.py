"""Anthropic, or a vendor that speaks its Messages API: the bytes pass unchanged."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import SplitResult, urlsplit

import msgspec

from keys.directory import KnownProviderKey
from keys.errors import Unusable
from keys.timeouts import Timeouts
from messages_api.json_text.lenient import mapping
from messages_api.json_text.outline import decode, decode_all
from messages_api.providers.base import VERSION, Get, Outgoing, Provider, counting_probe, speaks
from messages_api.server import headers
from messages_api.upstream.client import Answer, Headers, plain

BASE_URL = "https://api.anthropic.com"
# Categories of refusals that are billed even before any output, since September 24, 2026, on every platform.
# https://platform.claude.com/docs/en/release-notes/overview#september-24-2026
# https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback#how-refusals-are-billed
BILLED_REFUSALS = ("bio", "frontier_llm", "reasoning_extraction")
MODELS = "/v1/models"
PAGE = 1000
MOST_PAGES = 20
# Statuses of vendors that have no list of models.
NO_LIST = (404, 405, 501)
# The model whose tokens a check counts.
SOME_MODEL = "claude-haiku-4-5"
# Anthropic takes OAuth tokens as Bearer only; API keys in either header (SDK 2 sends them as Bearer, SDK 1 as
# x-api-key).
OAUTH_PREFIX = "sk-ant-oat"
OAUTH_BETA = b"oauth-2025-04-20"
BEARER_ONLY = ("ollama.com", ".aliyuncs.com")


# Messages for a spent account: Anthropic's, by HTTP 400 or 429, and MiniMax's, by HTTP 429 or 500
# (MiniMax-AI/MiniMax-M2#62, December 2025; NousResearch/hermes-agent#16680, April 2026); and below, the end of
# Anthropic's error code. Only a whole message counts: a longer one may be about what a client sent (`…: Extra inputs
# are not permitted`).
SPENT = re.compile(
    r"Your credit balance is too low( to access the (Anthropic|Claude) API)?\.?"
    r"( Please go to Plans & Billing to upgrade or purchase credits\.?)?"
    r"|You have reached your specified (\w+ )?API usage limits\.?"
    r"( You will regain access on [0-9-]{10}( at [0-9:]{5,8}( UTC)?)?\.?)?"
    r"|insufficient balance \(1008\)"
)
SPENT_CODE = "spend_limit_reached"
SPENT_STATUSES = (400, 429, 500)
# Error codes for a spent account, by HTTP 429, of vendors that speak Anthropic's API: z.ai (zai-org/feedback#789,
# September 2026) and Kimi (https://platform.moonshot.ai/docs/api/errors).
VENDORS_SPENT = frozenset(("1113", "exceeded_current_quota_error"))


def check_root(url: str) -> None:
    """Refuse a base URL that includes a path of the API, which the gateway adds itself.

    Raises:
        Unusable: it does.
    """
    if url.rstrip("/").endswith(("/v1", "/v1/messages")):
        raise Unusable("the base URL ends in a path of the API: leave /v1 out, the gateway adds it")


@speaks
class Anthropic(Provider):
    name = "anthropic"
    label = "Anthropic"
    own_hosts = re.compile(r"api\.anthropic\.com")
    has_batches = True
    has_files = True
    lists_models = True
    price_lists = ("anthropic",)
    keeps_residency = True
    billed_refusals = dict.fromkeys(BILLED_REFUSALS, "")
    keeps_caches_as_asked = True

    @classmethod
    def check_secret(cls, secret: str) -> None:
        super().check_secret(secret[7:].strip() if secret[:7].lower() == "bearer " else secret)

    @classmethod
    def check_address(cls, url: str, parts: SplitResult) -> None:
        super().check_address(url, parts)
        check_root(url)

    async def send(self, call: Outgoing) -> Answer:
        url = (call.provider_key.base_url or BASE_URL) + call.path
        if call.query:
            url += "?" + call.query.decode("latin-1")
        key = call.provider_key
        passed = headers.upstream(call.headers, credential(key.secret, key.base_url), own=key.id is None)
        return plain(await self.client.send(call.method, url, passed, call.body, call.on_write, call.timeouts))

    async def probe(self, key: KnownProviderKey, timeouts: Timeouts) -> Answer | None:
        """List one model, or count tokens where that isn't possible. Neither costs anything.

        https://platform.claude.com/docs/en/api/models/list
        https://platform.claude.com/docs/en/build-with-claude/token-counting
        """
        if key.secret.startswith(OAUTH_PREFIX):
            # OAuth tokens may call models, but not list them.
            return await self.count(key, timeouts)
        url = f"{key.base_url or BASE_URL}{MODELS}?limit=1"
        asking = [*own_headers(key.secret), (b"accept-encoding", b"identity")]
        answer = plain(await self.client.send("GET", url, asking, b"", None, timeouts))
        if answer.status not in NO_LIST:
            return answer
        answer.close()
        return await self.count(key, timeouts)

    async def count(self, key: KnownProviderKey, timeouts: Timeouts) -> Answer:
        counting = counting_probe(key, SOME_MODEL, timeouts)
        if key.secret.startswith(OAUTH_PREFIX):
            counting = msgspec.structs.replace(counting, headers=[*counting.headers, (headers.BETA, OAUTH_BETA)])
        return await self.send(counting)

    def answers_probe(self, body: bytes) -> bool:
        return super().answers_probe(body) or isinstance(mapping(decode_all(body)).get("data"), list)

    def is_about_us(self, status: int, body: bytes) -> bool:
        return super().is_about_us(status, body) or (status in SPENT_STATUSES and spent(body))

    @classmethod
    def list_models(cls, base_url: str, secret: str, get: Get) -> Iterator[Any]:
        query: dict[str, str | int] = {"limit": PAGE}
        for _ in range(MOST_PAGES):
            page = mapping(get((base_url or BASE_URL) + MODELS, own_headers(secret, base_url), query))
            if not isinstance(page.get("data"), list):
                raise ValueError("not a page")
            yield from page["data"]
            last = page.get("last_id")
            if page.get("has_more") is not True or not isinstance(last, str) or query.get("after_id") == last:
                return
            query["after_id"] = last


def spent(body: bytes) -> bool:
    """Whether an error says that the gateway's account is spent."""
    error = mapping(mapping(decode(body)).get("error"))
    code = mapping(error.get("details")).get("error_code")
    if not VENDORS_SPENT.isdisjoint((str(error.get("code")), str(error.get("type")))):
        return True
    return SPENT.fullmatch(str(error.get("message"))) is not None or str(code).endswith(SPENT_CODE)


def credential(secret: str, base_url: str = "") -> tuple[bytes, bytes]:
    """The header that carries a provider key's secret.

    A secret that begins with `Bearer` is sent as Bearer, for vLLM (vllm-project/vllm#51572, June to August 2026). So is
    every secret for Ollama's cloud and Alibaba's Model Studio, which take nothing else (ollama/ollama#16922, June to
    August 2026; alibabacloud.com/help/en/model-studio/anthropic-api-messages).
    """
    bearer = secret[:7].lower() == "bearer "
    host = urlsplit(base_url).hostname or ""
    if bearer or secret.startswith(OAUTH_PREFIX) or host.endswith(BEARER_ONLY):
        return b"authorization", b"Bearer " + secret[7 * bearer :].strip().encode()
    return b"x-api-key", secret.encode()


def own_headers(secret: str, base_url: str = "") -> Headers:
    """The headers of the gateway's own requests, outside of clients' calls."""
    return [credential(secret, base_url), (b"anthropic-version", VERSION)]
