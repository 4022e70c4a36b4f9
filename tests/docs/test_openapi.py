"""The OpenAPI document describes the API's requests and answers; its page shows it and loads nothing from elsewhere.

What is looked for is written from the reference page, not from the code that makes the document.
"""

from __future__ import annotations

import json
import re

import jsonschema
import pytest
from django.contrib.staticfiles import finders
from openapi_spec_validator import validate

from messages_api.reference.document import document
from tests.support.gateway import CLIENT, ask, credentials, post
from tests.support.recordings import needs_recordings, recordings
from tests.support.request_bodies import BETAS, EXAMPLES, PASSES, RICH, judge

TYPES = {
    "model": {"string"},
    "max_tokens": {"integer"},
    "messages": {"array"},
    "system": {"string", "array", "null"},
    "cache_control": {"object", "null"},
    "metadata": {"object", "null"},
    "stream": {"boolean", "null"},
    "temperature": {"number", "null"},
    "top_p": {"number", "null"},
    "top_k": {"integer", "null"},
    "stop_sequences": {"array", "null"},
    "tools": {"array", "null"},
    "tool_choice": {"object", "null"},
    "mcp_servers": {"array", "null"},
    "thinking": {"object", "null"},
    "output_format": {"object", "null"},
    "fallbacks": {"array", "string", "null"},
}
STOP_REASONS = [
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
    None,
]
BLOCK_MEMBERS = {
    "type",
    "text",
    "thinking",
    "signature",
    "data",
    "tool_use_id",
    "id",
    "name",
    "input",
    "server_name",
    "content",
    "is_error",
    "source",
    "cache_control",
    "citations",
    "context",
    "title",
}
USAGE = {
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "cache_creation",
}
ERRORS = {
    "400": "invalid_request_error",
    "401": "authentication_error",
    "403": "permission_error",
    "404": "not_found_error",
    "413": "request_too_large",
    "429": "rate_limit_error",
    "500": "api_error",
    "503": "api_error",
    "504": "timeout_error",
    "529": "overloaded_error",
}


def schemas():
    return document()["components"]["schemas"]


def resolve(schema):
    """A schema in place of what refers to it."""
    while "$ref" in schema:
        schema = schemas()[schema["$ref"].rpartition("/")[2]]
    return schema


def branches(schema):
    """The alternatives of a schema, all the way down."""
    schema = resolve(schema)
    if "anyOf" not in schema:
        return [schema]
    return [found for each in schema["anyOf"] for found in branches(each)]


def kinds(schema):
    """What a value may be."""
    found = set()
    for each in branches(schema):
        kind = each["type"]
        found |= set(kind) if isinstance(kind, list) else {kind}
    return found


def members(schema):
    """The members of an object, or of any of the objects that it may be."""
    return {name for each in branches(schema) for name in each.get("properties", {})}


def operation(path="/v1/messages", method="post"):
    return document()["paths"][path][method]


def test_it_is_an_openapi_document():
    validate(document())
    assert document()["openapi"].startswith("3.1")


def test_every_reference_leads_somewhere():
    names = re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document()))
    assert set(names) <= set(schemas())


def test_a_request_has_every_field_of_the_reference_page():
    request = schemas()["MessagesRequest"]
    assert set(request["required"]) == {"model", "max_tokens", "messages"}
    assert {name: kinds(request["properties"][name]) for name in TYPES} == TYPES
    assert operation()["requestBody"]["required"]
    assert all(field.get("description") or "$ref" in json.dumps(field) for field in request["properties"].values())


def test_a_request_has_the_ranges_and_enums_of_the_reference_page():
    fields = schemas()["MessagesRequest"]["properties"]
    assert (fields["temperature"]["minimum"], fields["temperature"]["maximum"]) == (0, 1)
    assert fields["model"]["examples"]
    cache = schemas()["CacheControl"]["properties"]
    assert (cache["type"]["enum"], cache["ttl"]["enum"]) == (["ephemeral"], ["5m", "1h", None])
    assert {kind for each in branches(schemas()["Source"]) for kind in [each["properties"]["type"].get("const")]} == {
        "base64",
        "url",
        "text",
        "file",
        None,
    }
    assert {"media_type", "data", "url", "file_id"} <= members(schemas()["Source"])
    assert {each["properties"]["type"]["const"] for each in branches(schemas()["ToolChoice"])} == {
        "auto",
        "any",
        "tool",
        "none",
    }
    assert schemas()["Thinking"]["anyOf"][0]["properties"]["budget_tokens"]["minimum"] == 1024
    text = json.dumps(fields)
    assert "mcp-client-" in text
    assert "structured-outputs-" in text


def test_an_answer_has_every_member_of_the_reference_page():
    answer = schemas()["Message"]
    expected = {"id", "type", "role", "content", "model", "stop_reason", "stop_sequence", "usage"}
    assert set(answer["required"]) == expected
    assert answer["properties"]["type"]["default"] == "message"
    assert resolve(answer["properties"]["stop_reason"])["enum"] == STOP_REASONS
    assert kinds(answer["properties"]["stop_sequence"]) == {"string", "null"}


