"""Decides which targets a call may go to, and in which order. Pure, in memory: it uses the process's cache, and the
arbiter reports if that is stale. docs/routing.md has the rules in words.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b

from keys import provider_kinds
from keys.directory import KnownKey, KnownProviderKey
from keys.model_names import fold
from messages_api.relay import bindings
from messages_api.relay.bindings import Bound
from messages_api.request import markers
from messages_api.server import errors
from messages_api.server.errors import GatewayError

# The most models that a virtual key remembers the targets of.
MOST_REMEMBERED = 16

Weighted = Sequence[tuple[KnownProviderKey, float]]

# Returns the part of its weight that a provider key keeps for a model, by its performance.
WeightShare = Callable[[KnownProviderKey, str], float]


@dataclass(frozen=True, slots=True)
class Target:
    """A provider key, and the provider's name of the model (empty: the request names none). `asked` is the name in the
    request, or that of the fallback, which led to this target.
    """

    provider_key: KnownProviderKey
    model: str = ""
    asked: str = field(default="", compare=False)
    # The name under which the model has a price at this target, if no other model answers in its place.
    sold: str = field(default="", init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sold", self.sold_as())

    def sold_as(self, answered: str = "") -> str:
        """The name under which the model, or the one that answered in its place, has a price at this target."""
        key = self.provider_key
        return key.kind.sold_as(key.region, self.model, answered)


# For each model that may answer, in turn, its targets in turn. No list is empty.
Plan = list[list[Target]]


# Makes the plan for the current state of a virtual key.
#
# Raises:
#     GatewayError: the call has no target.
Planner = Callable[[KnownKey], Plan]


# Returns the only provider key that a call may go to, for the current state of a virtual key.
Choose = Callable[[KnownKey], KnownProviderKey]


def only(choose: Choose) -> Planner:
    """The plan of a request without a model, which has only one target."""
    return lambda key: [[Target(choose(key))]]


def plan(
    key: KnownKey,
    models: Sequence[str],
    spoken: Container[str],
    conversation: Callable[[], str],
    bound: Sequence[Bound] = (),
    share: WeightShare | None = None,
) -> Plan:
    """The targets of a call: for the requested model, then for each fallback, the provider keys that serve it and whose
    accounts have what the request carries. The provider key of the conversation's other calls comes first.

    Args:
        models: the requested one and its fallbacks, as the request names them.
        spoken: the providers whose protocol the relay speaks.
        conversation: returns the conversation's name. It is called only if there is a choice.
        bound: the bindings of what the request carries.
        share: given if the virtual key has adaptive weights.

    Raises:
        GatewayError: about the requested model: 403, the key may not use it; 404, no provider serves it; as
            `bindings.narrow`. A fallback that can't be used is left out.
    """
    share = share if key.adaptive_weights else None
    found = [stage(key, models[0], spoken, conversation, bound, share)]
    if len(models) == 1:
        return found
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
    share: WeightShare | None,
    *,
    fallback: bool = False,
) -> list[Target]:
    """The targets of one model, in turn. A fallback doesn't take a conversation away from the account that signed its
    thinking.

    Raises:
        GatewayError: as `plan`.
    """
    allowed = key.served.get(asked) or find_allowed(key, asked, spoken)
    routes: Weighted = [(target.provider_key, weight) for target, weight in allowed]
    if bound:
        routes = bindings.narrow(key, asked, routes, bound, may_leave_signatures=not fallback)
    targets = {target.provider_key.id: target for target, _ in allowed}
    if len(routes) > 1:
        name = conversation()
        if share is not None:
            routes = [(route, weight * share(route, targets[route.id].model)) for route, weight in routes]
        # The account that did the thinking can use it, signed or not.
        homes = [one for one in bound if one.is_minted(key)]
        routes = sorted(routes, key=lambda one: (not at_home(homes, one[0]), distance(name, *one)))
    return [targets[provider_key.id] for provider_key, _ in routes]


def find_allowed(key: KnownKey, asked: str, spoken: Container[str]) -> list[tuple[Target, int]]:
    """The targets to which the key may send calls for a model, each with its weight. The key remembers them: they stay
    the same until it is read again.

    Raises:
        GatewayError: 403, the key may not use it; 404, no provider serves it.
    """
    served = list(serving(key, asked, spoken))
    allowed = [each for each in served if key.allows(*names(asked, each[0]))]
    if not allowed:
        if served or not key.allows(asked):
            raise errors.forbidden(f"This virtual key may not use the model {asked}.", reason="model_not_allowed")
        # Anthropic's wording, which clients match on.
        raise errors.not_found(f"model: {asked}", reason="unknown_model")
    if len(key.served) < MOST_REMEMBERED:
        key.served[asked] = allowed
    return allowed


def at_home(homes: Sequence[Bound], provider_key: KnownProviderKey) -> bool:
    """Whether this provider key's account has any of these."""
    return any(one.lives_at(provider_key) for one in homes)


def serving(key: KnownKey, asked: str, spoken: Container[str]) -> Iterator[tuple[Target, int]]:
    """The provider keys that serve a model, each with the provider's name of the model and its weight. `provider/model`
    means the model of that provider, unless an administrator listed the whole name as a model of a provider key.
    """
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
    """The names of a model that a list of allowed or denied models may use."""
    return {asked, target.model, f"{target.provider_key.provider}/{target.model}"}


def home(key: KnownKey, provider_key: int | None, account: tuple[str, str]) -> KnownProviderKey | None:
    """The provider key that reaches an object in a provider's account: the one that created it, or another one of the
    same organisation and workspace. None if the virtual key has neither (any more).

    Args:
        provider_key: the one that created it; None for a caller with a provider's own key.
        account: organisation and workspace; empty if the provider doesn't name them.
    """
    mapped = [each for each, _ in key.routes]
    made_with = (each for each in mapped if each.id == provider_key)
    return next(made_with, None) or next((each for each in mapped if account[0] and each.account == account), None)


def rendezvous(name: str, weighted: Weighted) -> KnownProviderKey:
    """The provider key for this name, by rendezvous hashing: every process chooses the same one, as long as it is among
    them. Over many names, each provider key gets a share in proportion to its weight. An added provider key takes names
    from all others in proportion; the names of a removed one are divided among the rest. No other name moves.
    """
    return min(weighted, key=lambda one: distance(name, *one))[0]


def distance(name: str, provider_key: KnownProviderKey, weight: float) -> float:
    """An exponential variate whose rate is the weight: of several, each is the smallest with a probability in
    proportion to its weight.
    """
    digest = blake2b(f"{name}\0{provider_key.id}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return -math.log((int.from_bytes(digest) + 0.5) / 2**64) / weight
