"""The administration's Django app, and the site of its pages."""

from __future__ import annotations

from django.apps import AppConfig
from django.contrib.admin import apps as django_admin


class AdministrationConfig(AppConfig):
    name = "administration"
    default_auto_field = "django.db.models.BigAutoField"


class SiteConfig(django_admin.AdminConfig):
    """Django's admin, with our site as the one on which every app registers its pages."""

    default = False
    default_site = "administration.site.Site"
