"""The models that a virtual key may use, and pages of them. Pure: the providers' lists are arguments."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache

from django.http import QueryDict

from keys import provider_kinds
from keys.directory import KnownKey, KnownProviderKey
from keys.model_lists import ListedModel
from keys.model_names import fold
from messages_api.providers.base import model_info
from messages_api.relay import routing
from messages_api.request import markers
from messages_api.server import errors, paging
from messages_api.server.paging import Wanted
from usage import named_models, pricing

Lists = Mapping[int, Sequence[ListedModel]]

CALLABLE = ("active", "deprecated")
LIFECYCLES = (*CALLABLE, "retired")
# Claude's earlier versions are retired.
OLDEST_VERSION = 4


# The models of a key


def usable(key: KnownKey, lists: Lists, spoken: Container[str]) -> dict[str, ListedModel]:
    """The models that a key may use, by the names (in lower case) that calls use for them.

    The first provider key that offers a model describes it. Models that providers list come first, then those that only
    an administrator names (private models, aliases).

    Args:
        spoken: the providers whose protocol the relay speaks.
    """
    offers = list(offered(key, lists, spoken))
    found: dict[str, ListedModel] = {}
    for provider_key, models in offers:
        here = key.with_route(provider_key)
        for model in models:
            name = called(here, provider_key.provider, model.id, spoken)
            if name:
                found.setdefault(fold(name), model if name == model.id else renamed(model, name))
    for provider_key, models in offers:
        here = key.with_route(provider_key)
        for name in (*provider_key.model_patterns, *key.allowed):
            if "*" not in name and fold(name) not in found and leads_to(here, name, spoken):
                known = dated(name, models)
                found[fold(name)] = renamed(known, name) if known else described(name)
    return found


def find(key: KnownKey, lists: Lists, spoken: Container[str], name: str) -> ListedModel:
    """One model that the key may use. An alias, or a name of the form provider/model, returns the model that it stands
    for, as Anthropic's aliases do.

    Raises:
        GatewayError: 404, the key may not use it, or no provider key offers it.
    """
    models = usable(key, lists, spoken)
    for called in dict.fromkeys((name, markers.meant(name))):
        model = models.get(fold(called)) or stood_for(key, lists, spoken, called)
        if model is not None:
            return model
    # Anthropic's wording, which clients match on.
    raise errors.not_found(f"model: {name}", reason="unknown_model")


def stood_for(key: KnownKey, lists: Lists, spoken: Container[str], name: str) -> ListedModel | None:
    """The model that an alias, or a name of the form provider/model, stands for."""
    return next(
        (
            found
            for provider_key, models in offered(key, lists, spoken)
            for target in leads_to(key.with_route(provider_key), name, spoken)
            if (found := named(target, models) or dated(target, models))
        ),
        None,
    )


def offered(
    key: KnownKey, lists: Lists, spoken: Container[str]
) -> Iterator[tuple[KnownProviderKey, Sequence[ListedModel]]]:
    """The key's provider keys with the models that their providers listed, or until then, those presumably on sale."""
    for provider_key, _ in key.routes:
        if provider_key.provider in spoken:
            yield provider_key, lists.get(provider_key.id or 0) or on_sale(provider_key.provider)


def called(key: KnownKey, provider: str, model: str, spoken: Container[str]) -> str:
    """The name by which a key calls a provider's model: the model's own name, or provider/model if the own name leads
    to another model. Empty: the key may not call it."""
    return next((name for name in (model, f"{provider}/{model}") if model in leads_to(key, name, spoken)), "")


def leads_to(key: KnownKey, name: str, spoken: Container[str]) -> list[str]:
    """The models that a call by this name may go to. A name with a slash may mean provider/model."""
    return [
        target.model for target, _ in routing.serving(key, name, spoken) if key.allows(*routing.names(name, target))
    ]


# Models that no provider has described


def named(name: str, models: Iterable[ListedModel]) -> ListedModel | None:
    return next((model for model in models if fold(model.id) == fold(name)), None)


def dated(alias: str, models: Iterable[ListedModel]) -> ListedModel | None:
    """The model that an alias stands for: `claude-haiku-4-5` for `claude-haiku-4-5-20251001`."""
    name = fold(alias).removesuffix("-latest")
    undated = named_models.SUFFIX
    return next((model for model in models if fold(model.id) != name == undated.sub("", fold(model.id))), None)


def renamed(model: ListedModel, name: str) -> ListedModel:
    """The model under another name."""
    return ListedModel(name, model.lifecycle, json.dumps(json.loads(model.info) | {"id": name}))


@lru_cache(maxsize=4096)
def described(name: str) -> ListedModel:
    """A model as the price catalogue describes it, without a provider's description."""
    listing = pricing.find_listing("anthropic", name)
    entry = listing.model if listing and not listing.similar else None
    shown, window = (entry.name or "", entry.context_window) if entry else ("", None)
    info = model_info(name, display_name=shown, max_input_tokens=window)
    return ListedModel(name, "active", json.dumps(info))


@cache
def on_sale(provider: str) -> tuple[ListedModel, ...]:
    """The models that a provider presumably offers, until it has listed them."""
    kind = provider_kinds.find(provider)
    names = [entry.id for entry in pricing.catalogue()["anthropic"].models] if kind.sells_claude else []
    versions = ((name, pricing.CLAUDE_VERSION.match(name)) for name in names)
    claude = [name for name, version in versions if version and int(version[1]) >= OLDEST_VERSION]
    return tuple(described(name) for name in (*kind.sells, *claude))


# Pages


def lifecycles(query: QueryDict) -> tuple[str, ...]:
    """The lifecycles of the models that a query string asks for.

    Raises:
        GatewayError: 400, one of them doesn't exist.
    """
    wanted = (*query.getlist("lifecycle[]"), *query.getlist("lifecycle"))
    if any(lifecycle not in LIFECYCLES for lifecycle in wanted):
        raise errors.invalid_request(f"lifecycle: it must be one of {', '.join(LIFECYCLES)}.")
    return wanted or CALLABLE


def page(models: Iterable[ListedModel], wanted: Wanted, lifecycles: tuple[str, ...] = CALLABLE) -> bytes:
    """The JSON of one page.

    Raises:
        GatewayError: 400, the list has no model of the given id.
    """
    listed = [model for model in models if model.lifecycle in lifecycles]
    if wanted.before:
        end = place(listed, wanted.before, "before_id")
        start = max(0, end - wanted.limit)
        has_more = start > 0
    else:
        start = place(listed, wanted.after, "after_id") + 1 if wanted.after else 0
        end = start + wanted.limit
        has_more = end < len(listed)
    return paging.page([(model.id, model.info.encode()) for model in listed[start:end]], has_more=has_more)


def place(models: Sequence[ListedModel], name: str, parameter: str) -> int:
    """The position of a model in the list.

    Raises:
        GatewayError: 400, the list doesn't have it.
    """
    ids = [fold(model.id) for model in models]
    for called in (fold(name), fold(markers.meant(name))):
        if called in ids:
            return ids.index(called)
    raise errors.invalid_request(f"{parameter}: this list has no such model.")
