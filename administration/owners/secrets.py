"""The secrets of a virtual key, and whether an old one is still in use after a rotation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils import timezone

from administration.roles import may, names
from keys.models import Credential, CredentialKind, VirtualKey
from keys.models.credentials import WITHOUT_SECRET
from usage.models import CredentialUse

# Secrets that a page lists.
LISTED = 8


@dataclass(frozen=True, slots=True)
class Secret:
    """A secret with its last use. `rotated_at`: since when a newer one exists; None for the newest, and for tokens.
    `key_ended`: its virtual key is revoked or expired, so no secret of it works."""

    credential: Credential
    use: CredentialUse | None
    rotated_at: datetime | None
    key_ended: bool = False

    @property
    def works(self) -> bool:
        """Whether the secret is neither revoked nor expired, nor is its virtual key."""
        row = self.credential
        lasts = row.expires_at is None or row.expires_at > timezone.now()
        return lasts and row.revoked_at is None and not self.key_ended

    @property
    def is_old(self) -> bool:
        """Whether it works beside a newer one."""
        return self.rotated_at is not None and self.works

    @property
    def is_in_use(self) -> bool:
        """Whether a call was made with it after the rotation."""
        return self.use is not None and self.rotated_at is not None and self.use.used_at > self.rotated_at


def secrets(virtual_key: VirtualKey, user: Any) -> list[Secret] | None:
    """The newest secrets of a key; None for people who may not see their ends. Two queries."""
    if not may(user, names.VIEW_CREDENTIAL, virtual_key):
        return None
    rows = Credential.objects.filter(virtual_key=virtual_key).exclude(kind__in=WITHOUT_SECRET)
    found = list(rows.order_by("-pk")[:LISTED])
    uses = CredentialUse.objects.in_bulk([row.pk for row in found])
    newest = next((row for row in found if row.kind == CredentialKind.VIRTUAL_KEY), None)
    ended = virtual_key.state in ("revoked", "expired")
    secrets = []
    for row in found:
        is_older = newest is not None and row.kind == CredentialKind.VIRTUAL_KEY and row.pk != newest.pk
        rotated_at = newest.created_at if newest is not None and is_older else None
        secrets.append(Secret(row, uses.get(row.pk), rotated_at, ended))
    return secrets


def old_ones(found: list[Secret] | None) -> list[Secret]:
    """The secrets that a rotation left working."""
    return [secret for secret in found or () if secret.is_old]
