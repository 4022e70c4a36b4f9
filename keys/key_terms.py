"""Changes the terms of a virtual key that is not revoked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from keys import issuing, names, virtual_keys
from keys.errors import Unusable
from keys.issuing import Routes
from keys.models import VirtualKey, VirtualKeyRoute


@transaction.atomic
def change(virtual_key: VirtualKey, terms: Mapping[str, Any], routes: Routes | None = None) -> VirtualKey:
    """Change some terms of a key, and return the key.

    Args:
        terms: new values by field: name, team, owner, active, allowed_models, denied_models, fallback_models,
            max_tokens, default_max_tokens, adaptive_weights, expires_at, labels.
        routes: all of its provider keys with their weights; None keeps them.

    Raises:
        Unusable: the key is revoked or the gateway's own, or `issuing.issue_virtual_key` would refuse such a key.
    """
    row = VirtualKey.objects.select_for_update().get(pk=virtual_key.pk)
    if row.passthrough:
        raise Unusable(f"“{row}” is the gateway's own virtual key and can't be changed")
    if row.revoked_at:
        raise Unusable(f"the virtual key “{row}” is revoked: issue another one")
    expires_at = row.expires_at
    for name, value in terms.items():
        setattr(row, name, value)
    row.name = names.check(row.name, "the virtual key")
    virtual_keys.check_name(row)
    if row.expires_at != expires_at:
        issuing.check_expiry(row.expires_at)
    issuing.check_terms(row, [key for key, _ in routes] if routes is not None else list(row.provider_keys.all()))
    with names.unique(virtual_keys.taken(row)):
        row.save(update_fields=list(terms) or None)
    if routes is not None:
        _set_routes(row, routes)
    return row


def _set_routes(virtual_key: VirtualKey, routes: Routes) -> None:
    issuing.check_weights(routes)
    wanted = {provider_key.pk: weight for provider_key, weight in routes}
    for route in virtual_key.routes.all():
        weight = wanted.pop(route.provider_key_id, None)
        if weight is None:
            route.delete()
        elif weight != route.weight:
            route.weight = weight
            route.save(update_fields=["weight"])
    VirtualKeyRoute.objects.bulk_create(
        VirtualKeyRoute(virtual_key=virtual_key, provider_key_id=provider_key, weight=weight)
        for provider_key, weight in wanted.items()
    )