def test_a_block_has_every_member_of_the_reference_page():
    assert members(schemas()["ContentBlock"]) >= BLOCK_MEMBERS
    shown = json.dumps([block["properties"]["type"] for block in branches(schemas()["ContentBlock"])])
    for kind in ("text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "mcp_tool_use"):
        assert f'"{kind}"' in shown
    assert "enabled" in json.dumps(schemas()["DocumentBlock"]["properties"]["citations"])


def test_usage_has_every_count_of_the_reference_page():
    usage = schemas()["Usage"]
    assert set(usage["properties"]) >= USAGE
    assert members(usage["properties"]["cache_creation"]) == {"ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"}


@pytest.mark.parametrize(("status", "kind"), ERRORS.items())
def test_each_error_has_its_type_and_an_example(status, kind):
    described = operation()["responses"][status]["content"]["application/json"]
    error = resolve(described["schema"])["properties"]["error"]["properties"]
    assert kind in error["type"]["enum"]
    (example,) = described["examples"].values()
    assert example["value"]["error"]["type"] == kind
    jsonschema.validate(example["value"], full(described["schema"]))


def test_a_spent_budget_is_among_the_errors():
    described = operation()["responses"]["429"]["content"]["application/json"]
    assert "billing_error" in resolve(described["schema"])["properties"]["error"]["properties"]["type"]["enum"]


def test_a_credential_may_come_as_bearer_or_in_either_header():
    schemes = document()["components"]["securitySchemes"]
    used = {name for each in operation()["security"] for name in each}
    assert used == set(schemes)
    assert {(each["type"], each.get("name", each.get("scheme"))) for each in schemes.values()} == {
        ("http", "bearer"),
        ("apiKey", "x-api-key"),
        ("apiKey", "x-bf-vk"),
    }
    assert "sk-bf-" in schemes["bearer"]["description"]


def test_the_first_way_to_send_a_credential_is_the_reference_pages():
    assert next(iter(document()["components"]["securitySchemes"].values()))["scheme"] == "bearer"
    for every in (document(), *(each for _, _, each in operations())):
        assert [[*each] for each in every["security"]] == [["bearer"], ["apiKey"], ["virtualKey"]]


PREFIXES = ("", "/anthropic", "/pydanticai/anthropic", "/pydanticai")


def operations():
    return [(path, method, each) for path, methods in document()["paths"].items() for method, each in methods.items()]


def test_every_endpoint_is_there_under_every_prefix():
    assert "post" in document()["paths"]["/pydanticai/anthropic/v1/messages"]
    endpoints = {(path, method) for path, method, _ in operations() if path.startswith("/v1/")}
    assert len(endpoints) == 17
    assert {(path, method) for path, method, _ in operations()} == {
        (prefix + path, method) for prefix in PREFIXES for path, method in endpoints
    }
    assert [each["url"] for each in document()["servers"]] == ["/"]


def test_an_operation_under_a_prefix_is_the_same_one_by_another_name():
    for path, method, each in operations():
        plain = operation(path[path.index("/v1/") :], method)
        assert each | {"operationId": "", "tags": []} == plain | {"operationId": "", "tags": []}
    names = [each["operationId"] for _, _, each in operations()]
    assert len(set(names)) == len(names)
    assert {"create_message", "pydanticai_anthropic_create_message"} <= set(names)
    assert all(re.fullmatch("[a-z_]+", name) for name in names)


def test_operations_are_grouped_and_each_group_is_described():
    tags = {each["name"]: each["description"] for each in document()["tags"]}
    assert all(tags.values())
    assert {name for _, _, each in operations() for name in each["tags"]} == set(tags)
    assert all(len(each["tags"]) == 1 for _, _, each in operations())


@pytest.mark.parametrize("prefix", PREFIXES)
def test_each_path_of_the_document_is_answered(web, echo_alice, prefix):
    for path, method, _ in operations():
        if path.startswith(prefix + "/v1/"):
            url = web.url + re.sub(r"{\w+}", "unknown_1", path)
            answer = CLIENT.request(method, url, headers=credentials(echo_alice.key))
            assert answer.status_code in (200, 400, 404, 413, 415), path
            assert "There is no such endpoint" not in answer.text, path


SENTENCE = re.compile(r"[A-Z`].*[^.]\.", re.S)


def nodes(value, path=()):
    """Every object of the document that is no example, with its path."""
    if isinstance(value, dict):
        yield path, value
        for name, each in value.items():
            if name not in ("example", "examples", "enum", "const", "default"):
                yield from nodes(each, (*path, name))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from nodes(each, (*path, number))


def test_everything_has_a_sentence():
    silent = []
    for path, node in nodes(document()):
        last = path[-1] if path else ""
        if last in ("properties", "securitySchemes", "schemas"):
            silent += [(*path, name) for name, each in node.items() if not sentence(each)]
        elif last == "headers":
            silent += [(*path, name) for name, each in node.items() if not ("$ref" in each or sentence(each))]
        elif last == "requestBody" or path[-2:-1] in (("responses",), ("parameters",), ("tags",)):
            silent += [] if sentence(node) else [path]
    assert silent == []
    for _, _, each in operations():
        assert each["summary"]
        assert sentence(each)


def sentence(node):
    return SENTENCE.fullmatch(node.get("description", ""))


def test_the_document_is_small_on_its_way(web):
    plain = CLIENT.get(web.url + "/docs/openapi.json", headers={"accept-encoding": "identity"})
    assert "content-encoding" not in plain.headers
    packed = CLIENT.get(web.url + "/docs/openapi.json", headers={"accept-encoding": "gzip, br"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < 40_000
    assert packed.content == plain.content
    for answer in (packed, plain):
        assert "accept-encoding" in answer.headers["vary"].lower()


def full(schema):
    """A schema that stands by itself."""
    return schema | {"components": document()["components"]}


REQUEST = jsonschema.Draft202012Validator(full({"$ref": "#/components/schemas/MessagesRequest"}))
ANSWER = jsonschema.Draft202012Validator(full({"$ref": "#/components/schemas/Message"}))
EVENT = jsonschema.Draft202012Validator(full({"$ref": "#/components/schemas/StreamEvent"}))


def test_its_own_examples_are_right():
    post = operation()
    for example in post["requestBody"]["content"]["application/json"]["examples"].values():
        REQUEST.validate(example["value"])
        assert judge(example["value"]) is None
    for example in post["responses"]["200"]["content"]["application/json"]["examples"].values():
        ANSWER.validate(example["value"])
    for example in post["responses"]["200"]["content"]["text/event-stream"]["examples"].values():
        for line in example["value"].splitlines():
            if line.startswith("data: "):
                EVENT.validate(json.loads(line[6:]))


# A schema says nothing of headers, nor of two members at once, nor of members that it doesn't have; tools in turns are
# described with the API that they came with.
BEYOND_IT = (
    *("Requires the header", "Not allowed together", "less than max_tokens"),
    *("Expected this name in lower case", "tool.definition"),
    *("`:online` is not allowed here", "`@preset/` is not allowed here", "tools: Those of OpenRouter"),
    *(
        ": Not allowed here: no budget covers",
        ": Not allowed here: it may choose",
        ": Not allowed here: name other models",
    ),
)


@pytest.mark.parametrize(("members", "said"), EXAMPLES, ids=lambda value: json.dumps(value)[:60])
def test_it_refuses_what_the_gateway_refuses(members, said):
    assert REQUEST.is_valid(ask() | members) == any(words in said for words in BEYOND_IT)


@pytest.mark.parametrize("members", PASSES.values(), ids=PASSES.keys())
def test_it_takes_what_the_gateway_takes(members):
    REQUEST.validate(ask() | members)


def test_it_takes_requests_with_everything_in_them():
    for request in RICH:
        REQUEST.validate(request)
        assert judge(request, betas=BETAS) is None


@needs_recordings
def test_it_describes_what_was_recorded():
    for recording in recordings():
        REQUEST.validate(recording.request)
        if recording.streams:
            data = [line[5:] for line in recording.body.decode().split("\n") if line.startswith("data:")]
            for each in map(json.loads, data):
                EVENT.validate(each)
        elif recording.status == 200:
            ANSWER.validate(json.loads(recording.body))


def test_echo_answers_as_described(web, echo_alice):
    tools = [{"name": "search", "input_schema": {"type": "object"}}]
    for request in (ask(), ask(tools=tools, tool_choice={"type": "any"}), ask("long " * 99, max_tokens=3)):
        ANSWER.validate(post(web, echo_alice.key, request).json())
        stream = post(web, echo_alice.key, request | {"stream": True}).text
        for line in stream.splitlines():
            if line.startswith("data: "):
                EVENT.validate(json.loads(line[6:]))


def test_the_page_loads_nothing_from_elsewhere(web):
    answer = CLIENT.get(web.url + "/docs/")
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].startswith("default-src 'self';")
    loaded = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert not [each for each in loaded if "//" in each]
    assert not re.search(r"<script(?![^>]*src=)|\son\w+=|\sstyle=", answer.text)
    files = [each.removeprefix("/static/") for each in loaded if each.startswith("/static/")]
    assert len(files) == 5
    assert all(finders.find(each) for each in files)


def test_the_document_is_served_beside_its_page_without_a_credential(web):
    answer = CLIENT.get(web.url + "/docs/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json() == json.loads(json.dumps(document()))
    assert "/docs/" in CLIENT.get(web.url + "/").text
