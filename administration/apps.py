"""The administration's Django app, and the site of its pages."""

from __future__ import annotations

from django.apps import AppConfig, apps
from django.contrib.admin import apps as django_admin


class AdministrationConfig(AppConfig):
    name = "administration"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Have a rotation of the master key reach the secrets of second factors."""
        from keys import keyring

        if apps.is_installed("allauth.mfa"):
            from administration.sign_in import stored_secrets

            keyring.REENCRYPTED_TOO.append(stored_secrets.reencrypt)


class SiteConfig(django_admin.AdminConfig):
    """Django's admin, with our site as the one on which every app registers its pages."""

    default = False
    default_site = "administration.site.Site"
