from django.apps import AppConfig
from django.core import checks


class UsageConfig(AppConfig):
    name = "usage"
    verbose_name = "Usage"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from usage import saved_addresses

        checks.register(saved_addresses.check, "addresses")
