"""Ids and names of models go into paths at providers, and never lead to other paths."""

from __future__ import annotations

import posixpath
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys import issuing
from keys.models import Customer
from messages_api.providers import paths
from messages_api.providers.openai import dialects
from messages_api.server.errors import GatewayError
from messages_api.stored.files import id_of
from tests.support.fake_provider import Upstream, whole
from tests.support.gateway import Caller, credentials, talk

OWN = "sk-ant-api03-" + "a" * 95
# As a client may write an id into the path of its request.
ODD = ["..", ".", "%2e%2e", "..%2f..", "%2Fv1%2Fmodels", "%252e%252e", "a%2fb", "a%5Cb", "..;", "a%0d%0ab", "a%00"]


def test_an_odd_id_of_a_file_or_batch_reaches_no_provider(
    start_web: Any, alice: Caller, served: None, upstream: Upstream
) -> None:
    Customer.objects.get_or_create(name="Acme")
    issuing.ensure_passthrough_key("Acme")
    upstream.answer = whole(200, b"{}")
    web = start_web(passthrough_customer="Acme", passthrough_base_url=upstream.url, ping_seconds=14)
    for key in (alice.key, OWN):
        secret = credentials(key)["authorization"]
        for odd in ODD:
            for method, path in (
                ("GET", f"/v1/files/{odd}"),
                ("GET", f"/v1/files/{odd}/content"),
                ("DELETE", f"/v1/files/{odd}"),
                ("GET", f"/v1/messages/batches/{odd}"),
                ("GET", f"/v1/messages/batches/{odd}/results"),
                ("POST", f"/v1/messages/batches/{odd}/cancel"),
                ("DELETE", f"/v1/messages/batches/{odd}"),
            ):
                head = f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: {secret}\r\ncontent-length: 0\r\n"
                status, _, body = talk(web, head.encode() + b"connection: close\r\n\r\n")
                assert status in (400, 404), (method, path, body)
    assert not [seen.target for seen in upstream.seen if "files" in seen.target or "batches" in seen.target]


@pytest.mark.parametrize("said", ["..", "../x", "a/b", "a b", "%2e%2e", "", "é"])
def test_a_providers_id_that_could_lead_to_another_path_is_ignored(said: str) -> None:
    assert id_of(b'{"id": "%b"}' % said.encode()) == ""


@given(st.one_of(st.text("./\\%2eEfF;?#a\r\n\0", max_size=12), st.text(max_size=20)))
def test_a_models_name_is_one_part_of_a_path_or_refused(name: str) -> None:
    try:
        part = paths.model(name)
    except GatewayError:
        return
    assert part.isascii()
    assert not set(part) & set("/\\?#;\r\n \0")
    assert unquote(part) == name
    for path in (part, unquote(part), unquote(part).replace("\\", "/")):
        assert posixpath.normpath(f"/model/{path}/invoke") == f"/model/{path}/invoke"


def test_models_whose_names_have_slashes_and_colons_are_called() -> None:
    arn = "arn:aws:bedrock:us-east-1:123:inference-profile/us.anthropic.claude-opus-4-5-v1:0"
    assert "/" not in paths.model(arn)
    address = dialects.address("https://x.openai.azure.com?api-version=2026-01-01", "gpt-5.5")
    assert address.startswith("https://x.openai.azure.com/openai/deployments/gpt-5.5/")
    with pytest.raises(GatewayError):
        dialects.address("https://x.openai.azure.com?api-version=2026-01-01", "..")
