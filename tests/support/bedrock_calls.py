"""A caller whose calls go to Bedrock."""

from __future__ import annotations

import json

import pytest

from tests.support.clouds import issue_for
from tests.support.fake_provider import Upstream
from tests.support.gateway import Caller

ACCESS_KEY = "AKIAEXAMPLE012345678"
SECRET_KEY = "amazon/secret+key/0123456789abcdef"
SESSION = "amazon-session-token-0123456789"
PAIR = json.dumps({"access_key_id": ACCESS_KEY, "secret_access_key": SECRET_KEY, "session_token": SESSION})
MODEL = "eu.anthropic.claude-sonnet-4-5-20250929-v1:0"
ANSWERED = "claude-sonnet-4-5-20250929"


@pytest.fixture
def bedrock_alice(served: None, upstream: Upstream) -> Caller:
    return issue_for("bedrock", PAIR, upstream.url, region="eu-central-1")
