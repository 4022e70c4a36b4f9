from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from keys.product import NAME_AND_VERSION


class Command(BaseCommand):
    # `manage.py` answers `version` before Django does. This class gives it a line in `manage.py help`.
    help = "Print the version of the gateway. It needs no database and no configuration."
    requires_system_checks: list[str] = []  # noqa: RUF012

    def handle(self, **options: Any) -> None:
        self.stdout.write(NAME_AND_VERSION)
