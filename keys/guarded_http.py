"""An httpx client that connects only to addresses that keys/destinations.py has checked and permits.

httpx bounds each read and write, so a server that sends a byte now and then is never too slow. So a client may have
a time limit for its whole work.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import httpcore
import httpx

from keys.destinations import Destinations, Forbidden


class Deadline:
    """When everything must have happened.

    Args:
        seconds: from now; None: there is no end.
    """

    def __init__(self, seconds: float | None) -> None:
        self.at = None if seconds is None else time.monotonic() + seconds

    def left(self, timeout: float | None, late: type[Exception]) -> float | None:
        """The seconds of a step that may take `timeout` seconds.

        Raises:
            late: the time is over.
        """
        if self.at is None:
            return timeout
        left = self.at - time.monotonic()
        if left <= 0:
            raise late("it takes too long")
        return left if timeout is None else min(timeout, left)


class Stream(httpcore.NetworkStream):
    """A connection that ends at a deadline."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self.inner, self.deadline = inner, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self.inner.read(max_bytes, self.deadline.left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self.inner.write(buffer, self.deadline.left(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self.inner.close()

    def start_tls(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        kwargs["timeout"] = self.deadline.left(kwargs.get("timeout"), httpcore.ConnectTimeout)
        return Stream(self.inner.start_tls(*args, **kwargs), self.deadline)

    def get_extra_info(self, info: str) -> Any:
        return self.inner.get_extra_info(info)


class Timed(httpcore.SyncBackend):
    """Connects anywhere, until a deadline."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self.deadline = deadline

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, *args: Any, **kwargs: Any
    ) -> httpcore.NetworkStream:
        timeout = self.deadline.left(timeout, httpcore.ConnectTimeout)
        return Stream(super().connect_tcp(host, port, timeout, *args, **kwargs), self.deadline)


class Backend(Timed):
    """Resolves a host itself, and connects only to permitted addresses.

    Resolving once, here, keeps DNS from giving another address between the check and the connection.
    """

    def __init__(self, destinations: Destinations, deadline: Deadline) -> None:
        super().__init__(deadline)
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

    def __init__(self, tls: ssl.SSLContext, destinations: Destinations, deadline: Deadline) -> None:
        super().__init__(verify=tls, trust_env=False)
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls, max_connections=100, network_backend=Backend(destinations, deadline)
        )


class ProxyTransport(httpx.HTTPTransport):
    """The transport for connections through a proxy."""

    def __init__(self, tls: ssl.SSLContext, proxy: str, deadline: Deadline) -> None:
        super().__init__(verify=tls, proxy=proxy, trust_env=False)
        self._pool._network_backend = Timed(deadline)


def client(
    destinations: Destinations,
    *,
    tls: ssl.SSLContext,
    proxy: str = "",
    timeout: float | httpx.Timeout,
    whole: float | None = None,
    direct: Iterable[str] = (),
    event_hooks: Mapping[str, list[Callable[..., Any]]] = MappingProxyType({}),
    **options: Any,
) -> httpx.Client:
    """An HTTP client that never follows redirects.

    Args:
        whole: seconds, from now, after which the client gives up; None: only each step has a timeout.
        proxy: its URL. A proxy resolves names itself, so only a host's spelling is checked.
        direct: hosts that are called without the proxy.
    """

    def check(request: httpx.Request) -> None:
        try:
            destinations.check_spelling(request.url.host)
        except Forbidden as error:
            raise httpx.ConnectError(str(error), request=request) from error

    deadline = Deadline(whole)
    return httpx.Client(
        transport=Transport(tls, destinations, deadline),
        mounts={
            **({"all://": ProxyTransport(tls, proxy, deadline)} if proxy else {}),
            **{f"all://{host}": None for host in direct},
        },
        event_hooks={**event_hooks, "request": [check, *event_hooks.get("request", ())]},
        timeout=timeout,
        trust_env=False,
        follow_redirects=False,
        **options,
    )
