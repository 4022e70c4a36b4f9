"""Which addresses the gateway may connect to when a person typed them: for a provider key, a webhook or in a secret.

A private address must be permitted by the deployment (`ALLOWED_PRIVATE_HOSTS`). A cloud's metadata service is never
permitted. The check looks at the address that a host resolves to, however the host is spelled. It runs when the URL is
saved, and again before each connection (httpx: keys/guarded_http.py; the relay's clients: messages_api), which then
uses the checked address. With an outbound proxy only the spelling is checked, because the proxy resolves the host.
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

# Hosts and networks of clouds' metadata services, which give a machine its secrets.
METADATA_NAMES = frozenset({"metadata.google.internal", "metadata.goog", "metadata.azure.internal", "instance-data"})
METADATA = tuple(
    ip_network(each)
    for each in (
        *("169.254.0.0/16", "fe80::/10"),
        *("fd00:ec2::/32", "fd20:ce::254/128", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),
    )
)
# Networks that are not public, although Python's `is_global` says otherwise.
NOT_PUBLIC = tuple(ip_network(each) for each in ("192.88.99.0/24", "224.0.0.0/3", "2001::/23", "3fff::/20"))
PUBLIC_IPV6 = ip_network("2000::/3")
# IPv6 networks that lead to the IPv4 address in the last four bytes or, for 6to4, in those after the prefix.
EMBEDDING = tuple(ip_network(each) for each in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96"))
SIX_TO_FOUR = ip_network("2002::/16")

# A host name, or `*.` and a host name for all hosts below it.
NAME = re.compile(r"(?:\*\.)?[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?")


class Forbidden(OSError):
    """The gateway must not connect to this host. The message says why, without the addresses that DNS gave."""


METADATA_WORDS = "its address is link-local or a cloud's metadata service: the gateway never connects there"
PRIVATE_WORDS = "its address is private: ALLOWED_PRIVATE_HOSTS must name its host or network"


def nothing_kept() -> Collection[str]:
    """The default for `kept`: no host is exempt."""
    return ()


class Destinations:
    """The hosts and addresses that the gateway may connect to.

    Args:
        allowed: names and networks of permitted private hosts, as in ALLOWED_PRIVATE_HOSTS.
        kept: returns the hosts, in plain spelling, of URLs that were saved before the gateway checked addresses.
        metadata: hosts of the machine's metadata service, permitted where the gateway asks for the machine's identity.
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
        """Refuse a host without resolving it: a metadata service's name, or a forbidden address in any spelling.

        Raises:
            Forbidden: the gateway must not connect to it.
        """
        if plain_host(host) in METADATA_NAMES and plain_host(host) not in self.metadata:
            raise Forbidden(METADATA_WORDS)
        if (address := spelled(host)) is not None:
            self.check(host, address)

    def check(self, host: str, address: Address) -> None:
        """Refuse an address that a host resolves to.

        Raises:
            Forbidden: the gateway must not connect to it.
        """
        name, address = plain_host(host), meant(address)
        if name in self.metadata:
            return
        if name in METADATA_NAMES or is_in(address, METADATA):
            raise Forbidden(METADATA_WORDS)
        if not (is_public(address) or is_in(address, self.networks) or self._has_leave(name)):
            raise Forbidden(PRIVATE_WORDS)

    def names_private(self, host: str) -> bool:
        """Whether ALLOWED_PRIVATE_HOSTS names this host, or the network of the address that it is written as."""
        name, address = plain_host(host), spelled(host)
        if address is not None:
            return is_in(meant(address), self.networks)
        return name in self.names or any("*" + name[at:] in self.names for at, dot in enumerate(name) if dot == ".")

    def _has_leave(self, name: str) -> bool:
        return self.names_private(name) or provider_kinds.is_own_host(name) or name in self.kept()

    def permitted(self, host: str, addresses: Iterable[str]) -> list[str]:
        """The permitted ones of a host's addresses.

        Raises:
            Forbidden: no address is permitted.
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
        """Resolve a host and return its permitted addresses. Blocks while it resolves.

        Raises:
            Forbidden: none of its addresses is permitted.
            OSError: there is no host of this name.
        """
        return self.permitted(host, resolved(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)))

    def check_url(self, url: str) -> None:
        """Refuse a URL, before it is saved, by what its host resolves to now.

        A name that doesn't resolve passes: each connection is checked again.

        Raises:
            Forbidden: the gateway must not connect to its host.
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
    """The addresses in a result of `getaddrinfo`, without repetitions."""
    return list(dict.fromkeys(sockaddr[0] for *_, sockaddr in found))


def current(kept: Callable[[], Collection[str]] = nothing_kept, metadata: Collection[str] = ()) -> Destinations:
    """The deployment's destinations. A host that its configuration names is permitted without another setting."""
    configuration = settings.CONFIGURATION
    own = [host_of(configuration.passthrough_base_url)]
    return Destinations(
        [*configuration.allowed_private_hosts, *filter(NAME.fullmatch, own)], kept=kept, metadata=metadata
    )


class Saved(Protocol):
    """A row with a URL that a person typed."""

    predates_address_checks: bool

    @property
    def url(self) -> str:
        """The URL; empty stands for the provider's own address."""


def kept_hosts(rows: Iterable[Saved]) -> frozenset[str]:
    """The hosts that stay permitted although they may be private: their URLs predate the check of addresses."""
    return frozenset(host_of(row.url) for row in rows if row.predates_address_checks and row.url)


def host_of(url: str) -> str:
    """A URL's host in plain spelling; empty if it has none."""
    try:
        return plain_host(urlsplit(url).hostname or "")
    except ValueError:
        return ""


def plain_host(host: str) -> str:
    """The plain spelling of a host: NFKC characters, lower case, without brackets and trailing dots."""
    return unicodedata.normalize("NFKC", host).replace("\u3002", ".").lower().strip("[]").rstrip(".")


def spelled(host: str) -> Address | None:
    """The address that a host is written as, in any spelling that resolvers accept; None if it is a name.

    Resolvers accept `2130706433`, `0x7f.1`, `127.1` and `[::1%lo]`.
    """
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
    """The IPv4 address that an IPv6 address leads to, or else the address itself."""
    if isinstance(address, IPv6Address):
        if is_in(address, EMBEDDING) and int(address) > 1:  # :: and ::1 are IPv6's own
            return IPv4Address(int(address) & 0xFFFFFFFF)
        if address in SIX_TO_FOUR:
            return IPv4Address(int(address) >> 80 & 0xFFFFFFFF)
    return address


def is_public(address: Address) -> bool:
    """Whether the address is public, on the internet."""
    if isinstance(address, IPv6Address) and address not in PUBLIC_IPV6:
        return False
    return address.is_global and not is_in(address, NOT_PUBLIC)


def read_allowed(written: Iterable[str]) -> tuple[frozenset[str], tuple[Network, ...]]:
    """Split ALLOWED_PRIVATE_HOSTS into names and networks.

    Raises:
        ValueError: an entry is neither.
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
