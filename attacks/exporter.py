"""Fills the gateway's ledger with calls, creates an owner, and prints the cookie of a session of theirs.

`exporter.py CALLS` runs in the attacked checkout, with that checkout's models.
"""

from __future__ import annotations

import os
import sys


def main(calls: int) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "gateway_project.settings"
    import django

    django.setup()
    import psycopg
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    from keys.connection import parameters
    from tests.support.scale import Scale, fill

    with psycopg.connect(**parameters(), autocommit=True, cursor_factory=psycopg.ClientCursor) as link:
        fill(link, Scale(keys=2_000, teams=200, customers=20, calls=calls, refusals=100))
    client = Client()
    client.force_login(User.objects.create_superuser("exporter"))
    print(f"{settings.SESSION_COOKIE_NAME}={client.cookies[settings.SESSION_COOKIE_NAME].value}")


if __name__ == "__main__":
    main(int(sys.argv[1]))
