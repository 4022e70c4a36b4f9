"""Who is calling: the address of a request's client, wherever one is used (limits, logs, pages).

Anybody can write an `X-Forwarded-For`. It is believed from the proxies that the deployment names (`TRUSTED_PROXIES`)
alone, and read from its right end, where the nearest of them has added what it saw.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from django.conf import settings

Scope = MutableMapping[str, Any]
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Of a request that came over no network.
UNKNOWN = "unknown"

# Proxies in a row that are looked through; what is said beyond them is not believed.
MOST_PROXIES = 20
# What a proxy says of its client. Who isn't trusted can say none of it.
FORWARDED = b"x-forwarded-for"
SAID_BY_PROXIES = frozenset({FORWARDED, b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"forwarded"})


def client_address(scope: Scope) -> str:
    """The address that an ASGI request came from, in its usual spelling."""
    peer = (scope.get("client") or (UNKNOWN, 0))[0]
    proxies = trusted_proxies()
    if not proxies:
        return str(read(peer) or peer)
    forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == FORWARDED]
    return seen_through(peer, forwarded, proxies)


def seen_through(peer: str, forwarded: Iterable[str], proxies: Sequence[Network]) -> str:
    """The address of the first from the right whom we don't take for a proxy of ours.

    Args:
        peer: who is connected to us.
        forwarded: the request's `X-Forwarded-For` headers, in their order.
    """
    believed = read(peer)
    said = ",".join(forwarded).rsplit(",", MOST_PROXIES)[-MOST_PROXIES:]
    while believed is not None and said and is_in(believed, proxies):
        before = read(said.pop())
        if before is None:  # a proxy that hides its client, or no proxy at all
            break
        believed = before
    return peer if believed is None else str(believed)


def as_pages_see_it(scope: Scope) -> dict[str, Any]:
    """The same request with its client's address in place of the proxy's, and nothing that only a proxy may say: for
    code that knows no proxies. Where the deployment names none, the one in front is believed about TLS only."""
    headers = scope["headers"]
    if any(name in SAID_BY_PROXIES for name, _ in headers):
        hidden = {FORWARDED} if not trusted_proxies() or is_from_proxy(scope) else SAID_BY_PROXIES
        headers = [(name, value) for name, value in headers if name not in hidden]
    return {**scope, "client": (client_address(scope), 0), "headers": headers}


def is_from_proxy(scope: Scope) -> bool:
    """Whether a proxy of ours is connected to us."""
    peer = read((scope.get("client") or (UNKNOWN, 0))[0])
    return peer is not None and is_in(peer, trusted_proxies())


def network_of(address: str) -> str:
    """What counts as one caller in limits: an IPv4 address, or the /64 of an IPv6 address, which one customer of a
    network has to themselves."""
    known = read(address)
    if isinstance(known, IPv6Address):
        return str(ip_network((known, 64), strict=False))
    return str(known or address)


def read(text: str) -> Address | None:
    """An address as proxies write it (`192.0.2.1`, `192.0.2.1:4711`, `[2001:db8::1]:4711`), or None."""
    text = text.strip().strip('"')
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def is_in(address: Address, networks: Iterable[Network]) -> bool:
    """Whether one of these networks has this address."""
    return any(address in network for network in networks)


def trusted_proxies() -> tuple[Network, ...]:
    """The deployment's proxies."""
    return networks(tuple(settings.CONFIGURATION.trusted_proxies))


@lru_cache(maxsize=8)
def networks(written: tuple[str, ...]) -> tuple[Network, ...]:
    """Networks as settings write them: `10.0.0.0/8`, or one address.

    Raises:
        ValueError: one is none.
    """
    return tuple(ip_network(each, strict=False) for each in written)
