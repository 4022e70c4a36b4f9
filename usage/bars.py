"""What keeps a credential from calling, as the arbiter judges it: for pages that a credential opens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.db import connection

from keys import credentials, keyring
from keys.models.credentials import WITHOUT_SECRET

# The gateway's own credential for providers' keys opens nothing.
FIND = """
SELECT c.id, v.id, usage_bars(c, v, t, u, g)
FROM keys_credential c
JOIN keys_virtualkey v ON v.id = c.virtual_key_id
LEFT JOIN keys_team t ON t.id = v.team_id
LEFT JOIN keys_customer u ON u.id = v.customer_id
LEFT JOIN keys_gateway g ON true
WHERE NOT c.kind = ANY (%s) AND
"""
# Of the bars, those that are final. All others are pauses.
ENDS = {"revoked", "expired"}


@dataclass(frozen=True, slots=True)
class Judged:
    """A credential and its virtual key, by their ids. `bars`: what keeps it from calling, in the arbiter's words."""

    credential: int
    virtual_key: int
    bars: tuple[str, ...]

    @property
    def end(self) -> str:
        """`revoked` or `expired`; empty for a credential that works or is only paused."""
        return next((bar for bar in self.bars if bar in ENDS), "")


def of_secret(secret: str) -> Judged | None:
    """The credential with this plain text, under any of the peppers; None without a match. One query."""
    return _find("c.digest = ANY(%s)", [credentials.digest(secret, pepper.key) for pepper in keyring.peppers()])


def of_credential(credential: int) -> Judged | None:
    """The credential with this id; None without a match. One query."""
    return _find("c.id = %s", credential)


def _find(which: str, value: Any) -> Judged | None:
    with connection.cursor() as cursor:
        cursor.execute(FIND + which, [[kind.value for kind in WITHOUT_SECRET], value])
        row = cursor.fetchone()
    return Judged(row[0], row[1], tuple(row[2])) if row else None
