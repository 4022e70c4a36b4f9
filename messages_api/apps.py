from django.apps import AppConfig


class MessagesApiConfig(AppConfig):
    name = "messages_api"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Messages API"

    def ready(self) -> None:
        from messages_api import providers  # noqa: F401 - which ones there are is known from here on
