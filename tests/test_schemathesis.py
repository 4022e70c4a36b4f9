"""The gateway is asked what its OpenAPI document says that it can be, with echo behind it: nothing leaves the machine.

Requests that are right and requests that are wrong, made by schemathesis; every answer is one that is documented.
"""

from __future__ import annotations

import json

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from messages_api.openapi import document
from tests.gateway import credentials, wait_until
from usage.models import Hold

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
OPERATIONS = [
    ("/v1/messages", "POST", 120),
    ("/v1/messages/count_tokens", "POST", 60),
    ("/v1/models", "GET", 30),
    ("/v1/models/{model}", "GET", 30),
]
BOTH = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


@pytest.mark.parametrize("mode", BOTH, ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method", "count"), OPERATIONS)
def test_it_answers_what_is_documented(web, echo_alice, path, method, count, mode):
    api = schemathesis.openapi.from_dict(json.loads(json.dumps(document())))
    api.config.base_url = web.url
    statuses = set()

    @settings(
        max_examples=count, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(case=api[path][method].as_strategy(generation_mode=mode))
    def ask(case):
        answer = case.call(headers=credentials(echo_alice.key), timeout=30)
        statuses.add(answer.status_code)
        assert answer.status_code < 500, answer.text
        case.validate_response(answer, checks=CHECKS)
        if answer.status_code >= 400:
            body = answer.json()
            assert set(body) == {"type", "error", "request_id"}
            assert [body["request_id"]] == answer.headers["request-id"]

    ask()
    if method == "POST":
        assert (200 if mode is GenerationMode.POSITIVE else 400) in statuses
    wait_until(lambda: not Hold.objects.exists())
