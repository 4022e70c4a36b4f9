"""The registry of provider kinds: what the gateway must know about each provider besides how to call it.

Each kind is a class in its own file in messages_api/providers, which registers it when the apps are ready. Facts about
a provider stand only there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any, ClassVar, TypeVar
from urllib.parse import SplitResult

from keys.errors import Unusable
from keys.model_names import fold, is_fast


class ProviderKind:
    """The defaults, which hold for most providers. A kind overrides what is different.

    Attributes:
        name: its name in commands, model prefixes and the ledger.
        label: its name for people.
        takes_secret: whether calls need a secret.
        takes_base_url: whether a provider key may set another address.
        needs_base_url: why a provider key must set one; empty if it need not.
        takes_region: whether it is called in a region.
        takes_project: whether it is called for a project, which is billed.
        has_batches: whether it accepts Anthropic's message batches.
        has_files: whether it stores files.
        sells_claude: whether the gateway assumes that it offers Anthropic's models before its list is read.
        sells: other models that the gateway assumes it offers.
        price_lists: the price lists of the catalogue to look its models up in.
        guesses: the price lists whose prices are only a guess for this provider.
        regional_lists: the price lists that have separate prices for inference that stays in a region.
        signs_thinking: whether it signs its thinking, and therefore refuses thinking that others signed.
        keeps_residency: whether `inference_geo`, which keeps inference in the US, costs extra.
        billed_refusals: the categories in which a refusal before any output is billed, each with its flag in ledger
            rows (`usage.price_flags`). Refusals in other categories are free. None: refusals are billed like answers.
        keeps_caches_as_asked: whether it caches for as long as `cache_control` asks.
        tier_rates: the price of each service tier as a multiple of the list price, where the catalogue has no price for
            it; `*` stands for any other tier. Empty: the tier doesn't change the price.
        own_hosts: the hosts that it is called at when a provider key has no base URL. They may resolve to private
            addresses, because a deployment may use a private endpoint.
    """

    name: ClassVar[str] = ""
    label: ClassVar[str] = ""
    takes_secret: ClassVar[bool] = True
    takes_base_url: ClassVar[bool] = True
    needs_base_url: ClassVar[str] = ""
    takes_region: ClassVar[bool] = False
    takes_project: ClassVar[bool] = False
    has_batches: ClassVar[bool] = False
    has_files: ClassVar[bool] = False
    sells_claude: ClassVar[bool] = True
    sells: ClassVar[tuple[str, ...]] = ()
    price_lists: ClassVar[tuple[str, ...]] = ()
    guesses: ClassVar[tuple[str, ...]] = ()
    regional_lists: ClassVar[tuple[str, ...]] = ()
    signs_thinking: ClassVar[bool] = True
    keeps_residency: ClassVar[bool] = False
    billed_refusals: ClassVar[Mapping[str, str] | None] = None
    keeps_caches_as_asked: ClassVar[bool] = False
    tier_rates: ClassVar[Mapping[str, Decimal]] = {}
    own_hosts: ClassVar[re.Pattern[str] | None] = None

    @classmethod
    def check_secret(cls, secret: str) -> None:
        """Refuse a malformed secret. The message never shows it.

        Raises:
            Unusable: the secret is malformed.
        """
        check_header(secret)

    @classmethod
    def check_address(cls, url: str, parts: SplitResult) -> None:
        """Refuse a base URL that this kind can't be called at.

        Raises:
            Unusable: the URL is not valid for this kind.
        """
        if "?" in url or "#" in url:
            raise Unusable("the base URL has a query or a fragment: leave it out")

    @classmethod
    def check_use(cls, secret: str, base_url: str) -> None:
        """Refuse a secret that must not be used at this address.

        Raises:
            Unusable: the secret must not go there.
        """

    @classmethod
    def project_of(cls, secret: str) -> str:
        """The project that the secret names; empty if it names none."""
        return ""

    @classmethod
    def sold_as(cls, region: str, asked: str, answered: str) -> str:
        """The name under which a call is priced: the model that answered or, without one, the model asked for.

        A kind whose prices depend on more, such as the region, adds it to the name. If the seller has fast mode as a
        model of its own, an answer may name the model without it.
        """
        if answered and is_fast(asked) and not is_fast(answered) and "claude" in fold(answered):
            return f"{answered}-fast"
        return answered or asked

    @classmethod
    def called(cls, sold: str) -> str:
        """The name to call a model by, from the name under which it is priced (`sold_as`)."""
        return sold

    @classmethod
    def listed(cls, sold: str) -> tuple[str, str, bool]:
        """A model's name in the kind's own price lists, its name in Anthropic's list, and whether inference stays in a
        region.
        """
        name = fold(cls.called(sold))
        return name, name, False


Kind = TypeVar("Kind", bound=type[ProviderKind])
_kinds: dict[str, type[ProviderKind]] = {}


def register(kind: Kind) -> Kind:
    """Add a kind to the registry. Use it as a decorator."""
    _kinds[kind.name] = kind
    return kind


def find(name: str) -> type[ProviderKind]:
    """The kind of this name. For an unknown name, such as that of a removed kind, the defaults."""
    return _kinds.get(name, ProviderKind)


def names(**having: bool) -> list[str]:
    """The names of all kinds whose attributes have these values."""
    return sorted(
        name for name, kind in _kinds.items() if all(getattr(kind, each) == value for each, value in having.items())
    )


def is_own_host(host: str) -> bool:
    """Whether a host belongs to a provider."""
    return any(kind.own_hosts is not None and kind.own_hosts.fullmatch(host) for kind in _kinds.values())


def is_known(name: str) -> bool:
    """Whether a kind of this name is registered."""
    return name in _kinds


def choices() -> list[tuple[str, str]]:
    """Names and labels of all kinds, for forms."""
    return sorted((name, kind.label) for name, kind in _kinds.items())


# Secrets


def check_header(secret: str) -> None:
    """Refuse a secret that a header can't carry unchanged.

    Raises:
        Unusable: it contains characters that an API key can't have.
    """
    if not (secret.isascii() and secret.isprintable() and " " not in secret):
        raise Unusable("the secret contains spaces, line breaks or other characters that an API key can't have")


def check_object(secret: str, required: Collection[str], optional: Collection[str] = ()) -> None:
    """Refuse a secret that is not a JSON object with these members.

    Raises:
        Unusable: it is not an object, lacks a member, or has another one.
    """
    members = object_of(secret)
    if missing := sorted(set(required) - members.keys()):
        raise Unusable(f"the secret's JSON object lacks {' and '.join(missing)}")
    if members.keys() - set(required) - set(optional):
        raise Unusable(f"the secret's JSON object may contain only {', '.join(sorted({*required, *optional}))}")
    if not all(isinstance(value, str) and value and value.isascii() for value in members.values()):
        raise Unusable("every member of the secret's JSON object must be a non-empty ASCII string")


def object_of(secret: str) -> dict[str, Any]:
    """Parse a secret that is a JSON object.

    Raises:
        Unusable: it is not a JSON object.
    """
    try:
        members = json.loads(secret)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):
        raise Unusable("the secret is not a JSON object")
    return members
