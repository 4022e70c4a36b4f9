"""Saves the deployment's own names for models."""

from __future__ import annotations

from django.db import transaction

from keys import names
from keys.errors import refused
from keys.models import Gateway, ModelAlias


@transaction.atomic
def save(alias: ModelAlias) -> None:
    """Save a new or changed alias.

    Raises:
        Unusable: the name is taken or not a model name, or an alias would stand for another alias.
    """
    # One at a time: each check reads all other aliases.
    Gateway.objects.select_for_update().first()
    with refused():
        alias.full_clean()
    with names.unique(f"another alias is named “{alias.name}”: choose another name"):
        alias.save()
