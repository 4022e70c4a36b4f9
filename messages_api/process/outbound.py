"""Creates the HTTP client that the deployment has chosen for providers."""

from __future__ import annotations

from keys.destinations import Destinations
from messages_api.process.deployment import Deployment
from messages_api.upstream.client import UpstreamClient, tls_context
from messages_api.upstream.lean import LeanClient
from messages_api.upstream.with_aiohttp import AiohttpClient


def upstream_client(deployment: Deployment, allowed: Destinations) -> UpstreamClient:
    """Create the client. Only aiohttp's can use a proxy."""
    tls = tls_context(deployment.ca_bundle)
    connect, first_byte = deployment.upstream_connect_seconds, deployment.upstream_first_byte_seconds
    if deployment.outbound_proxy or deployment.upstream_client == "aiohttp":
        return AiohttpClient(
            tls=tls,
            destinations=allowed,
            proxy=deployment.outbound_proxy,
            connect_seconds=connect,
            first_byte_seconds=first_byte,
        )
    return LeanClient(tls=tls, destinations=allowed, connect_seconds=connect, first_byte_seconds=first_byte)
