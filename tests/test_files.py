"""/v1/files in front of a provider that keeps files for real: whose they are, what arrives, and what is left over."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx
import pytest
from django.conf import settings as project
from django.db import connection, transaction
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from keys import issuing, provider_keys
from keys.directory import KnownProviderKey
from keys.models import Customer, ProviderKey, Team, VirtualKey, VirtualKeyRoute
from messages_api import handler, routing
from messages_api.errors import GatewayError
from messages_api.models import File
from tests.files_provider import FilesProvider
from tests.gateway import (
    CLIENT,
    PROVIDER_SECRET,
    Caller,
    Web,
    credentials,
    free_calls,
    issue,
    message,
    post,
    refused,
    rows,
    talk,
    wait_until,
)
from tests.upstream import End, Upstream, chunk, head, whole

SDK_0 = {"anthropic-version": "2023-06-01", "anthropic-beta": "files-api-2025-04-14"}


@pytest.fixture
def provider() -> Iterator[FilesProvider]:
    with FilesProvider() as provider:
        yield provider


def issue_at(provider: Any, name: str, **terms: Any) -> Caller:
    """A virtual key that maps to this provider."""
    return issue(provider, name, **terms)


@pytest.fixture
def amy(served: None, provider: FilesProvider) -> Caller:
    """Amy, of Acme's team Research, whose provider keeps files."""
    return issue_at(provider, "amy")


def call(web: Web, key: str, method: str, path: str = "", **options: Any) -> httpx.Response:
    return CLIENT.request(method, f"{web.url}/v1/files{path}", headers=credentials(key), **options)


def upload(web: Web, key: str, content: bytes = b"hello", name: str = "a.txt") -> httpx.Response:
    return call(web, key, "POST", files={"file": (name, content, "text/plain")})


def uploaded(web: Web, key: str, content: bytes = b"hello", name: str = "a.txt") -> str:
    """The id of a new file."""
    answer = upload(web, key, content, name)
    assert answer.status_code == 200, answer.text
    file_id: str = answer.json()["id"]
    return file_id


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [file["id"] for file in answer.json()["data"]]


def multipart(content: bytes) -> tuple[str, bytes]:
    """A content type, and a body with a file."""
    body = (
        b'--xyz\r\ncontent-disposition: form-data; name="file"; filename="a.txt"\r\n\r\n' + content + b"\r\n--xyz--\r\n"
    )
    return "multipart/form-data; boundary=xyz", body


def raw_upload(key: str, size: int) -> bytes:
    """The head of an upload of so many bytes."""
    head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: {size}\r\n"
    return head.encode() + b"content-type: multipart/form-data; boundary=xyz\r\n\r\n"


# From upload to deletion


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


def test_a_policy_about_models_without_a_price_is_none_about_files(served: None, amy: Caller, start_web: Any) -> None:
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


def test_the_row_of_a_file_says_whose_and_where_it_is(web: Web, amy: Caller, provider: FilesProvider) -> None:
    provider.accounts[PROVIDER_SECRET] = ("org_acme", "wrkspc_research")
    file = File.objects.get(id=uploaded(web, amy.key))
    assert (file.virtual_key, file.team, file.provider_key) == (amy.virtual_key, amy.team, amy.provider_key)
    assert (file.organization_id, file.workspace_id) == ("org_acme", "wrkspc_research")
    assert json.loads(file.described) == provider.files[file.id]["described"]


def test_what_the_provider_says_of_a_file_is_kept(web: Web, amy: Caller, provider: FilesProvider) -> None:
    file_id = uploaded(web, amy.key)
    provider.files[file_id]["described"]["expires_at"] = "2027-01-01T00:00:00Z"
    call(web, amy.key, "GET", f"/{file_id}")
    assert call(web, amy.key, "GET").json()["data"][0]["expires_at"] == "2027-01-01T00:00:00Z"


# Whose they are


