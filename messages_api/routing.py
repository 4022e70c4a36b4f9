"""Which provider key a call goes to. Pure, in memory: what a process knows decides; the arbiter says if it is stale."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Sequence
from hashlib import blake2b

from keys.directory import KnownKey, KnownProviderKey
from messages_api import bindings, errors
from messages_api.bindings import Bound

Weighted = Sequence[tuple[KnownProviderKey, int]]


def route(
    key: KnownKey,
    model: str,
    spoken: Container[str],
    conversation: Callable[[], str],
    bound: Sequence[Bound] = (),
) -> KnownProviderKey:
    """The provider key for a call of this model: of those that serve it and understand what the request carries, the
    one that the conversation's other calls go to.

    Args:
        spoken: the providers whose protocol the relay speaks.
        conversation: its name; asked for where there is a choice only.
        bound: what the request carries that not every account understands.

    Raises:
        GatewayError: 403, the key may not use the model; 404, nobody serves it; as `bindings.narrow`.
    """
    if not key.allows(model):
        raise errors.forbidden(f"This virtual key may not use the model {model}.", reason="model_not_allowed")
    routes: Weighted = [
        (provider_key, weight)
        for provider_key, weight in key.routes
        if provider_key.serves(model) and provider_key.provider in spoken
    ]
    if not routes:
        # Anthropic's wording, which clients match on.
        raise errors.not_found(f"model: {model}", reason="unknown_model")
    if bound:
        routes = bindings.narrow(key, model, routes, bound)
    if len(routes) == 1:
        return routes[0][0]
    return rendezvous(conversation(), routes)


def home(key: KnownKey, provider_key: int | None, account: tuple[str, str]) -> KnownProviderKey | None:
    """What is kept in a provider's account is reached by: the provider key that it was made with, or another one of the
    same organisation and workspace; None where the virtual key has neither (any more).

    Args:
        provider_key: the one that it was made with; None for a caller with a provider's own key.
        account: organisation and workspace, empty where the provider never said.
    """
    mapped = [each for each, _ in key.routes]
    made_with = (each for each in mapped if each.id == provider_key)
    return next(made_with, None) or next((each for each in mapped if account[0] and each.account == account), None)


def rendezvous(name: str, weighted: Weighted) -> KnownProviderKey:
    """The provider key for whatever has this name: the same for ever, on every process, as long as it is among them.

    Of many names, each provider key gets a share as large as its weight; one that is added takes names from all others
    in proportion, and those of one that goes are divided among them, and nothing else moves (rendezvous hashing).
    """
    return min(weighted, key=lambda one: distance(name, *one))[0]


def distance(name: str, provider_key: KnownProviderKey, weight: int) -> float:
    """An exponential variate of this rate: the least of several is each one's with the probability of its weight."""
    digest = blake2b(f"{name}\0{provider_key.id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return -math.log((int.from_bytes(digest) + 0.5) / 2**64) / weight
