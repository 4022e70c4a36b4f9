"""Sessions that no list of sessions has end, because no page could end them. People sign in again."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations

UNRECORDED = """
DELETE FROM django_session s
WHERE NOT EXISTS (SELECT FROM usersessions_usersession u WHERE u.session_key = s.session_key)
"""


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("administration", "0003_sign_in"),
        ("sessions", "0001_initial"),
        ("usersessions", "0001_initial"),
    ]

    operations: ClassVar = [migrations.RunSQL(UNRECORDED, migrations.RunSQL.noop)]
