from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"
    verbose_name = "Billing"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Say which months are closed and which can be archived, to modules that don't know this app."""
        from billing import archives, closed_months
        from usage import archive_rules, closed

        closed.add_source(closed_months.until)
        archive_rules.add(archives.Keeper())
