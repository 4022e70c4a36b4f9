"""Callers of /v1/files, in front of a provider that keeps files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from keys import provider_keys
from keys.models import ProviderKey, VirtualKeyRoute
from tests.support.files_provider import FilesProvider
from tests.support.gateway import (
    CLIENT,
    Caller,
    Web,
    credentials,
    issue,
)

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
    """The head of an upload of this number of bytes."""
    head = f"POST /v1/files HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\ncontent-length: {size}\r\n"
    return head.encode() + b"content-type: multipart/form-data; boundary=xyz\r\n\r\n"


def add_account(provider: FilesProvider, caller: Caller, name: str, organization: str = "") -> ProviderKey:
    """A further provider key of this caller's."""
    secret = f"sk-ant-{name}"
    provider.accounts[secret] = (organization or name, "default")
    key = provider_keys.add_provider_key(name=name, provider="anthropic", base_url=provider.url, secret=secret)
    VirtualKeyRoute.objects.create(virtual_key=caller.virtual_key, provider_key=key)
    return key
