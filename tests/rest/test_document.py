"""The OpenAPI document of the REST API is one, and the gateway answers what it says."""

from __future__ import annotations

import json
from functools import cache

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from openapi_spec_validator import OpenAPIV31SpecValidator
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from administration.rest.document import document
from administration.rest.urls import RESOURCES
from tests.docs.test_schemathesis import TIMES
from tests.rest.test_served import token  # noqa: F401
from tests.support.gateway import CLIENT

CHECKS = [status_code_conformance, content_type_conformance, response_schema_conformance]
BOTH = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
OPERATIONS = [(path, method.upper()) for path, methods in document()["paths"].items() for method in methods]


def test_it_is_an_openapi_document():
    OpenAPIV31SpecValidator(json.loads(json.dumps(document()))).validate()


def test_each_resource_is_in_it_with_an_id_and_words():
    operations = [each for methods in document()["paths"].values() for each in methods.values()]
    ids = [each["operationId"] for each in operations]
    assert len(set(ids)) == len(ids)
    assert {tag for each in operations for tag in each["tags"]} == {
        *("me", "usage"),
        *(name.replace("-", " ") for name in RESOURCES),
    }
    assert all(each["summary"] and each["description"] for each in operations)


def test_a_body_has_no_other_members():
    schemas = document()["components"]["schemas"]
    requests = {name: schema for name, schema in schemas.items() if name.endswith("Request")}
    assert requests
    assert all(schema["additionalProperties"] is False for schema in requests.values())
    assert "secret" not in schemas["KeyMembers"]["properties"]
    assert "secret" not in schemas["ProviderKeyMembers"]["properties"]


@cache
def described(url):
    """The document, for the gateway at this URL."""
    api = schemathesis.openapi.from_dict(json.loads(json.dumps(document())))
    api.config.base_url = url
    return api


@pytest.mark.parametrize("mode", BOTH, ids=lambda mode: mode.value)
@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_it_answers_what_is_documented(web, token, path, method, mode):  # noqa: F811
    api = described(web.url)

    @settings(
        max_examples=3 * TIMES, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(case=api[path][method].as_strategy(generation_mode=mode))
    def ask(case):
        answer = case.call(headers={"authorization": f"Bearer {token}"}, timeout=30)
        assert answer.status_code < 500, answer.text
        case.validate_response(answer, checks=CHECKS)

    ask()
    assert CLIENT.get(f"{web.url}/healthz").status_code == 200
