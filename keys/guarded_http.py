"""An httpx client that connects only to addresses that keys/destinations.py has checked and permits."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import httpcore
import httpx

from keys.destinations import Destinations, Forbidden


class Backend(httpcore.SyncBackend):
    """Resolves a host itself, and connects only to permitted addresses.

    Resolving once, here, keeps DNS from giving another address between the check and the connection.
    """

    def __init__(self, destinations: Destinations) -> None:
        super().__init__()
        self.destinations = destinations

    def connect_tcp(self, host: str, port: int, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        try:
            addresses = self.destinations.resolve(host, port)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(str(error)) from error
        for address in addresses[:-1]:
            try:
                return super().connect_tcp(address, port, *args, **kwargs)
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return super().connect_tcp(addresses[-1], port, *args, **kwargs)


class Transport(httpx.HTTPTransport):
    """The transport for connections without a proxy."""

    def __init__(self, tls: ssl.SSLContext, destinations: Destinations) -> None:
        super().__init__(verify=tls, trust_env=False)
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls, max_connections=100, network_backend=Backend(destinations)
        )


def client(
    destinations: Destinations,
    *,
    tls: ssl.SSLContext,
    proxy: str = "",
    timeout: float | httpx.Timeout,
    direct: Iterable[str] = (),
    event_hooks: Mapping[str, list[Callable[..., Any]]] = MappingProxyType({}),
    **options: Any,
) -> httpx.Client:
    """An HTTP client that never follows redirects.

    Args:
        proxy: its URL. A proxy resolves names itself, so only a host's spelling is checked.
        direct: hosts that are called without the proxy.
    """

    def check(request: httpx.Request) -> None:
        try:
            destinations.check_spelling(request.url.host)
        except Forbidden as error:
            raise httpx.ConnectError(str(error), request=request) from error

    return httpx.Client(
        transport=Transport(tls, destinations),
        mounts={
            **({"all://": httpx.HTTPTransport(verify=tls, proxy=proxy, trust_env=False)} if proxy else {}),
            **{f"all://{host}": None for host in direct},
        },
        event_hooks={**event_hooks, "request": [check, *event_hooks.get("request", ())]},
        timeout=timeout,
        trust_env=False,
        follow_redirects=False,
        **options,
    )
