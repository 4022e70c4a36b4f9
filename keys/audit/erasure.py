"""Erases names from the audit log. Events keep the ids of people and keys, and seals stay as they are."""

from __future__ import annotations

import re

from django.db.models import Q, QuerySet

from keys.audit.models import AuditName
from keys.errors import Unusable

# How people write a row, and its table.
TABLES = {
    "user": "auth_user",
    "virtual-key": "keys_virtualkey",
    "token": "keys_credential",
    "target": "usage_alerttarget",
}
SAID = "user:5, virtual-key:7, token:9 or target:2"


def find(text: str) -> QuerySet[AuditName]:
    """The names of a row and of what belongs to it.

    Raises:
        Unusable: the text isn't like `user:5`.
    """
    kind, _, key = text.partition(":")
    if kind not in TABLES or not re.fullmatch(r"[0-9]{1,18}", key):
        raise Unusable(f"“{text}” is not {SAID}")
    table = TABLES[kind]
    return AuditName.objects.filter(Q(table_name=table, object=key) | Q(about=f"{table}:{key}"))
