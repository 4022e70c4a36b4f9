"""The address of a request's client, for limits, logs and pages.

Any client can send `X-Forwarded-For`. The gateway believes it only from the deployment's proxies (`TRUSTED_PROXIES`),
and reads it from the right end, where the nearest proxy adds the address that it saw.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from django.conf import settings

Scope = Mapping[str, Any]
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# The address of a request that came without a network, through a local socket.
UNKNOWN = "unknown"

# The longest chain of proxies that is followed. Addresses beyond it are not believed.
MOST_PROXIES = 20
# No address is longer, whichever way a proxy writes it.
LONGEST = 100
# The headers in which proxies describe their clients. They are dropped from requests of untrusted peers.
FORWARDED = b"x-forwarded-for"
SAID_BY_PROXIES = frozenset({FORWARDED, b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"forwarded"})


def client_address(scope: Scope) -> str:
    """The address of an ASGI request's client, in its usual spelling."""
    peer = (scope.get("client") or (UNKNOWN, 0))[0]
    proxies = trusted_proxies()
    if not proxies:
        return str(read(peer) or peer)
    forwarded = [value.decode("latin-1") for name, value in scope["headers"] if name == FORWARDED]
    return seen_through(peer, forwarded, proxies)


def seen_through(peer: str, forwarded: Iterable[str], proxies: Sequence[Network]) -> str:
    """The first address from the right that is not one of the deployment's proxies.

    Args:
        peer: the address that is connected to the gateway.
        forwarded: the request's `X-Forwarded-For` headers, in their order.
    """
    believed = read(peer)
    said = ",".join(forwarded).rsplit(",", MOST_PROXIES)[-MOST_PROXIES:]
    while believed is not None and said and is_in(believed, proxies):
        before = read(said.pop())
        if before is None:  # not an address: a proxy hides its client, or a client made it up
            break
        believed = before
    return peer if believed is None else str(believed)


def as_pages_see_it(scope: Scope) -> dict[str, Any]:
    """The same request for code that doesn't know about proxies, such as Django's.

    The client's address replaces the proxy's, and headers that only a trusted proxy may send are dropped. If the
    deployment names no proxies, the peer is believed about TLS only.
    """
    headers = scope["headers"]
    if any(name in SAID_BY_PROXIES for name, _ in headers):
        hidden = {FORWARDED} if not trusted_proxies() or is_from_proxy(scope) else SAID_BY_PROXIES
        headers = [(name, value) for name, value in headers if name not in hidden]
    return {**scope, "client": (client_address(scope), 0), "headers": headers}


def is_from_proxy(scope: Scope) -> bool:
    """Whether the peer is one of the deployment's proxies."""
    peer = read((scope.get("client") or (UNKNOWN, 0))[0])
    return peer is not None and is_in(peer, trusted_proxies())


def network_of(address: str) -> str:
    """The network that limits count as one caller: an IPv4 address, or the /64 of an IPv6 address.

    A network gives each of its customers at least a /64, so a single IPv6 address means little.
    """
    known = read(address)
    if isinstance(known, IPv6Address):
        return str(ip_network((known, 64), strict=False))
    return str(known or address)


def read(text: str) -> Address | None:
    """An address as proxies write it (`192.0.2.1`, `192.0.2.1:4711`, `[2001:db8::1]:4711`), or None."""
    return parsed(text) if len(text) <= LONGEST else None


@lru_cache(maxsize=1024)
def parsed(text: str) -> Address | None:
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
    """Whether the address lies in one of the networks."""
    return any(address in network for network in networks)


def trusted_proxies() -> tuple[Network, ...]:
    """The networks in `TRUSTED_PROXIES`."""
    return networks(tuple(settings.CONFIGURATION.trusted_proxies))


@lru_cache(maxsize=8)
def networks(written: tuple[str, ...]) -> tuple[Network, ...]:
    """Parse networks as settings write them: `10.0.0.0/8`, or a single address.

    Raises:
        ValueError: a text is not a network.
    """
    return tuple(ip_network(each, strict=False) for each in written)
