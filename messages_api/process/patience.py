"""The time-outs of a provider: its provider key's own, or else the deployment's."""

from __future__ import annotations

from dataclasses import astuple

from keys.directory import KnownProviderKey
from keys.timeouts import DEPLOYMENTS, Timeouts
from messages_api.process.deployment import Deployment


class Patience:
    """The time-outs of one deployment."""

    def __init__(self, deployment: Deployment) -> None:
        self.default = Timeouts(
            deployment.upstream_connect_seconds,
            deployment.upstream_first_byte_seconds,
            deployment.upstream_between_bytes_seconds,
            deployment.upstream_total_seconds,
        )

    def timeouts(self, provider_key: KnownProviderKey) -> Timeouts:
        """The time-outs for this provider key."""
        own = provider_key.timeouts
        if own is DEPLOYMENTS or own == DEPLOYMENTS:
            return self.default
        return Timeouts(*(mine or default for mine, default in zip(astuple(own), astuple(self.default), strict=True)))
