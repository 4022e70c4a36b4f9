"""The kinds of providers that there are: what the gateway has to know of one besides how it is called.

Each is a class in a file of its own (messages_api/providers), which registers it when the apps are ready: nothing about
a provider is said anywhere else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any, ClassVar, TypeVar
from urllib.parse import SplitResult

from keys.errors import Unusable
from keys.model_names import fold


class ProviderKind:
    """What is true of most; a kind says what is different.

    Attributes:
        name: in commands, prefixes of models and the ledger.
        label: for people.
        takes_secret: whether it is called with one.
        takes_base_url: whether it may be called at another address; `needs_base_url` says why it must be, if it must.
        takes_region: whether it is called in a region, and `takes_project`, for a project.
        has_batches: whether it takes Anthropic's message batches, and `has_files`, keeps files.
        sells_claude: whether it may be taken to offer Anthropic's models before it was asked, and `sells`, what else.
        price_lists: those of the catalogue that its models are looked up in, and `guesses`, where what is found is one.
        regional_lists: those of them that have prices of their own where inference is kept in a region.
        signs_thinking: whether its thinking has signatures, so that it refuses those of others.
        keeps_residency: whether keeping inference in the US costs extra, by `inference_geo`.
        billed_refusals: of refusals before any output, the categories that are billed, each with what a ledger row says
            of it (`usage.price_flags`); all others cost nothing. None: refusals are billed like any answer.
        keeps_caches_as_asked: whether it keeps what it writes to a cache for as long as `cache_control` says.
        tier_rates: what the service tier of an answer costs, in list prices, where the catalogue doesn't say; `*`: any
            other. Empty: the tier changes nothing.
        own_hosts: the hosts that it is called at where a provider key has no base URL: where they lead to is what the
            deployment's resolver says, a private endpoint too.
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
        """Refuse what can't be a secret; the message never shows it.

        Raises:
            Unusable: it can't.
        """
        check_header(secret)

    @classmethod
    def check_address(cls, url: str, parts: SplitResult) -> None:
        """Refuse a base URL that this kind can't be called at.

        Raises:
            Unusable: with what is wrong.
        """
        if "?" in url or "#" in url:
            raise Unusable("the base URL has a query or a fragment: leave it out")

    @classmethod
    def check_use(cls, secret: str, base_url: str) -> None:
        """Refuse a secret that must not be used at this address.

        Raises:
            Unusable: it must not.
        """

    @classmethod
    def project_of(cls, secret: str) -> str:
        """The project that a secret is for, where it says so."""
        return ""

    @classmethod
    def sold_as(cls, region: str, asked: str, answered: str) -> str:
        """By which name a model has its price: the one that answered in place of the one that was asked for, if there
        is one, with what its price depends on besides."""
        return answered or asked

    @classmethod
    def called(cls, sold: str) -> str:
        """The name that a model is called by, of that by which it is sold."""
        return sold

    @classmethod
    def listed(cls, sold: str) -> tuple[str, str, bool]:
        """A model's name in the kind's own price lists, its name in Anthropic's, and whether inference stays in a
        region."""
        name = fold(cls.called(sold))
        return name, name, False


Kind = TypeVar("Kind", bound=type[ProviderKind])
_kinds: dict[str, type[ProviderKind]] = {}


def register(kind: Kind) -> Kind:
    """Make a kind known."""
    _kinds[kind.name] = kind
    return kind


def find(name: str) -> type[ProviderKind]:
    """The kind of this name; of a name that nobody knows (any more), what is true of most."""
    return _kinds.get(name, ProviderKind)


def names(**having: bool) -> list[str]:
    """The names of all kinds, or of those that have these attributes."""
    return sorted(
        name for name, kind in _kinds.items() if all(getattr(kind, each) == value for each, value in having.items())
    )


def is_own_host(host: str) -> bool:
    """Whether a host is that of a provider itself."""
    return any(kind.own_hosts is not None and kind.own_hosts.fullmatch(host) for kind in _kinds.values())


def is_known(name: str) -> bool:
    """Whether there is a kind of this name."""
    return name in _kinds


def choices() -> list[tuple[str, str]]:
    """Names and labels, for forms."""
    return sorted((name, kind.label) for name, kind in _kinds.items())


# Secrets


def check_header(secret: str) -> None:
    """Refuse what can't travel in a header, whole.

    Raises:
        Unusable: it has other characters than an API key can have.
    """
    if not (secret.isascii() and secret.isprintable() and " " not in secret):
        raise Unusable("the secret has spaces, line breaks or other characters that an API key can't have")


def check_object(secret: str, required: Collection[str], optional: Collection[str] = ()) -> None:
    """Refuse a JSON object that lacks a member, or has one that nobody knows.

    Raises:
        Unusable: it does, or is none.
    """
    members = object_of(secret)
    if missing := sorted(set(required) - members.keys()):
        raise Unusable(f"the secret is a JSON object without {' and '.join(missing)}")
    if members.keys() - set(required) - set(optional):
        raise Unusable(f"the secret is a JSON object with more than {', '.join(sorted({*required, *optional}))}")
    if not all(isinstance(value, str) and value and value.isascii() for value in members.values()):
        raise Unusable("the secret is a JSON object with a member that is no plain text")


def object_of(secret: str) -> dict[str, Any]:
    """The secret's members.

    Raises:
        Unusable: it is no JSON object.
    """
    try:
        members = json.loads(secret)
    except (ValueError, RecursionError):
        members = None
    if not isinstance(members, dict):
        raise Unusable("the secret is not a JSON object")
    return members
