"""The refresh of providers' lists of models in the database, from where web processes read them.

A provider is asked every hour, soon after its key was added or changed, and more often while it fails to answer. Its
last list stays until it returns another one.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import httpx
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone

from keys.demo_data import is_demo
from keys.models import Cooldown, Gateway, ModelList, ProviderKey
from messages_api import providers
from messages_api.stored import control_plane
from messages_api.stored.control_plane import BAD_ADDRESS, NoAnswer
from messages_api.upstream.client import Headers

logger = logging.getLogger(__name__)

EVERY = timedelta(hours=1)
AGAIN_AFTER_A_PROBLEM = timedelta(minutes=5)

# The most time for a whole list, all pages together.
SECONDS = 30.0
MOST_BYTES = 16 * 1024 * 1024
# The longest id of a model: the ledger cuts off longer ones.
ID_LENGTH = 200
# Maximum number of models of a list, and bytes of one model's description: each process keeps all lists, and searches
# those of a key for each request about models. The longest lists (of resellers) have a few hundred models, of some kB
# each.
MOST_MODELS = 2000
MOST_DESCRIBED = 16 * 1024


def refresh_due() -> None:
    """Ask each provider whose list is due. Of all processes, only one asks for a given key.

    A deployment with demo data asks none: its providers' hosts don't exist.
    """
    if is_demo():
        return
    unlisted = ProviderKey.objects.filter(active=True, provider__in=providers.lists_models(), model_list=None)
    ModelList.objects.bulk_create(
        [ModelList(provider_key=provider_key) for provider_key in unlisted], ignore_conflicts=True
    )
    for models in due():
        refresh(models)


def due() -> QuerySet[ModelList]:
    """The lists to refresh now, except those of provider keys that are cooling down."""
    now = timezone.now()
    cooling = Cooldown.objects.filter(provider_key=OuterRef("provider_key"), model="", until__gt=now)
    return ModelList.objects.select_related("provider_key").filter(
        ~Exists(cooling),
        Q(asked_at=None) | Q(asked_at__lt=now - EVERY) | Q(asked_at__lt=now - AGAIN_AFTER_A_PROBLEM) & ~Q(problem=""),
        provider_key__active=True,
        provider_key__provider__in=providers.lists_models(),
    )


def refresh(models: ModelList) -> None:
    """Refresh one list. Does nothing if another process has just claimed it; discards the answer if the key is changed
    meanwhile, which makes the list due again."""
    now = timezone.now()
    row = ModelList.objects.filter(pk=models.pk)
    if not row.filter(asked_at=models.asked_at).update(asked_at=now):
        return
    try:
        listed = fetch(models.provider_key)
    except NoAnswer as problem:
        logger.warning("cannot refresh the models of provider key %s: %s", models.provider_key.name, problem)
        row.filter(asked_at=now).update(problem=str(problem)[:200])
    else:
        with transaction.atomic():
            # Every change of the directory locks this row first: another order could deadlock.
            Gateway.objects.select_for_update().first()
            row.filter(asked_at=now).update(listed=listed, listed_at=now, problem="")


def fetch(provider_key: ProviderKey) -> list[dict[str, Any]]:
    """The models that the provider lists, in Anthropic's format.

    Raises:
        NoAnswer: the provider can't be reached, or its answer is no list of models.
    """
    deadline = time.monotonic() + SECONDS
    models: dict[str, dict[str, Any]] = {}
    try:
        with control_plane.plain_client(provider_key, whole=2 * SECONDS) as http:

            def get(url: str, headers: Headers, query: Mapping[str, str | int]) -> object:
                return json.loads(control_plane.read(http, url, query, deadline, MOST_BYTES, headers))

            secret = control_plane.secret(provider_key)
            for model in providers.find(provider_key.provider).list_models(provider_key.base_url, secret, get):
                if len(models) == MOST_MODELS:
                    logger.warning("provider key %s lists more models than are kept", provider_key.name)
                    break
                if usable(model):
                    models.setdefault(model["id"], model)
    except httpx.HTTPError as error:
        raise NoAnswer(f"the provider can't be reached ({type(error).__name__})") from None
    except httpx.InvalidURL:
        raise NoAnswer(BAD_ADDRESS) from None
    except (ValueError, RecursionError):
        raise NoAnswer("the provider's answer is no list of models") from None
    return list(models.values())


def usable(model: Any) -> bool:
    """Whether this describes a model and can be stored: PostgreSQL's JSON has no null bytes, no infinities and no half
    characters."""
    if not isinstance(model, dict) or not isinstance(model.get("id"), str) or not 1 <= len(model["id"]) <= ID_LENGTH:
        return False
    try:
        described = json.dumps(model, ensure_ascii=False, allow_nan=False).encode()
    except ValueError:
        return False
    return len(described) <= MOST_DESCRIBED and b"\\u0000" not in described
