"""The search for virtual keys by the beginnings of words and by the last characters of a secret, and lists."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from django.db import migrations

SQL = Path(__file__).resolve().parent.parent / "sql" / "key_search.sql"
BACKWARD = """
DROP INDEX keys_route_of_provider, keys_token_list, keys_credential_end, keys_virtualkey_words;
DROP FUNCTION keys_search_query, keys_search_vector, keys_search_words;
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0021_test_key")]
    operations: ClassVar = [migrations.RunSQL(SQL.read_text(), BACKWARD)]
