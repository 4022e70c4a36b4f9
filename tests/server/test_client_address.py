"""Whose address a request has: the peer's, or what a proxy that the deployment trusts says of it."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from keys.client_address import as_pages_see_it, client_address, network_of, networks, seen_through

PROXIES = networks(("10.0.0.0/8", "fd00::/8"))
ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@pytest.fixture
def behind_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings.CONFIGURATION, "trusted_proxies", ["10.0.0.0/8"])


def scope(peer: str, **headers: str) -> dict[str, Any]:
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "client": (peer, 4711), "headers": named}


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("192.0.2.7", ["198.51.100.1"], "192.0.2.7"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.9, 198.51.100.1, 10.2.3.4"], "198.51.100.1"),
        ("10.0.0.1", ["203.0.113.9", "198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ['"[2001:db8::1]:4711"'], "2001:db8::1"),
        ("::ffff:10.0.0.1", ["::ffff:198.51.100.1"], "198.51.100.1"),
        ("fd00::1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["198.51.100.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.2"], "10.0.0.2"),
        ("10.0.0.1", [""], "10.0.0.1"),
        ("10.0.0.1", [], "10.0.0.1"),
    ],
)
def test_forwarded_addresses_are_read_from_the_right_and_from_trusted_proxies_only(
    peer: str, forwarded: list[str], client: str
) -> None:
    assert seen_through(peer, forwarded, PROXIES) == client


@given(peer=ADDRESSES, made_up=st.lists(st.one_of(ADDRESSES.map(str), st.text()), max_size=30), seen=ADDRESSES)
def test_what_a_client_writes_itself_never_changes_its_address(
    peer: IPv4Address | IPv6Address, made_up: list[str], seen: IPv4Address | IPv6Address
) -> None:
    said = ", ".join(made_up)
    untrusted = str(peer) if not any(peer in network for network in PROXIES) else "192.0.2.7"
    assert seen_through(untrusted, [said], PROXIES) == seen_through(untrusted, [], PROXIES)
    if not any(seen in network for network in PROXIES):
        assert seen_through("10.0.0.1", [said, str(seen)], PROXIES) == seen_through(str(seen), [], PROXIES)


def test_no_peer_is_believed_if_no_proxy_is_named() -> None:
    assert client_address(scope("127.0.0.1", x_forwarded_for="198.51.100.1")) == "127.0.0.1"


@pytest.mark.usefixtures("behind_proxies")
def test_pages_see_the_client_and_believe_only_proxies_that_it_came_over_tls() -> None:
    seen = as_pages_see_it(scope("10.0.0.1", x_forwarded_for="198.51.100.1", x_forwarded_proto="https"))
    assert seen["client"] == ("198.51.100.1", 0)
    assert seen["headers"] == [(b"x-forwarded-proto", b"https")]
    direct = as_pages_see_it(scope("192.0.2.7", x_forwarded_for="198.51.100.1", x_forwarded_proto="https"))
    assert (direct["client"], direct["headers"]) == (("192.0.2.7", 0), [])


def test_a_network_of_ipv6_addresses_is_one_caller() -> None:
    assert network_of("2001:db8:1:2:3::4") == network_of("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert network_of("192.0.2.7") == "192.0.2.7"
