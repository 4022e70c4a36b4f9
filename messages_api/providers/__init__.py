"""The protocols that the relay speaks. Each is a module or package in this folder, which is found automatically. It
has one class with all facts about its provider."""

from __future__ import annotations

import importlib
import pkgutil

from messages_api.providers.base import SPOKEN, Outgoing, Provider
from messages_api.upstream.client import UpstreamClient

__all__ = ["Outgoing", "Provider", "find", "lists_models", "providers"]

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_module.name)


def providers(client: UpstreamClient) -> dict[str, Provider]:
    return {name: provider(client) for name, provider in SPOKEN.items()}


def find(name: str) -> type[Provider]:
    return SPOKEN[name]


def lists_models() -> list[str]:
    """The names of the providers that can list their models."""
    return [name for name, provider in SPOKEN.items() if provider.lists_models]
