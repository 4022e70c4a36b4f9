"""Vendors who speak Anthropic's API: how they take a key, and how they say that its account is spent."""

from __future__ import annotations

import json

import pytest

from keys import provider_keys
from messages_api.providers import anthropic
from tests.support.fake_provider import whole
from tests.support.gateway import issue, message, post, refused, row


@pytest.mark.parametrize("secret", ["Bearer token-of-a-vendor", "bearer  token-of-a-vendor"])
def test_a_secret_that_says_bearer_goes_out_as_one(web, upstream, served, secret):
    key = provider_keys.add_provider_key(name="vllm", provider="anthropic", base_url=upstream.url, secret=secret)
    caller = issue(upstream, provider_keys=[(key, 1)])
    upstream.answer = whole(200, message())
    assert post(web, caller.key).status_code == 200
    assert upstream.last.values("authorization") == ["Bearer token-of-a-vendor"]
    assert upstream.last.values("x-api-key") == []


@pytest.mark.parametrize(
    ("base_url", "header"),
    [
        ("", (b"x-api-key", b"s")),
        ("https://api.z.ai/api/anthropic", (b"x-api-key", b"s")),
        ("https://notollama.com.example", (b"x-api-key", b"s")),
        ("https://ollama.com", (b"authorization", b"Bearer s")),
        ("https://dashscope-intl.aliyuncs.com/apps/anthropic", (b"authorization", b"Bearer s")),
    ],
)
def test_hosts_that_take_bearer_only_get_it(base_url, header):
    assert anthropic.credential("s", base_url) == header
    assert anthropic.own_headers("s", base_url)[0] == header


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (
            429,
            {
                "type": "rate_limit_error",
                "code": "1113",
                "message": "[1113][Insufficient balance. Please recharge.][20]",
            },
        ),
        (429, {"type": "exceeded_current_quota_error", "message": "You exceeded your current token quota"}),
        (500, {"type": "api_error", "message": "insufficient balance (1008)"}),
        (429, {"type": "rate_limit_error", "message": "insufficient balance (1008)"}),
    ],
    ids=["z.ai", "Kimi", "MiniMax", "MiniMax, as a rate limit"],
)
def test_a_vendors_spent_account_is_our_trouble_and_no_rate_limit(web_once, upstream, alice, status, error):
    upstream.answer = whole(status, json.dumps({"type": "error", "error": error}).encode())
    answer = post(web_once, alice.key)
    refused(answer, 503, "api_error")
    assert error["message"] not in answer.text
    assert answer.headers["x-should-retry"] == "false"
    assert (row().status, row().http_status) == ("refused_by_provider", status)


def test_a_vendors_rate_limit_stays_one(web_once, upstream, alice):
    error = {"type": "rate_limit_error", "code": "1302", "message": "High concurrency"}
    upstream.answer = whole(429, json.dumps({"type": "error", "error": error}).encode())
    assert post(web_once, alice.key).status_code == 429
