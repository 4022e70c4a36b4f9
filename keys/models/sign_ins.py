"""Counts of failed sign-ins to the pages."""

from __future__ import annotations

from datetime import timedelta

from django.db import models
from django.utils import timezone

# How long a network is remembered from which a user has signed in.
SIGN_INS_REMEMBERED = timedelta(days=90)


class SignInCount(models.Model):
    """A count of failed sign-ins: of a network, of a user, or of a user from a network (keys/sign_in.py).

    `subject` is a digest of what is counted. At `forgotten_at`, the last of the failures expires.
    """

    subject = models.CharField(max_length=64, primary_key=True)
    forgotten_at = models.DateTimeField(db_index=True)
    succeeded_at = models.DateTimeField(null=True)

    def __str__(self) -> str:
        return self.subject

    @classmethod
    def forget_past(cls) -> None:
        """Delete expired counts."""
        now = timezone.now()
        old = models.Q(succeeded_at=None) | models.Q(succeeded_at__lt=now - SIGN_INS_REMEMBERED)
        cls.objects.filter(old, forgotten_at__lt=now).delete()
