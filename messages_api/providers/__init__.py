"""The protocols that the relay can speak: one class each, chosen by the provider key's provider."""

from __future__ import annotations

from collections.abc import Mapping

from messages_api.providers import anthropic
from messages_api.providers.anthropic import Anthropic
from messages_api.providers.azure import Azure
from messages_api.providers.base import ListModels, Outgoing, Provider
from messages_api.providers.bedrock import Bedrock
from messages_api.providers.echo import Echo
from messages_api.providers.openai import OpenAI, listing
from messages_api.providers.vertex import Vertex
from messages_api.upstream import UpstreamClient

__all__ = ["LISTS", "Outgoing", "Provider", "providers"]

# How providers are asked which models they have; those that aren't here can't be, or needn't.
LISTS: Mapping[str, ListModels] = {"anthropic": anthropic.models, "openai": listing.models}


def providers(client: UpstreamClient) -> dict[str, Provider]:
    """Every provider by its name in `keys.models.Provider`; one that is missing can't be routed to yet."""
    return {
        "anthropic": Anthropic(client),
        "azure": Azure(client),
        "bedrock": Bedrock(client),
        "echo": Echo(),
        "openai": OpenAI(client),
        "vertex": Vertex(client),
    }
