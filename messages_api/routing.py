"""Which provider key a call goes to. Pure, in memory: what a process knows decides; the arbiter says if it is stale."""

from __future__ import annotations

import random
from collections.abc import Container

from keys.directory import KnownKey, KnownProviderKey
from messages_api import errors


def route(key: KnownKey, model: str, spoken: Container[str]) -> KnownProviderKey:
    """The provider key for a call of this model, drawn by weight from those that serve it.

    Args:
        spoken: the providers whose protocol the relay speaks.

    Raises:
        GatewayError: 403, the key may not use the model; 404, nobody serves it.
    """
    if not key.allows(model):
        raise errors.forbidden(f"This virtual key may not use the model {model}.", reason="model_not_allowed")
    routes = [
        (provider_key, weight)
        for provider_key, weight in key.routes
        if provider_key.serves(model) and provider_key.provider in spoken
    ]
    if not routes:
        # Anthropic's wording, which clients match on.
        raise errors.not_found(f"model: {model}", reason="unknown_model")
    if len(routes) == 1:
        return routes[0][0]
    chosen: KnownProviderKey = random.choices(*zip(*routes, strict=True))[0]  # noqa: S311
    return chosen
