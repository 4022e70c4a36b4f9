"""Where the gateway may connect because somebody typed an address: a provider key's, a webhook's, one in a secret.

An address that isn't public needs the deployment's leave (`ALLOWED_PRIVATE_HOSTS`), and a cloud's metadata has none.
What counts is the address that a host stands for, however it is spelled: it is looked at when it is saved, and again,
resolved, by whoever connects (httpx: keys/guarded_http.py, the relay's clients: messages_api), who then connects to
what was looked at. Only spelling is looked at where a proxy leads out, for the proxy resolves.
"""

from __future__ import annotations

import re
import socket
import unicodedata
from collections.abc import Callable, Collection, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Protocol
from urllib.parse import urlsplit

from django.conf import settings

from keys import provider_kinds
from keys.client_address import Address, Network, is_in

# Where clouds tell machines their secrets, or may.
METADATA_NAMES = frozenset({"metadata.google.internal", "metadata.goog", "metadata.azure.internal", "instance-data"})
METADATA = tuple(
    ip_network(each)
    for each in (
        *("169.254.0.0/16", "fe80::/10"),
        *("fd00:ec2::/32", "fd20:ce::254/128", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),
    )
)
# Not public, besides what Python's `is_global` knows.
NOT_PUBLIC = tuple(ip_network(each) for each in ("192.88.99.0/24", "224.0.0.0/3", "2001::/23", "3fff::/20"))
PUBLIC_IPV6 = ip_network("2000::/3")
# IPv6 that leads to the IPv4 address in its last bytes, or (6to4) after its prefix.
EMBEDDING = tuple(ip_network(each) for each in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"))
SIX_TO_FOUR = ip_network("2002::/16")

# A name, or a name with everything below it.
NAME = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")


class Forbidden(OSError):
    """The gateway doesn't connect there; the message says why, for people, and quotes nothing that was looked up."""


METADATA_WORDS = "its address is link-local or a cloud's metadata service: nothing is sent there"
PRIVATE_WORDS = "its address is private: ALLOWED_PRIVATE_HOSTS must name its host or network"


def nothing_kept() -> Collection[str]:
    """No host is served for the sake of what was saved before addresses were checked."""
    return ()


class Destinations:
    """Which hosts and addresses may be connected to.

    Args:
        allowed: private hosts, by name or network, as ALLOWED_PRIVATE_HOSTS has them.
        kept: gives the hosts of addresses that were saved before addresses were checked, in their plain spelling.
        metadata: hosts of the machine's own metadata, for what asks for its identity.
    """

    def __init__(
        self,
        allowed: Iterable[str],
        *,
        kept: Callable[[], Collection[str]] = nothing_kept,
        metadata: Collection[str] = (),
    ) -> None:
        self.names, self.networks = read_allowed(allowed)
        self.kept = kept
        self.metadata = frozenset(map(plain_host, metadata))

    def check_spelling(self, host: str) -> None:
        """Refuse a host by what it says itself: a name that is no one's to call, or an address in whatever spelling.

        Raises:
            Forbidden: it is refused.
        """
        if plain_host(host) in METADATA_NAMES and plain_host(host) not in self.metadata:
            raise Forbidden(METADATA_WORDS)
        if (address := spelled(host)) is not None:
            self.check(host, address)

    def check(self, host: str, address: Address) -> None:
        """Refuse an address that a host stands for.

        Raises:
            Forbidden: it is refused.
        """
        name, address = plain_host(host), meant(address)
        if name in self.metadata:
            return
        if name in METADATA_NAMES or is_in(address, METADATA):
            raise Forbidden(METADATA_WORDS)
        if not (is_public(address) or is_in(address, self.networks) or self._has_leave(name)):
            raise Forbidden(PRIVATE_WORDS)

    def _has_leave(self, name: str) -> bool:
        if name in self.names or provider_kinds.is_own_host(name) or name in self.kept():
            return True
        return any("*" + name[at:] in self.names for at, letter in enumerate(name) if letter == ".")

    def permitted(self, host: str, addresses: Iterable[str]) -> list[str]:
        """Those of a host's addresses that may be connected to.

        Raises:
            Forbidden: none may.
        """
        self.check_spelling(host)
        found, refusal = list[str](), Forbidden("there is no host of this name")
        for text in addresses:
            try:
                self.check(host, ip_address(text.partition("%")[0]))
            except Forbidden as error:
                refusal = error
            else:
                found.append(text)
        if not found:
            raise refusal
        return found

    def resolve(self, host: str, port: int) -> list[str]:
        """The addresses that may be connected to for this host; waits for the resolver.

        Raises:
            Forbidden: there are none.
            OSError: there is no host of this name.
        """
        return self.permitted(host, resolved(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))

    def check_url(self, url: str) -> None:
        """Refuse a URL that is to be saved, by what its host stands for now. A name that can't be resolved is left to
        whoever connects.

        Raises:
            Forbidden: it is refused.
        """
        parts = urlsplit(url)
        host = parts.hostname or ""
        self.check_spelling(host)
        if settings.CONFIGURATION.outbound_proxy:
            return
        try:
            self.resolve(host, parts.port or 443)
        except Forbidden:
            raise
        except (OSError, UnicodeError):
            return


def resolved(found: Iterable[tuple]) -> list[str]:  # type: ignore[type-arg]
    """The addresses in what a resolver gives, each once."""
    return list(dict.fromkeys(sockaddr[0] for *_, sockaddr in found))


def current(kept: Callable[[], Collection[str]] = nothing_kept, metadata: Collection[str] = ()) -> Destinations:
    """The deployment's. Where its configuration itself names a host, that needs no other leave."""
    configuration = settings.CONFIGURATION
    own = [host_of(configuration.passthrough_base_url)]
    return Destinations(
        [*configuration.allowed_private_hosts, *filter(NAME.fullmatch, own)], kept=kept, metadata=metadata
    )


class Saved(Protocol):
    """An address that somebody typed."""

    predates_address_checks: bool

    @property
    def url(self) -> str:
        """Empty: the provider's own."""


def kept_hosts(rows: Iterable[Saved]) -> frozenset[str]:
    """The hosts that are served although they may be private, for their addresses were saved before it was asked."""
    return frozenset(host_of(row.url) for row in rows if row.predates_address_checks and row.url)


def host_of(url: str) -> str:
    """A URL's host in its plain spelling; empty where it has none."""
    try:
        return plain_host(urlsplit(url).hostname or "")
    except ValueError:
        return ""


def plain_host(host: str) -> str:
    """One spelling for a host: compatible characters in their plain form, small letters, no brackets, no dots at the
    end."""
    return unicodedata.normalize("NFKC", host).replace("\u3002", ".").lower().strip("[]").rstrip(".")


def spelled(host: str) -> Address | None:
    """The address that a host is, in any spelling that resolvers take (`2130706433`, `0x7f.1`, `127.1`, `[::1%lo]`)."""
    text = plain_host(host).partition("%")[0]
    try:
        return ip_address(text)
    except ValueError:
        pass
    try:
        return None if set(text) - set("0123456789abcdefx.") else ip_address(socket.inet_aton(text))
    except (OSError, UnicodeError):
        return None


def meant(address: Address) -> Address:
    """The IPv4 address that an IPv6 address leads to, or itself."""
    if isinstance(address, IPv6Address):
        if is_in(address, EMBEDDING) and int(address) > 1:  # :: and ::1 are IPv6's own
            return IPv4Address(int(address) & 0xFFFFFFFF)
        if address in SIX_TO_FOUR:
            return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether it is an address of the internet."""
    if isinstance(address, IPv6Address) and address not in PUBLIC_IPV6:
        return False
    return address.is_global and not is_in(address, NOT_PUBLIC)


def read_allowed(written: Iterable[str]) -> tuple[frozenset[str], tuple[Network, ...]]:
    """Names and networks, of what the setting says.

    Raises:
        ValueError: one is neither.
    """
    names, networks = set(), []
    for each in written:
        try:
            networks.append(ip_network(each.strip("[]"), strict=False))
        except ValueError:
            if not NAME.fullmatch(name := plain_host(each)) or spelled(name) is not None:
                raise ValueError("expected names of hosts, addresses and networks like 10.0.0.0/8") from None
            names.add(name)
    return frozenset(names), tuple(networks)