def test_the_team_shares_its_files(web: Web, amy: Caller, provider: FilesProvider) -> None:
    bob = issue_at(provider, "bob")
    file_id = uploaded(web, amy.key, b"for the team")
    assert ids(call(web, bob.key, "GET")) == [file_id]
    assert call(web, bob.key, "GET", f"/{file_id}/content").content == b"for the team"
    assert call(web, bob.key, "DELETE", f"/{file_id}").status_code == 200
    assert ids(call(web, amy.key, "GET")) == []


@pytest.mark.parametrize("team", [None, "Sales"])
@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/content"), ("DELETE", "")])
def test_somebody_elses_file_is_as_one_that_is_not_there(
    web: Web, amy: Caller, provider: FilesProvider, method: str, path: str, team: str | None
) -> None:
    other = Customer.objects.create(name="Other")
    terms = {"customer": other, "team": team and Team.objects.create(customer=other, name=team)}
    charlie = issue_at(provider, "charlie", **terms)
    file_id = uploaded(web, amy.key)
    calls = len(provider.calls)
    theirs = call(web, charlie.key, method, f"/{file_id}{path}")
    nobodys = call(web, charlie.key, method, f"/file_9999{path}")
    assert refused(theirs, 404, "not_found_error") == f"File not found: {file_id}"
    assert refused(nobodys, 404, "not_found_error") == "File not found: file_9999"
    assert set(theirs.headers) == set(nobodys.headers)
    assert ids(call(web, charlie.key, "GET")) == []
    assert ids(call(web, charlie.key, "GET", f"?ids[]={file_id}")) == []
    refused(call(web, charlie.key, "GET", f"?after_id={file_id}"), 400, "invalid_request_error")
    assert len(provider.calls) == calls


def test_a_key_without_a_team_owns_its_files_alone(web: Web, provider: FilesProvider, served: None) -> None:
    first, second = issue_at(provider, "first", team=None), issue_at(provider, "second", team=None)
    file_id = uploaded(web, first.key)
    assert ids(call(web, first.key, "GET")) == [file_id]
    assert ids(call(web, second.key, "GET")) == []
    refused(call(web, second.key, "GET", f"/{file_id}"), 404, "not_found_error")


