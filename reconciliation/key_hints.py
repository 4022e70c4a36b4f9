"""Which of our provider keys a reported API key is: by the ends of its secret, without typing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from django.db import transaction

from keys import keyring
from keys.models import ProviderKey
from reconciliation.reports.rows import ApiKey
from reconciliation.sources import AdminKey, ReportedKey

# What stands for the middle of a secret: `sk-ant-api03-R2D...igAA`, `sk-abc…def`, `sk-abc***def`.
MIDDLE = re.compile(r"\.{3,}|…|\*+")
# With fewer characters, too many secrets fit.
LEAST_TAIL, LEAST_ENDS = 3, 6
HINT_LENGTH = 100


def ends_of(hint: str) -> tuple[str, str] | None:
    """The first and last characters that a hint shows; None: it shows too little of the secret."""
    parts = MIDDLE.split(hint)
    if len(parts) != 2:
        return None
    head, tail = parts
    # The kind of a key (`sk-ant-api03-`) is the same for all of them.
    own = re.sub(r"^sk-(ant-[a-z]+[0-9]*-|proj-|svcacct-)?", "", head)
    return (head, tail) if len(tail) >= LEAST_TAIL and len(own) + len(tail) >= LEAST_ENDS else None


def fits(hint: str, secret: str) -> bool:
    """Whether a secret has these ends."""
    ends = ends_of(hint)
    if ends is None:
        return False
    head, tail = ends
    return len(secret) > len(head) + len(tail) and secret.startswith(head) and secret.endswith(tail)


def secrets(provider: str) -> dict[int, str]:
    """The secrets of the provider keys of this kind that can be decrypted, by id."""
    found = {}
    for row in ProviderKey.objects.filter(provider=provider).exclude(secret_ciphertext=b""):
        try:
            secret = keyring.decrypt(row.secret_ciphertext)
        except keyring.UnreadableSecret:
            continue
        found[row.pk] = secret[7:].strip() if secret[:7].lower() == "bearer " else secret
    return found


def match(keys: Iterable[ApiKey], ours: dict[int, str]) -> dict[str, list[int]]:
    """The provider keys that each reported key may be. One that two reported keys fit counts for both as two."""
    found = {key.id: [pk for pk, secret in ours.items() if fits(key.hint, secret)] for key in keys}
    claims: dict[int, int] = defaultdict(int)
    for pks in found.values():
        for pk in pks:
            claims[pk] += 1
    # If several reported keys have the same ends, none of them is known to be ours.
    return {api_key: [pk for pk in pks for _ in range(claims[pk])] for api_key, pks in found.items()}


@transaction.atomic
def note(admin_key: AdminKey, keys: Iterable[ApiKey]) -> None:
    """Store the organisation's keys, and find ours among them. What a person has chosen, and what was found before a
    secret was replaced, stays.
    """
    keys = [key for key in keys if key.id]
    found = match(keys, secrets(admin_key.provider))
    stored = {row.api_key_id: row for row in ReportedKey.objects.select_for_update().filter(admin_key=admin_key)}
    for key in keys:
        row = stored.get(key.id) or ReportedKey(admin_key=admin_key, api_key_id=key.id)
        before = (row.name, row.hint, row.status, row.provider_key_id, row.candidates)
        row.name, row.hint, row.status = key.name, key.hint[:HINT_LENGTH], key.status[:40]
        candidates = found[key.id]
        if not row.chosen and (candidates or row.provider_key_id is None):
            row.candidates = len(candidates)
            row.provider_key_id = candidates[0] if len(candidates) == 1 else row.provider_key_id
        if row.pk is None or before != (row.name, row.hint, row.status, row.provider_key_id, row.candidates):
            row.save()


def note_unlisted(admin_key: AdminKey, ids: Iterable[str]) -> None:
    """Store keys that a report names and the list of keys lacks, such as deleted ones, so that a person can choose."""
    known = set(ReportedKey.objects.filter(admin_key=admin_key).values_list("api_key_id", flat=True))
    new = [ReportedKey(admin_key=admin_key, api_key_id=each) for each in sorted(set(ids) - known) if each]
    ReportedKey.objects.bulk_create(new, ignore_conflicts=True)


def choose(row: ReportedKey, provider_key: ProviderKey | None) -> None:
    """Set by hand which provider key a reported key is; None: it isn't ours."""
    row.provider_key, row.chosen = provider_key, True
    row.save(update_fields=["provider_key", "chosen"])
