"""Typed addresses lead nowhere private without leave, however they are spelled, and never to a cloud's metadata."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import httpx
import pytest
from django.conf import settings
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from hypothesis import given
from hypothesis import strategies as st

from keys import guarded_http, provider_keys
from keys.destinations import Destinations, Forbidden, kept_hosts
from keys.errors import Unusable
from keys.models import ProviderKey
from tests.support.client_kinds import Caller as Client
from tests.support.client_kinds import caller as caller
from tests.support.client_kinds import remade
from tests.support.dripping import dripping
from tests.support.fake_provider import Upstream, whole
from tests.support.gateway import Web, ask, issue, message, post

LOOPBACK = ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost", "localhost.", "LOCALHOST"]
NETWORKS = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "198.18.0.0/15", "224.0.0.0/4"]


def spellings(address: IPv4Address) -> list[str]:
    """Of one address, all that resolvers take."""
    number, parts = int(address), str(address).split(".")
    return [
        str(address),
        f"{address}.",
        f"{number}",
        f"{number:#x}",
        f"0{number:o}",
        ".".join(f"0{int(part):o}" for part in parts),
        ".".join(f"{int(part):#x}" for part in parts),
        f"{parts[0]}.{number & 0xFFFFFF}",
        f"{parts[0]}.{parts[1]}.{number & 0xFFFF}",
        "".join(chr(0xFF10 + int(each)) if each.isdigit() else "\u3002" for each in str(address)),
        f"[::ffff:{address}]",
        f"[{IPv6Address(number)}]",
        f"[{IPv6Address(number | int(IPv6Address('64:ff9b::')))}]",
        f"[{IPv6Address(number << 80 | int(IPv6Address('2002::')))}]",
        f"[fe80::{number & 0xFFFF:x}%lo]",
    ]


def is_refused(where: Destinations, host: str) -> bool:
    try:
        where.check_spelling(host)
    except Forbidden:
        return True
    return False


@given(st.sampled_from(NETWORKS).flatmap(lambda network: st.ip_addresses(v=4, network=network)))
def test_private_addresses_are_refused_in_every_spelling(address: IPv4Address) -> None:
    assert [host for host in spellings(address) if not is_refused(Destinations([]), host)] == []
    by_leave = [host for host in spellings(address) if is_refused(Destinations([f"{address}/32"]), host)]
    assert by_leave == spellings(address)[-1:]


@given(st.ip_addresses(v=4, network="169.254.0.0/16"))
def test_metadata_is_refused_in_every_spelling_even_if_its_network_is_allowed(address: IPv4Address) -> None:
    everything = Destinations(["0.0.0.0/0", "::/0", "*.internal", "metadata.google.internal"])
    named = ["metadata.google.internal", "METADATA.google.internal.", "[fd00:ec2::254]", "100.100.100.200", "[fe80::1]"]
    for host in [*spellings(address), *named]:
        assert is_refused(everything, host), host
    with pytest.raises(Forbidden):
        everything.check("anything.internal", address)


@pytest.mark.parametrize(
    "host", ["8.8.8.8", "160.79.104.10", "[2607:6bc0::10]", "[64:ff9b::808:808]", "api.example.com"]
)
def test_addresses_of_the_internet_need_no_leave(host: str) -> None:
    assert not is_refused(Destinations([]), host)


def test_hosts_are_permitted_by_name_by_parent_domain_and_by_network() -> None:
    where = Destinations(["vllm.internal", "*.lan.example", "10.1.0.0/16"], kept=lambda: {"old.internal"})
    private = ip_address("192.168.0.1")
    for host in ("vllm.internal", "VLLM.internal.", "a.lan.example", "a.b.lan.example", "old.internal"):
        where.check(host, private)
    where.check("anything", ip_address("10.1.2.3"))
    where.check("api.anthropic.com", private)
    for host in ("lan.example", "xlan.example", "evil-vllm.internal", "vllm.internal.evil.example"):
        with pytest.raises(Forbidden):
            where.check(host, private)


@pytest.mark.parametrize("wrong", ["10.0.0.0/33", "http://host", "a b", "0x7f.1", "*", "host:80"])
def test_a_setting_that_is_neither_a_name_nor_a_network_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="names of hosts"):
        Destinations([wrong])


def test_clients_of_providers_go_nowhere_private_however_it_is_spelled(caller: Client, upstream: Upstream) -> None:
    upstream.answer = whole(200, b"ok")
    port = upstream.url.rpartition(":")[2]
    caller.client = caller.run(remade(caller, destinations=Destinations(["127.0.0.0/8"])))
    assert caller.get(f"http://localhost:{port}").body == b"ok"
    caller.client = caller.run(remade(caller, destinations=Destinations([])))
    seen = len(upstream.seen)
    for host in [*LOOPBACK, "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]"]:
        error = caller.fail(f"http://{host}:{port}")
        assert (error.kind, error.sent) == ("not_connected", False), host
    assert len(upstream.seen) == seen


def test_httpx_goes_nowhere_private_however_it_is_spelled_and_resolves_once(
    upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    upstream.answer = whole(200, b"ok")
    port, tls = upstream.url.rpartition(":")[2], ssl.create_default_context()
    with guarded_http.client(Destinations([]), tls=tls, timeout=5) as http:
        for host in [*LOOPBACK, "[::1]", "[::ffff:127.0.0.1]", "\uff11\uff12\uff17.0.0.1"]:
            with pytest.raises((httpx.HTTPError, httpx.InvalidURL)):
                http.get(f"http://{host}:{port}")
    assert not upstream.seen
    asked = list[Any]()
    resolve = socket.getaddrinfo

    def once(host: Any, *args: Any, **kwargs: Any) -> Any:
        asked.append(host)
        return resolve("127.0.0.1" if host == "hook.example" else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    with guarded_http.client(Destinations(["hook.example"]), tls=tls, timeout=5) as http:
        assert http.get(f"http://hook.example:{port}").text == "ok"
    assert asked.count("hook.example") == 1


def test_where_a_proxy_resolves_spelling_is_looked_at(upstream: Upstream) -> None:
    upstream.answer = whole(200, b"ok")
    tls = ssl.create_default_context()
    with guarded_http.client(Destinations([]), tls=tls, timeout=5, proxy=upstream.url) as http:
        assert http.get("http://example.com/").text == "ok"
        for host in ("10.0.0.1", "0xa000001", "169.254.169.254", "metadata.google.internal"):
            with pytest.raises(httpx.ConnectError):
                http.get(f"http://{host}/")
    assert len(upstream.seen) == 1


@pytest.mark.parametrize("through", ["directly", "a proxy"])
def test_a_server_that_sends_a_byte_now_and_then_is_given_up_after_the_whole_time(through: str) -> None:
    tls = ssl.create_default_context()
    with dripping() as url:
        target, proxy = (url, "") if through == "directly" else ("http://example.com/", url)
        allowed = Destinations(["127.0.0.0/8"])
        with (
            guarded_http.client(allowed, tls=tls, timeout=5, whole=0.5, proxy=proxy) as http,
            pytest.raises(httpx.TimeoutException),
        ):
            http.get(target)


@pytest.mark.django_db
def test_private_base_urls_are_saved_by_leave_only_and_old_ones_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, *_: Any, **__: Any) -> Any:
        if host == "inside.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("10.0.0.7", 443))]
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    about: dict[str, Any] = {"provider": "anthropic", "secret": "sk-ant-a-secret-1234"}
    for url in (
        "http://10.0.0.1",
        "https://inside.example",
        "http://0x0a.1",
        "http://[fd00::1]:8000",
        "http://169.254.169.254",
    ):
        with pytest.raises(Unusable, match="the base URL can't be used: its address is"):
            provider_keys.add_provider_key(name="inside", base_url=url, **about)
    provider_keys.add_provider_key(name="unknown", base_url="https://no.such.example", **about)
    monkeypatch.setattr(settings.CONFIGURATION, "allowed_private_hosts", ["inside.example"])
    inside = provider_keys.add_provider_key(name="inside", base_url="https://inside.example", **about)
    assert not inside.predates_address_checks

    monkeypatch.setattr(settings.CONFIGURATION, "allowed_private_hosts", [])
    ProviderKey.objects.filter(pk=inside.pk).update(predates_address_checks=True)
    old = ProviderKey.objects.get(pk=inside.pk)
    old.name = "renamed"
    provider_keys.save(old)
    assert ProviderKey.objects.get(pk=old.pk).predates_address_checks
    old.base_url = "https://inside.example/other"
    with pytest.raises(Unusable, match="its address is private"):
        provider_keys.save(old, "sk-ant-a-secret-1234")
    old.base_url = "https://no.such.example"
    provider_keys.save(old, "sk-ant-a-secret-1234")
    assert not ProviderKey.objects.get(pk=old.pk).predates_address_checks


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("client", ["lean", "aiohttp"])
def test_calls_go_to_private_addresses_that_were_there_before_and_to_no_others(
    start_web: Callable[..., Web], upstream: Upstream, client: str
) -> None:
    web = start_web(allowed_private_hosts="", retry_attempts=1, upstream_client=client)
    upstream.answer = whole(200, message(), ("content-type", "application/json"))
    alice = issue(upstream)
    assert post(web, alice.key, ask()).status_code == 502
    assert not upstream.seen
    ProviderKey.objects.update(predates_address_checks=True)
    assert json.loads(post(web, alice.key, ask()).content)["type"] == "message"


@pytest.mark.long
def test_an_upgrade_goes_on_serving_the_addresses_that_are_there(apart: str) -> None:
    executor = MigrationExecutor(connection)
    latest = executor.loader.graph.leaf_nodes()
    executor.migrate([("keys", "0013_virtual_key_names")])
    try:
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO keys_providerkey (name, provider, base_url, secret_ciphertext, secret_hint,"
                " model_patterns, active, organization_id, workspace_id)"
                " VALUES ('old', 'anthropic', 'http://10.0.0.1', '', '', '{}', true, '', '')"
            )
    finally:
        MigrationExecutor(connection).migrate(latest)
    new = ProviderKey.objects.create(name="new", provider="anthropic", base_url="http://10.0.0.2")
    old = ProviderKey.objects.get(name="old")
    assert (old.predates_address_checks, new.predates_address_checks) == (True, False)
    assert kept_hosts([old, new]) == {"10.0.0.1"}
