"""Provider keys to check, and providers that answer a check."""

from __future__ import annotations

from keys import provider_checks
from keys.models import CheckState
from tests.support.fake_provider import whole
from tests.support.issued import make_provider_key

SECRET = "sk-ant-api03-The-Secret-of-Alice-7f3k"
PAIR = {"access_key_id": "AKIAEXAMPLE012345678", "secret_access_key": "amazon/secret+key/0123456789abcdef"}
ANTHROPIC_LIST = b'{"data": [{"id": "claude-haiku-4-5"}], "has_more": false}'
COUNTED = b'{"input_tokens": 8}'
UNAUTHORIZED = b'{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}'
NO_PATH = b'{"error": {"message": "no such path"}}'
WORKS, REFUSED, ANSWERED = CheckState.WORKS, CheckState.REFUSED, CheckState.ANSWERED


def is_asked_with(seen, secret):
    return any(secret in value.decode("latin-1") for _, value in seen.headers)


def guarded(body, secret=SECRET):
    """What answers with this body to the secret, and to others that they aren't known."""
    return lambda seen: whole(200, body) if is_asked_with(seen, secret) else whole(401, UNAUTHORIZED)


def add(upstream, provider="anthropic", secret=SECRET, **terms):
    """A provider key as it is saved before anything has tried it."""
    return make_provider_key("main", provider=provider, base_url=upstream.url, secret=secret, **terms)


def tried(provider_key):
    [found] = provider_checks.check(provider_key)
    return found
