from django.apps import AppConfig


class MessagesApiConfig(AppConfig):
    name = "messages_api"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = "Messages API"
