"""Bytes of files on their way: too many, broken off, stalled, in part, and never in memory at once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from django.conf import settings as project
from django.db import connection, transaction
from django.test import override_settings

from keys import issuing, provider_keys
from keys.models import ProviderKey
from messages_api.models import File
from messages_api.server import handler
from messages_api.server.errors import GatewayError
from tests.support.fake_provider import End, Upstream, chunk, head, whole
from tests.support.file_calls import amy as amy
from tests.support.file_calls import call, ids, multipart, raw_upload, upload, uploaded
from tests.support.file_calls import provider as provider
from tests.support.files_provider import FilesProvider
from tests.support.gateway import (
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


def test_a_complete_upload_is_carried_out_even_if_the_client_disconnects(
    web: Web, amy: Caller, provider: FilesProvider
) -> None:
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
