from django.apps import AppConfig


class MessagesApiConfig(AppConfig):
    name = "messages_api"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Messages API"

    def ready(self) -> None:
        from keys import provider_checks

        # From here on, all providers are registered.
        from messages_api.relay import key_probe

        provider_checks.register(key_probe.try_keys)
