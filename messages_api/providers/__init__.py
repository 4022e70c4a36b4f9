"""The protocols that the relay can speak: a file each, found in this folder, with a class that says all that there is
to know of its provider."""

from __future__ import annotations

import importlib
import pkgutil

from messages_api.providers.base import SPOKEN, Outgoing, Provider
from messages_api.upstream import UpstreamClient

__all__ = ["Outgoing", "Provider", "find", "lists_models", "providers"]

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)


def providers(client: UpstreamClient) -> dict[str, Provider]:
    """Every provider by its name."""
    return {name: provider(client) for name, provider in SPOKEN.items()}


def find(name: str) -> type[Provider]:
    """The provider of this name."""
    return SPOKEN[name]


def lists_models() -> list[str]:
    """The names of those that can be asked which models they have."""
    return [name for name, provider in SPOKEN.items() if provider.lists_models]
