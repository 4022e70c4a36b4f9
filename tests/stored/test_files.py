"""/v1/files in front of a provider that keeps files for real: what arrives, and what is refused."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from keys import issuing
from keys.models import Customer, VirtualKey
from messages_api.models import File
from tests.support.fake_provider import Upstream, whole
from tests.support.file_calls import SDK_0, call, ids, multipart, upload, uploaded
from tests.support.file_calls import amy as amy
from tests.support.file_calls import provider as provider
from tests.support.files_provider import FilesProvider
from tests.support.gateway import (
    CLIENT,
    PROVIDER_SECRET,
    Caller,
    Web,
    credentials,
    free_calls,
    rows,
    talk,
)


def test_a_file_can_be_uploaded_listed_described_fetched_and_deleted(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    content = os.urandom(300_000)
    answer = upload(web, amy.key, content, "data.bin")
    file_id = answer.json()["id"]
    assert answer.json() == provider.files[file_id]["described"]
    assert ids(call(web, amy.key, "GET")) == [file_id]
    assert call(web, amy.key, "GET", f"/{file_id}").json() == answer.json()
    fetched = call(web, amy.key, "GET", f"/{file_id}/content")
    assert fetched.content == content
    assert fetched.headers["content-length"] == "300000"
    deleted = call(web, amy.key, "DELETE", f"/{file_id}")
    assert deleted.json() == {"id": file_id, "type": "file_deleted"}
    assert ids(call(web, amy.key, "GET")) == []
    assert provider.files == {}


def test_each_call_that_reaches_the_provider_has_a_row_that_costs_nothing(web: Web, amy: Caller) -> None:
    file_id = uploaded(web, amy.key)
    call(web, amy.key, "GET", f"/{file_id}")
    call(web, amy.key, "GET", f"/{file_id}/content")
    call(web, amy.key, "GET")
    call(web, amy.key, "DELETE", f"/{file_id}")
    names = ("files.upload", "files.get", "files.content", "files.delete")
    assert free_calls(amy.virtual_key, 4) == {(name, "completed"): 1 for name in names}
    rows(0)


def test_a_policy_about_models_without_a_price_does_not_apply_to_files(
    served: None, amy: Caller, start_web: Any
) -> None:
    web = start_web(unpriced_models="refuse")
    assert upload(web, amy.key).status_code == 200


@pytest.mark.parametrize("prefix", ["/anthropic", "/pydanticai/anthropic", "/pydanticai"])
def test_it_is_there_under_every_prefix(web: Web, amy: Caller, prefix: str) -> None:
    file_id = uploaded(web, amy.key)
    for path in ("", f"/{file_id}", f"/{file_id}/content", f"/{file_id}/content/"):
        answer = CLIENT.get(f"{web.url}{prefix}/v1/files{path}", headers=credentials(amy.key))
        assert answer.status_code == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_bytes_pass_as_they_came_in_both_directions(web: Web, alice: Caller, upstream: Upstream, chunked: bool) -> None:
    kind, body = multipart(os.urandom(200_000))
    described = b'{ "id":"file_1",\n "type":"file", "filename":"caf\\u00e9\\u0000", "new": 1.50 }'
    upstream.answer = whole(200, described, ("request-id", "req_1"), ("anthropic-organization-id", "org_1"))
    answer = CLIENT.post(
        web.url + "/v1/files?beta=true",
        content=iter([body[:100], body[100:]]) if chunked else body,
        headers=credentials(alice.key) | SDK_0 | {"content-type": kind},
    )
    assert answer.content == described
    assert upstream.last.body == body
    assert upstream.last.target == "/v1/files?beta=true"
    assert upstream.last.values("content-type") == [kind]
    assert upstream.last.values("content-length") == ([] if chunked else [str(len(body))])
    assert upstream.last.values("anthropic-beta") == ["files-api-2025-04-14"]
    assert upstream.last.values("x-api-key") == [PROVIDER_SECRET]
    assert answer.headers["request-id"] == "req_1"
    assert "anthropic-organization-id" not in answer.headers
    assert described.decode() in CLIENT.get(web.url + "/v1/files", headers=credentials(alice.key)).text


def test_the_providers_own_words_reach_the_caller(web: Web, amy: Caller, provider: FilesProvider) -> None:
    provider.status = 413
    answer = upload(web, amy.key)
    assert (answer.status_code, answer.json()["error"]["message"]) == (413, "no")
    assert File.objects.count() == 0


@pytest.mark.parametrize("file_id", ["a%00b", "%F0%9F%92%A9", "..", "a%2Fb", "a" * 150, "%ff"])
def test_an_invalid_id_is_not_found(web: Web, amy: Caller, provider: FilesProvider, file_id: str) -> None:
    status, _, body = talk(web, f"GET /v1/files/{file_id} HTTP/1.1\r\nhost: x\r\nx-api-key: {amy.key}\r\n\r\n".encode())
    assert (status, json.loads(body)["error"]["type"]) == (404, "not_found_error")
    assert provider.calls == []


# A provider's own key


def test_a_caller_with_a_key_of_the_providers_deals_with_the_provider(
    served: None, provider: FilesProvider, start_web: Any
) -> None:
    Customer.objects.get_or_create(name="Acme")
    issuing.ensure_passthrough_key("Acme")
    web = start_web(passthrough_customer="Acme", passthrough_base_url=provider.url)
    own = "sk-ant-" + "own-1" * 20
    file_id = uploaded(web, own)
    assert ids(call(web, own, "GET")) == [file_id]
    assert call(web, own, "GET", f"/{file_id}").json()["id"] == file_id
    assert call(web, own, "GET", f"/{file_id}/content").content == b"hello"
    assert call(web, own, "GET", "/file_none").json()["error"]["message"] == "File not found: file_none"
    assert call(web, own, "DELETE", f"/{file_id}").status_code == 200
    assert {secret for _, _, secret in provider.calls} == {own}
    assert File.objects.count() == 0
    counted = free_calls(VirtualKey.objects.get(passthrough=True), 6)
    assert counted == {(f"files.{name}", "completed"): 1 for name in ("upload", "list", "get", "content", "delete")} | {
        ("files.get", "refused_by_provider"): 1
    }


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "", "GET, POST"),
        ("HEAD", "", "GET, POST"),
        ("POST", "/a", "GET, DELETE"),
        ("DELETE", "/a/content", "GET"),
        ("HEAD", "/a/content", "GET"),
    ],
)
def test_a_405_lists_the_allowed_methods(web: Web, amy: Caller, method: str, path: str, allowed: str) -> None:
    answer = call(web, amy.key, method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed
