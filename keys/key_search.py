"""How lists and pickers search for virtual keys: by the beginnings of words, which an index finds among any number of
keys, and by the last characters of the secret (keys/sql/key_search.sql)."""

from __future__ import annotations

from typing import Any

from django.db.models import BooleanField, F, Func, Q, QuerySet, Value
from django.db.models.functions import Reverse

from keys.models import Credential, VirtualKey

# Rows that a search finds at most. To find others, people type more of a name.
FOUND = 1_000
# Characters of a secret's end that are stored.
ENDS = 4
# If no word begins with a text, the newest keys are searched for it inside of words: this many.
NEWEST = 20_000
HELP = (
    "The beginning of words of the name, the owner or a label, or the last characters of the key. "
    f"Texts inside of words are found among the newest {NEWEST:,} keys"
)


def fits(text: str) -> Any:
    """The condition on virtual keys that each word of a text begins one of the name, the owner or the labels. A text
    without any word fits nothing."""
    words = Func(F("name"), F("owner"), F("labels"), function="keys_search_vector")
    asked = Func(Value(text), function="keys_search_query")
    return Func(words, asked, template="(%(expressions)s)", arg_joiner=" @@ ", output_field=BooleanField())


def found(rows: QuerySet[Any], text: str) -> list[int]:
    """The ids of at most `FOUND` of these virtual keys that a text finds. One query, or three if no word begins so."""
    ids = list(rows.filter(fits(text)).order_by().values_list("pk", flat=True)[:FOUND])
    if ids or not text.split():
        return ids
    # Rows may be filtered: to find the newest of those could take a scan.
    oldest = VirtualKey.objects.order_by("-pk").values_list("pk", flat=True)[NEWEST : NEWEST + 1].first()
    newest = rows if oldest is None else rows.filter(pk__gt=oldest)
    for word in text.split():
        newest = newest.filter(Q(name__icontains=word) | Q(owner__icontains=word))
    return list(newest.order_by().values_list("pk", flat=True)[:FOUND])


def with_end(text: str) -> QuerySet[Credential]:
    """The credentials whose secret ends like a text. Of a whole secret that was pasted, only the end is used."""
    end = text.strip()[-ENDS:]
    if len(end) <= 1:
        return Credential.objects.none()
    if len(end) == ENDS:
        return Credential.objects.filter(last=end)
    return Credential.objects.alias(backwards=Reverse("last")).filter(backwards__startswith=end[::-1])
