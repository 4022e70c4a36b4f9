"""People who sign in to the pages."""

from __future__ import annotations

from django.contrib.auth.models import User


class Person(User):
    """A user, under the name that pages have for one."""

    class Meta:
        proxy = True
        verbose_name = "person"
        verbose_name_plural = "people"
        default_permissions = ("view", "add", "change")
