"""The gateway is asked what its OpenAPI document says that it can be, with echo behind it: nothing leaves the machine.

Requests that are right and requests that are wrong, made by schemathesis; every answer is one that is documented.
"""

from __future__ import annotations

import json
import os
from functools import cache

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from messages_api.reference.document import document
from tests.support.gateway import credentials, wait_until
from usage.models import Hold

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
# `make race` tries several times as many.
TIMES = int(os.environ.get("SCHEMATHESIS_TIMES", "1"))
# With the status that a right request has among others, and that a wrong one has. Echo keeps no batches and files.
OPERATIONS = [
    ("/v1/messages", "POST", 8, 200, 400),
    ("/v1/messages/count_tokens", "POST", 5, 200, 400),
    ("/v1/messages/batches", "POST", 3, 404, 400),
    ("/v1/messages/batches", "GET", 8, 200, 400),
    ("/v1/messages/batches/{name}", "GET", 6, 404, 404),
    ("/v1/messages/batches/{name}", "DELETE", 6, 404, 404),
    ("/v1/messages/batches/{name}/cancel", "POST", 6, 404, 404),
    ("/v1/messages/batches/{name}/results", "GET", 6, 404, 404),
    ("/v1/files", "GET", 8, 200, 400),
    ("/v1/files/{file_id}", "GET", 5, 404, 404),
    ("/v1/files/{file_id}", "DELETE", 5, 404, 404),
    ("/v1/files/{file_id}/content", "GET", 5, 404, 404),
    ("/v1/models", "GET", 8, 200, 400),
    ("/v1/models/{model}", "GET", 8, 404, 404),
    ("/v1/quota", "GET", 5, 200, 200),
]


@cache
def described(url):
    """The document, for the gateway at this URL."""
    api = schemathesis.openapi.from_dict(json.loads(json.dumps(document())))
    api.config.base_url = url
    return api


BOTH = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)


@pytest.mark.parametrize("mode", BOTH, ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method", "count", "right", "wrong"), OPERATIONS)
def test_it_answers_what_is_documented(web, echo_alice, path, method, count, right, wrong, mode):
    api = described(web.url)
    statuses = set()

    @settings(
        max_examples=count * TIMES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
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
    assert (right if mode is GenerationMode.POSITIVE else wrong) in statuses
    wait_until(lambda: not Hold.objects.exists())
