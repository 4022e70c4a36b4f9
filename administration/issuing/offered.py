"""The models that a form for a key offers: those that the provider keys are known to serve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from keys import patterns
from keys.models import ModelAlias, ModelList, ProviderKey

# More than a person looks through; other names can be typed.
MOST = 400


@dataclass(frozen=True, slots=True)
class OfferedModel:
    """A model's name, and the ids of the provider keys that serve it; none for an alias, which is offered anyway."""

    name: str
    provider_keys: tuple[int, ...]


def offered(provider_keys: Sequence[ProviderKey]) -> list[OfferedModel]:
    """The models that these provider keys' providers list or that their settings name, and all aliases, by name."""
    lists = dict(ModelList.objects.filter(provider_key__in=provider_keys).values_list("provider_key_id", "listed"))
    found: dict[str, set[int]] = {name: set() for name in ModelAlias.objects.values_list("name", flat=True)[:MOST]}
    for key in provider_keys:
        names = [str(info.get("id", "")) for info in lists.get(key.pk, []) if isinstance(info, dict)]
        names += [name for name in key.model_patterns if "*" not in name]
        for name in names:
            if patterns.PATTERN.fullmatch(name) and (
                not key.model_patterns or patterns.matches(key.model_patterns, name)
            ):
                found.setdefault(name, set()).add(key.pk)
    return [OfferedModel(name, tuple(sorted(ids))) for name, ids in sorted(found.items())[:MOST]]
