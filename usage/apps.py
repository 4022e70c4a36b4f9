from typing import Any

from django.apps import AppConfig
from django.core import checks
from django.db.models.signals import post_migrate, pre_migrate


class UsageConfig(AppConfig):
    name = "usage"
    verbose_name = "Usage"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Register the check of addresses, and have every `migrate` create the arbiter's functions."""
        from usage import saved_addresses

        checks.register(saved_addresses.check, "addresses")
        pre_migrate.connect(check_search_path, sender=self)
        post_migrate.connect(make_functions, sender=self)


def check_search_path(using: str, **_: Any) -> None:
    """Migrate only the tables that are in use."""
    from usage import functions

    functions.check_search_path(using)


def make_functions(using: str, **_: Any) -> None:
    """Create this version's functions, unless `migrate` has left the tables in an earlier state."""
    from usage import functions

    if functions.are_possible(using):
        functions.make(using)