def test_a_key_that_moves_to_another_team_leaves_its_files_behind(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    file_id = uploaded(web, amy.key)
    bob = issue_at(provider, "bob")
    amy.virtual_key.team = Team.objects.create(customer=amy.virtual_key.customer, name="Sales")
    amy.virtual_key.save()
    refused(call(web, amy.key, "GET", f"/{file_id}"), 404, "not_found_error")
    assert ids(call(web, amy.key, "GET")) == []
    assert ids(call(web, bob.key, "GET")) == [file_id]


def test_a_key_that_joins_a_team_keeps_what_it_had_to_itself(web: Web, amy: Caller, provider: FilesProvider) -> None:
    loner = issue_at(provider, "loner", team=None)
    own = uploaded(web, loner.key)
    loner.virtual_key.team = amy.team
    loner.virtual_key.save()
    shared = uploaded(web, loner.key)
    assert ids(call(web, loner.key, "GET")) == [shared, own]
    assert ids(call(web, amy.key, "GET")) == [shared]
    assert call(web, loner.key, "GET", f"/{own}").status_code == 200
    refused(call(web, amy.key, "GET", f"/{own}"), 404, "not_found_error")


def test_a_rotated_key_keeps_its_files(web: Web, amy: Caller) -> None:
    file_id = uploaded(web, amy.key)
    rotated = issuing.rotate(amy.virtual_key, timedelta(0))
    assert call(web, rotated, "GET", f"/{file_id}").status_code == 200
    refused(call(web, amy.key, "GET", f"/{file_id}"), 401, "authentication_error")


@pytest.mark.parametrize(("method", "path"), [("GET", ""), ("GET", "/file_9"), ("DELETE", "/file_9"), ("POST", "")])
def test_a_revoked_key_is_refused_before_anything_else(
    web: Web, amy: Caller, provider: FilesProvider, method: str, path: str
) -> None:
    call(web, amy.key, "GET")
    issuing.revoke(amy.virtual_key)
    files = {"file": b"a"} if method == "POST" else None
    refused(call(web, amy.key, method, path, files=files), 401, "authentication_error")
    assert provider.calls == []


def test_a_revoked_key_uploads_not_one_byte(web: Web, amy: Caller, provider: FilesProvider) -> None:
    issuing.revoke(amy.virtual_key)
    status, _, _ = talk(web, raw_upload(amy.key, 50_000_000))
    assert status == 401
    assert provider.calls == []


# Where they go


def add_account(provider: FilesProvider, caller: Caller, name: str, organization: str = "") -> ProviderKey:
    """A further provider key of this caller's."""
    secret = f"sk-ant-{name}"
    provider.accounts[secret] = (organization or name, "default")
    key = provider_keys.add_provider_key(name=name, provider="anthropic", base_url=provider.url, secret=secret)
    VirtualKeyRoute.objects.create(virtual_key=caller.virtual_key, provider_key=key)
    return key


def test_all_uploads_of_a_team_go_to_one_account(web: Web, amy: Caller, provider: FilesProvider) -> None:
    bob = issue_at(provider, "bob")
    for caller in (amy, bob):
        for name in ("second", "third"):
            if not ProviderKey.objects.filter(name=name).exists():
                add_account(provider, caller, name)
            else:
                key = ProviderKey.objects.get(name=name)
                VirtualKeyRoute.objects.create(virtual_key=caller.virtual_key, provider_key=key)
    for caller in (amy, bob) * 4:
        uploaded(web, caller.key)
    assert len({secret for _, _, secret in provider.calls}) == 1


def test_a_file_stays_where_it_is_when_its_team_gets_other_provider_keys(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    file_id = uploaded(web, amy.key)
    for number in range(5):
        add_account(provider, amy, f"later-{number}")
    assert call(web, amy.key, "GET", f"/{file_id}").status_code == 200
    assert provider.calls[-1][2] == PROVIDER_SECRET


def test_another_provider_key_of_the_same_account_takes_over(web: Web, amy: Caller, provider: FilesProvider) -> None:
    provider.accounts[PROVIDER_SECRET] = ("org_acme", "default")
    file_id = uploaded(web, amy.key)
    VirtualKeyRoute.objects.all().delete()
    add_account(provider, amy, "stranger")
    uploaded(web, amy.key)
    VirtualKeyRoute.objects.all().delete()
    add_account(provider, amy, "sibling", "org_acme")
    uploaded(web, amy.key)
    wait_until(lambda: ProviderKey.objects.get(name="sibling").organization_id)
    VirtualKeyRoute.objects.create(
        virtual_key=amy.virtual_key, provider_key=ProviderKey.objects.get(name="stranger"), weight=100
    )
    ProviderKey.objects.filter(name="main").update(active=False)
    assert call(web, amy.key, "GET", f"/{file_id}/content").content == b"hello"
    assert provider.calls[-1][2] == "sk-ant-sibling"


def test_a_file_whose_account_is_out_of_reach_is_not_found_and_says_why(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    file_id = uploaded(web, amy.key)
    VirtualKeyRoute.objects.all().delete()
    add_account(provider, amy, "stranger")
    uploaded(web, amy.key)
    said = refused(call(web, amy.key, "GET", f"/{file_id}"), 404, "not_found_error")
    assert "account" in said


def test_a_provider_without_files_is_a_404_that_says_so(web: Web, echo_alice: Caller) -> None:
    assert "anthropic" in refused(upload(web, echo_alice.key), 404, "not_found_error")
    assert ids(call(web, echo_alice.key, "GET")) == []


def test_trouble_with_our_own_account_is_none_of_the_callers(web: Web, amy: Caller, provider: FilesProvider) -> None:
    provider.status = 401
    refused(upload(web, amy.key), 503, "api_error")
    assert File.objects.count() == 0
    assert free_calls(amy.virtual_key, 1) == {("files.upload", "refused_by_provider"): 1}


def test_the_providers_own_words_reach_the_caller(web: Web, amy: Caller, provider: FilesProvider) -> None:
    provider.status = 413
    answer = upload(web, amy.key)
    assert (answer.status_code, answer.json()["error"]["message"]) == (413, "no")
    assert File.objects.count() == 0


# Uploads that don't go well


def test_an_upload_that_will_be_too_long_is_refused_unread(served: None, amy: Caller, start_web: Any) -> None:
    web = start_web(max_file_bytes=100_000)
    status, _, body = talk(web, raw_upload(amy.key, 100_001))
    assert status == 413
    assert b"100000" in body
    rows(0)
    assert upload(web, amy.key, b"a" * 90_000).status_code == 200


def test_an_upload_that_turns_out_too_long_is_cut_off(
    served: None, amy: Caller, start_web: Any, provider: FilesProvider
) -> None:
    web = start_web(max_file_bytes=100_000)
    kind, body = multipart(b"a" * 200_000)
    headers = credentials(amy.key) | {"content-type": kind}
    answer = CLIENT.post(
        web.url + "/v1/files", content=(body[at : at + 10_000] for at in range(0, len(body), 10_000)), headers=headers
    )
    refused(answer, 413, "request_too_large")
    assert provider.cut_off.wait(20)
    assert free_calls(amy.virtual_key, 1) == {("files.upload", "failed"): 1}
    assert provider.files == {}


@pytest.mark.parametrize("client", ["lean", "aiohttp"])
def test_a_caller_that_hangs_up_in_mid_upload_cancels_the_providers_call(
    served: None, amy: Caller, start_web: Any, provider: FilesProvider, client: str
) -> None:
    web = start_web(**({"upstream_client": client} if client != "lean" else {}))
    _, body = multipart(b"a" * 500_000)
    with socket.create_connection(web.address) as link:
        link.sendall(raw_upload(amy.key, len(body)) + body[:300_000])
        wait_until(lambda: provider.calls)
        time.sleep(0.1)
        assert not provider.cut_off.is_set()
    assert provider.cut_off.wait(20)
    assert free_calls(amy.virtual_key, 1) == {("files.upload", "client_disconnected"): 1}
    assert provider.files == {}


def test_a_complete_upload_is_carried_out_whoever_hangs_up(web: Web, amy: Caller, provider: FilesProvider) -> None:
    provider.before_answer.clear()
    _, body = multipart(b"hello")
    with socket.create_connection(web.address) as link:
        link.sendall(raw_upload(amy.key, len(body)) + body)
        wait_until(lambda: provider.files)
    time.sleep(0.2)
    provider.before_answer.set()
    wait_until(lambda: File.objects.exists())
    assert ids(call(web, amy.key, "GET")) == list(provider.files)
    assert free_calls(amy.virtual_key, 1) == {("files.upload", "completed"): 1}


def test_a_file_whose_row_cannot_be_written_is_deleted_again(web: Web, amy: Caller, provider: FilesProvider) -> None:
    uploaded(web, amy.key)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE messages_api_file IN SHARE MODE")
        began = time.monotonic()
        refused(upload(web, amy.key), 503, "api_error")
        assert time.monotonic() - began > 4
    assert len(provider.files) == 1
    assert provider.calls[-1][0] == "DELETE"
    assert len(ids(call(web, amy.key, "GET"))) == 1


def test_a_provider_that_answers_early_is_heard(web: Web, alice: Caller) -> None:
    def serve(listener: socket.socket) -> None:
        link, _ = listener.accept()
        with link:
            link.recv(1000)
            link.sendall(whole(413, b'{"type":"error","error":{"type":"request_too_large","message":"no"}}')[0])
            time.sleep(0.5)

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor() as pool:
        serving = pool.submit(serve, listener)
        ProviderKey.objects.update(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}")
        status, _, body = talk(web, raw_upload(alice.key, 50_000_000) + b"a" * 20_000_000)
        assert (status, json.loads(body)["error"]["message"]) == (413, "no")
        serving.result()
    assert free_calls(alice.virtual_key, 1) == {("files.upload", "refused_by_provider"): 1}


@override_settings(CONFIGURATION=project.CONFIGURATION.model_copy(update={"body_grace_seconds": 0.05}))
async def test_an_upload_that_stalls_is_a_408() -> None:
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": b"hel", "more_body": True}]

    async def receive() -> dict[str, Any]:
        if not messages:
            await asyncio.sleep(5)
        return messages.pop(0)

    scope = {"type": "http", "method": "POST", "path": "/v1/files", "query_string": b"", "headers": []}
    parts = handler.ApiRequest(scope, receive).stream_body(100).parts
    assert await anext(parts) == b"hel"
    with pytest.raises(GatewayError) as caught:
        await anext(parts)
    assert (caught.value.status_code, caught.value.reason) == (408, "stalled")


def test_a_compressed_upload_is_refused(web: Web, amy: Caller) -> None:
    kind, body = multipart(b"hello")
    headers = credentials(amy.key) | {"content-type": kind, "content-encoding": "gzip"}
    refused(CLIENT.post(web.url + "/v1/files", content=body, headers=headers), 400, "invalid_request_error")


# Downloads that don't go well


@pytest.mark.parametrize("framed", ["length", "chunked", "close"])
def test_a_provider_that_breaks_off_never_leaves_a_file_that_looks_whole(
    web: Web, alice: Caller, upstream: Upstream, framed: str
) -> None:
    upstream.answer = whole(200, b'{"id":"file_1","type":"file"}')
    uploaded(web, alice.key)
    headers = {"length": [(b"content-length", b"1000")], "chunked": [(b"transfer-encoding", b"chunked")], "close": []}
    part = chunk(b"a" * 500) if framed == "chunked" else b"a" * 500
    end = End.RESET if framed == "close" else End.CLOSE
    upstream.answer = [head(200, [(b"content-type", b"text/plain"), *headers[framed]]), part, end]
    with pytest.raises(httpx.RemoteProtocolError):
        call(web, alice.key, "GET", "/file_1/content")
    assert free_calls(alice.virtual_key, 2)["files.content", "failed"] == 1


def test_a_caller_that_hangs_up_in_mid_download_lets_go_of_the_provider(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    file_id = uploaded(web, amy.key, b"a" * 30_000_000)
    with CLIENT.stream("GET", f"{web.url}/v1/files/{file_id}/content", headers=credentials(amy.key)) as answer:
        next(answer.iter_raw())
    assert provider.cut_off.wait(20)
    assert free_calls(amy.virtual_key, 2)["files.content", "client_disconnected"] == 1


def test_a_download_that_is_cut_by_an_admin_does_not_look_whole(web: Web, alice: Caller, upstream: Upstream) -> None:
    upstream.answer = whole(200, b'{"id":"file_1","type":"file"}')
    uploaded(web, alice.key)
    upstream.answer = [head(200, [(b"content-length", b"1000")]), b"a" * 500, threading.Event()]
    with ThreadPoolExecutor() as pool:
        reading = pool.submit(call, web, alice.key, "GET", "/file_1/content")
        upstream.wait_for(2)
        time.sleep(0.1)
        issuing.revoke(alice.virtual_key, cut_streams=True)
        with pytest.raises(httpx.RemoteProtocolError):
            reading.result()
    assert upstream.last.gone.wait(20)
    assert free_calls(alice.virtual_key, 2)["files.content", "interrupted"] == 1


def test_a_provider_that_falls_silent_in_mid_download_is_given_up(
    served: None, alice: Caller, upstream: Upstream, start_web: Any
) -> None:
    web = start_web(upstream_between_bytes_seconds=0.5)
    upstream.answer = whole(200, b'{"id":"file_1","type":"file"}')
    uploaded(web, alice.key)
    upstream.answer = [head(200, [(b"content-length", b"1000")]), b"a" * 500, threading.Event()]
    with pytest.raises(httpx.RemoteProtocolError):
        call(web, alice.key, "GET", "/file_1/content")
    assert free_calls(alice.virtual_key, 2)["files.content", "failed"] == 1


def test_a_part_of_a_file_can_be_asked_for(web: Web, alice: Caller, upstream: Upstream) -> None:
    upstream.answer = whole(200, b'{"id":"file_1","type":"file"}')
    uploaded(web, alice.key)
    upstream.answer = whole(206, b"ell", ("content-type", "text/plain"), ("content-range", "bytes 1-3/5"))
    answer = CLIENT.get(web.url + "/v1/files/file_1/content", headers=credentials(alice.key) | {"range": "bytes=1-3"})
    assert (answer.status_code, answer.content, answer.headers["content-range"]) == (206, b"ell", "bytes 1-3/5")
    assert upstream.last.values("range") == ["bytes=1-3"]


# Deleted ones


def test_a_deleted_file_is_not_found_and_the_provider_is_not_asked(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    file_id = uploaded(web, amy.key)
    call(web, amy.key, "DELETE", f"/{file_id}")
    calls = len(provider.calls)
    for method, path in (("GET", ""), ("GET", "/content"), ("DELETE", "")):
        refused(call(web, amy.key, method, f"/{file_id}{path}"), 404, "not_found_error")
    assert len(provider.calls) == calls


def test_a_file_that_the_provider_no_longer_knows_can_be_deleted_here(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    file_id = uploaded(web, amy.key)
    provider.files.clear()
    answer = call(web, amy.key, "DELETE", f"/{file_id}")
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, f"File not found: {file_id}")
    assert ids(call(web, amy.key, "GET")) == []


# The list


def test_the_list_is_newest_first_a_page_at_a_time_in_both_dialects(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    newest_first = [uploaded(web, amy.key) for _ in range(5)][::-1]
    calls = len(provider.calls)
    whole_list = call(web, amy.key, "GET").json()
    assert [file["id"] for file in whole_list.pop("data")] == newest_first
    assert whole_list == {
        "has_more": False, "first_id": newest_first[0], "last_id": newest_first[4], "next_page": None
    }  # fmt: skip
    first = call(web, amy.key, "GET", "?limit=2")
    assert (ids(first), first.json()["has_more"]) == (newest_first[:2], True)
    second = call(web, amy.key, "GET", f"?limit=2&after_id={first.json()['last_id']}&beta=true")
    assert (ids(second), second.json()["has_more"]) == (newest_first[2:4], True)
    assert ids(call(web, amy.key, "GET", f"?limit=2&page={first.json()['next_page']}")) == newest_first[2:4]
    last = call(web, amy.key, "GET", f"?limit=2&page={second.json()['next_page']}")
    assert (ids(last), last.json()["next_page"], last.json()["has_more"]) == (newest_first[4:], None, False)
    before = call(web, amy.key, "GET", f"?limit=2&before_id={newest_first[3]}")
    assert (ids(before), before.json()["has_more"]) == (newest_first[1:3], True)
    before = call(web, amy.key, "GET", f"?limit=2&before_id={newest_first[1]}")
    assert (ids(before), before.json()["has_more"]) == (newest_first[:1], False)
    assert first.json()["next_page"].startswith("page_")
    assert len(provider.calls) == calls


def test_some_files_can_be_asked_for_by_id(web: Web, amy: Caller) -> None:
    files = [uploaded(web, amy.key) for _ in range(3)]
    call(web, amy.key, "DELETE", f"/{files[1]}")
    answer = call(web, amy.key, "GET", "?" + "&".join(f"ids[]={name}" for name in (*files, *files, "file_none")))
    assert ids(answer) == [files[2], files[0]]
    assert (answer.json()["next_page"], answer.json()["has_more"]) == (None, False)


def test_a_file_deleted_meanwhile_keeps_its_place_in_the_list(web: Web, amy: Caller) -> None:
    oldest, middle, newest = [uploaded(web, amy.key) for _ in range(3)]
    cursor = call(web, amy.key, "GET", "?limit=2").json()["next_page"]
    call(web, amy.key, "DELETE", f"/{middle}")
    assert ids(call(web, amy.key, "GET", f"?page={cursor}")) == [oldest]
    assert ids(call(web, amy.key, "GET", f"?before_id={middle}")) == [newest]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("after_id=file_none", "after_id"),
        ("before_id=%00", "before_id"),
        ("after_id=a&before_id=b", "after_id, before_id"),
        ("page=x", "page"),
        ("page=page_", "page"),
        ("page=page_%F0%9F%92%A9", "page"),
        ("page=page_gICA", "page"),
        ("page=page_ZmlsZV9ub25l", "page"),
        ("page=page_a&after_id=b", "after_id, page"),
        ("ids=a&limit=3", "ids, limit"),
        ("ids[]=a&page=page_a", "ids, page"),
        ("&".join(f"ids[]=f{number}" for number in range(101)), "ids"),
        ("scope_id=sess_1", "scope_id"),
    ],
)
def test_a_list_that_cannot_be_is_refused_by_name(web: Web, amy: Caller, query: str, named: str) -> None:
    said = refused(call(web, amy.key, "GET", f"?{query}"), 400, "invalid_request_error")
    assert said.startswith(named + ":")


@pytest.mark.parametrize("path", ["files", "models"])
def test_a_query_without_measure_is_refused(web: Web, amy: Caller, path: str) -> None:
    query = "&".join(f"ids[]=f{number}" for number in range(2000))
    answer = CLIENT.get(f"{web.url}/v1/{path}?{query}", headers=credentials(amy.key))
    assert "query" in refused(answer, 400, "invalid_request_error")


@pytest.mark.parametrize("file_id", ["a%00b", "%F0%9F%92%A9", "..", "a%2Fb", "a" * 150, "%ff"])
def test_an_id_that_is_none_is_not_found(web: Web, amy: Caller, provider: FilesProvider, file_id: str) -> None:
    status, _, body = talk(web, f"GET /v1/files/{file_id} HTTP/1.1\r\nhost: x\r\nx-api-key: {amy.key}\r\n\r\n".encode())
    assert (status, json.loads(body)["error"]["type"]) == (404, "not_found_error")
    assert provider.calls == []


def made(caller: Caller, file_id: str) -> None:
    """The row of a file that a model made."""
    File.objects.create(id=file_id, virtual_key=caller.virtual_key, team=caller.team, provider_key=caller.provider_key)


def test_what_a_model_made_is_described_when_it_is_listed(web: Web, amy: Caller, provider: FilesProvider) -> None:
    names = [f"file_made_{number}" for number in range(9)]
    for name in names:
        provider.add(PROVIDER_SECRET, name)
        made(amy, name)
    answer = CLIENT.get(web.url + "/v1/files", headers=credentials(amy.key) | SDK_0)
    assert ids(answer) == names[::-1]
    assert answer.json()["data"][0] == provider.files["file_made_8"]["described"]
    assert provider.headers[-1]["anthropic-beta"] == SDK_0["anthropic-beta"]
    assert len(provider.calls) == 9
    assert len(ids(call(web, amy.key, "GET"))) == 9
    assert len(provider.calls) == 9


def test_what_a_model_made_and_the_provider_has_forgotten_leaves_no_hole(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
    files = [uploaded(web, amy.key) for _ in range(3)]
    for number in range(5):
        made(amy, f"file_gone_{number}")
    answer = call(web, amy.key, "GET", "?limit=2")
    assert ids(answer) == [files[2], files[1]]
    assert answer.json()["has_more"]
    assert File.objects.filter(deleted_at=None).count() == 3


def test_a_list_with_what_nobody_can_describe_now_says_so(web: Web, amy: Caller, provider: FilesProvider) -> None:
    made(amy, "file_made")
    amy.provider_key.base_url = "http://127.0.0.1:1"
    amy.provider_key.save()
    refused(call(web, amy.key, "GET"), 503, "api_error")


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
def test_a_wrong_method_is_told_the_right_ones(web: Web, amy: Caller, method: str, path: str, allowed: str) -> None:
    answer = call(web, amy.key, method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed


# Size


def resident(web: Web) -> int:
    """Bytes of memory that the one web process has had at the most since `reset`."""
    [process] = web.processes
    with open(f"/proc/{process.pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def reset(web: Web) -> None:
    [process] = web.processes
    with contextlib.suppress(OSError), open(f"/proc/{process.pid}/clear_refs", "w") as peak:
        peak.write("5")


def test_large_files_pass_without_a_place_in_memory(web: Web, amy: Caller, provider: FilesProvider) -> None:
    uploaded(web, amy.key)
    content = b"a" * 64_000_000
    reset(web)
    before = resident(web)
    file_id = uploaded(web, amy.key, content)
    with CLIENT.stream("GET", f"{web.url}/v1/files/{file_id}/content", headers=credentials(amy.key)) as answer:
        time.sleep(0.5)
        assert sum(map(len, answer.iter_raw())) == len(content)
    assert resident(web) - before < 16_000_000


def test_others_are_answered_while_a_file_is_uploaded(
    web: Web, amy: Caller, upstream: Upstream, provider: FilesProvider
) -> None:
    provider_key = provider_keys.add_provider_key(
        name="messages", provider="anthropic", base_url=upstream.url, secret=PROVIDER_SECRET
    )
    dora = issue(upstream, "dora", provider_keys=[(provider_key, 1)])
    upstream.answer = whole(200, message())
    post(web, dora.key)
    with ThreadPoolExecutor() as pool:
        uploading = pool.submit(upload, web, amy.key, b"a" * 64_000_000)
        waits: list[float] = []
        while not uploading.done() or len(waits) < 5:
            began = time.monotonic()
            assert post(web, dora.key).status_code == 200
            waits.append(time.monotonic() - began)
        assert uploading.result().status_code == 200
    assert sorted(waits)[len(waits) // 2] < 0.2


# Rendezvous


def known(number: int, weight: int = 1) -> tuple[KnownProviderKey, int]:
    return KnownProviderKey(number, f"key {number}", "anthropic", "", "", ()), weight


WEIGHTED = st.dictionaries(st.integers(1, 1 << 40), st.integers(1, 1_000_000), min_size=1, max_size=8)


@settings(derandomize=True, deadline=None)
@given(st.text(), WEIGHTED)
def test_a_name_meets_the_same_key_whatever_else_comes_and_goes(name: str, weights: dict[int, int]) -> None:
    routes = [known(*each) for each in weights.items()]
    chosen = routing.rendezvous(name, routes)
    assert routing.rendezvous(name, routes[::-1]) == chosen
    for route in routes:
        if route[0] != chosen:
            assert routing.rendezvous(name, [other for other in routes if other != route]) == chosen


@settings(derandomize=True, deadline=None)
@given(st.text(), WEIGHTED, st.integers(1, 1 << 40))
def test_more_weight_never_sends_a_name_away(name: str, weights: dict[int, int], more: int) -> None:
    chosen = routing.rendezvous(name, [known(*each) for each in weights.items()])
    assert chosen.id is not None
    weights[chosen.id] += more
    assert routing.rendezvous(name, [known(*each) for each in weights.items()]) == chosen


def test_each_key_meets_its_share_of_names() -> None:
    routes = [known(1, 1), known(2, 2), known(3, 7)]
    met = [routing.rendezvous(f"team {number}", routes).id for number in range(10_000)]
    assert [met.count(number) for number in (1, 2, 3)] == pytest.approx([1000, 2000, 7000], abs=200)
