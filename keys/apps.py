from django.apps import AppConfig
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.db.backends.signals import connection_created


class KeysConfig(AppConfig):
    name = "keys"
    verbose_name = "Keys"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Set the actor on every Django connection, and record sign-ins (keys/audit)."""
        from keys.audit import actor, notes

        connection_created.connect(actor.install)
        user_logged_in.connect(notes.signed_in)
        user_logged_out.connect(notes.signed_out)
