"""Where a call may go, and in which order. Pure, in memory: what a process knows decides; the arbiter says if it is
stale. docs/routing.md has the rules in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from keys import provider_kinds
from keys.directory import KnownKey, KnownProviderKey
from keys.model_names import fold
from messages_api import bindings, errors, markers
from messages_api.bindings import Bound
from messages_api.errors import GatewayError

Weighted = Sequence[tuple[KnownProviderKey, float]]

# The part of its weight that a provider key keeps for a model, by how it does.
Share = Callable[[KnownProviderKey, str], float]


@dataclass(frozen=True, slots=True)
class Target:
    """A provider key, and the model as its provider knows it (empty: the request names none).

    `asked` is the name that led here, of the request or of a fallback.
    """

    provider_key: KnownProviderKey
    model: str = ""
    asked: str = field(default="", compare=False)

    def sold_as(self, answered: str = "") -> str:
        """The name by which the model, or the one that answered in its place, has a price there."""
        key = self.provider_key
        return key.kind.sold_as(key.region, self.model, answered)


# For each model that may answer, in turn, where it may be called, in turn. None of them is empty.
Plan = list[list[Target]]


# Makes the plan for a virtual key as it is known now.
#
# Raises:
#     GatewayError: the call can't go anywhere.
Planner = Callable[[KnownKey], Plan]


# The one provider key that a call may go to; likewise.
Choose = Callable[[KnownKey], KnownProviderKey]


def only(choose: Choose) -> Planner:
    """The plan of a request that can go to one place, which names no model."""
    return lambda key: [[Target(choose(key))]]


def plan(
    key: KnownKey,
    models: Sequence[str],
    spoken: Container[str],
    conversation: Callable[[], str],
    bound: Sequence[Bound] = (),
    share: Share | None = None,
) -> Plan:
    """Where a call may go: for the model that was asked for and then for each of its fallbacks, the provider keys that
    serve it and understand what the request carries, those first that the conversation's other calls go to.

    Args:
        models: the one that was asked for, and its fallbacks, as they were named.
        spoken: the providers whose protocol the relay speaks.
        conversation: its name; asked for where there is a choice only.
        bound: what the request carries that not every account understands.
        share: asked for where the virtual key's weights adapt.

    Raises:
        GatewayError: of the model that was asked for: 403, the key may not use it; 404, no provider serves it; as
            `bindings.narrow`. A fallback that can't be used is left out.
    """
    share = share if key.adaptive_weights else None
    found = [stage(key, models[0], spoken, conversation, bound, share)]
    for name in models[1:]:
        try:
            found.append(stage(key, name, spoken, conversation, bound, share, fallback=True))
        except GatewayError:
            continue
    seen: set[Target] = set()
    for targets in found:
        targets[:] = [target for target in targets if target not in seen]
        seen.update(targets)
    return [targets for targets in found if targets]


def stage(
    key: KnownKey,
    asked: str,
    spoken: Container[str],
    conversation: Callable[[], str],
    bound: Sequence[Bound],
    share: Share | None,
    *,
    fallback: bool = False,
) -> list[Target]:
    """Where one model may be called, in turn. A fallback doesn't take a conversation away from the account that signed
    its thinking.

    Raises:
        GatewayError: as `plan`.
    """
    served = list(serving(key, asked, spoken))
    allowed = [each for each in served if key.allows(*names(asked, each[0]))]
    if not allowed:
        if served or not key.allows(asked):
            raise errors.forbidden(f"This virtual key may not use the model {asked}.", reason="model_not_allowed")
        # Anthropic's wording, which clients match on.
        raise errors.not_found(f"model: {asked}", reason="unknown_model")
    routes: Weighted = [(target.provider_key, weight) for target, weight in allowed]
    if bound:
        routes = bindings.narrow(key, asked, routes, bound, may_leave_signatures=not fallback)
    targets = {target.provider_key.id: target for target, _ in allowed}
    if len(routes) > 1:
        name = conversation()
        if share is not None:
            routes = [(route, weight * share(route, targets[route.id].model)) for route, weight in routes]
        # Where it was thought, the thinking is of use, signed or not.
        homes = [one for one in bound if one.is_minted(key)]
        routes = sorted(routes, key=lambda one: (not at_home(homes, one[0]), distance(name, *one)))
    return [targets[provider_key.id] for provider_key, _ in routes]


def at_home(homes: Sequence[Bound], provider_key: KnownProviderKey) -> bool:
    """Whether any of these lives in the account of this provider key."""
    return any(one.lives_at(provider_key) for one in homes)


def serving(key: KnownKey, asked: str, spoken: Container[str]) -> Iterator[tuple[Target, int]]:
    """The provider keys that serve a model, each with the model's name there and its weight. `provider/model` means one
    provider's, unless an administrator wrote the whole of it as a model of that provider key."""
    name = key.stands_for(asked)
    if name != asked and not any(name in provider_key.model_patterns for provider_key, _ in key.routes):
        name = markers.meant(name)
    provider, slash, model = name.partition("/")
    provider = fold(provider)
    prefixed = bool(slash and model) and provider_kinds.is_known(provider)
    for provider_key, weight in key.routes:
        if provider_key.provider not in spoken:
            continue
        if prefixed and not (provider_key.model_patterns and provider_key.serves(name)):
            if provider_key.provider == provider and provider_key.serves(model):
                yield Target(provider_key, model, asked), weight
        elif provider_key.serves(name):
            yield Target(provider_key, name, asked), weight


def names(asked: str, target: Target) -> set[str]:
    """What a model may be called in a list of allowed or denied ones."""
    return {asked, target.model, f"{target.provider_key.provider}/{target.model}"}


def home(key: KnownKey, provider_key: int | None, account: tuple[str, str]) -> KnownProviderKey | None:
    """What is kept in a provider's account is reached by: the provider key that it was made with, or another one of the
    same organisation and workspace; None where the virtual key has neither (any more).

    Args:
        provider_key: the one that it was made with; None for a caller with a provider's own key.
        account: organisation and workspace, empty where the provider doesn't say.
    """
    mapped = [each for each, _ in key.routes]
    made_with = (each for each in mapped if each.id == provider_key)
    return next(made_with, None) or next((each for each in mapped if account[0] and each.account == account), None)


def rendezvous(name: str, weighted: Weighted) -> KnownProviderKey:
    """The provider key for this name: the same for ever, on every process, as long as it is among them.

    Of many names, each provider key gets a share as large as its weight; one that is added takes names from all others
    in proportion, and those of one that goes are divided among them, and nothing else moves (rendezvous hashing).
    """
    return min(weighted, key=lambda one: distance(name, *one))[0]


def distance(name: str, provider_key: KnownProviderKey, weight: float) -> float:
    """An exponential variate of this rate: the least of several is each one's with the probability of its weight."""
    digest = blake2b(f"{name}\0{provider_key.id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return -math.log((int.from_bytes(digest) + 0.5) / 2**64) / weight
