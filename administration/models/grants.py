"""Who has which role. administration/roles/definitions.py says what a role may do."""

from __future__ import annotations

from typing import ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from administration.role_names import NEVER_SCOPED, SCOPED_ONLY, Role
from keys.models import Customer, Team


class Grant(models.Model):
    """A role of a person: for everything, for one customer, or for one team.

    A trigger keeps the last owner (administration/sql/last_owner.sql). A role `by_sso` follows the person's groups at
    the provider of single sign-on (administration/roles/following.py).
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="grants")
    role = models.CharField(max_length=20, choices=Role)
    customer = models.ForeignKey(
        Customer, on_delete=models.CASCADE, null=True, blank=True, related_name="+", help_text="Empty: not only one."
    )
    team = models.ForeignKey(
        Team, on_delete=models.CASCADE, null=True, blank=True, related_name="+", help_text="Empty: not only one."
    )
    by_sso = models.BooleanField("by single sign-on", default=False, db_default=False, editable=False)
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        verbose_name = "role of a person"
        verbose_name_plural = "roles of people"
        default_permissions = ("view",)
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["user", "role", "customer", "team"],
                name="administration_grant_once",
                nulls_distinct=False,
                violation_error_message="The person has this role already.",
            ),
            models.CheckConstraint(condition=Q(role__in=Role.values), name="administration_grant_role"),
            models.CheckConstraint(
                condition=Q(customer=None) | Q(team=None),
                name="administration_grant_one_scope",
                violation_error_message="Choose a customer or a team, not both.",
            ),
            models.CheckConstraint(
                condition=~Q(role__in=NEVER_SCOPED) | Q(customer=None, team=None),
                name="administration_grant_unscoped",
                violation_error_message="This role can't be given for one customer or team.",
            ),
            models.CheckConstraint(
                condition=~Q(role__in=SCOPED_ONLY) | ~Q(customer=None, team=None),
                name="administration_grant_scoped",
                violation_error_message="Choose the team or the customer that this role is for.",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_role_display()} {self.scope}"

    @property
    def scope(self) -> str:
        """What it is for, in words."""
        if self.is_own:
            return "of the keys that the person owns"
        if self.team is not None:
            return f"of team {self.team}"
        return f"of customer {self.customer}" if self.customer is not None else "of everything"

    @property
    def is_own(self) -> bool:
        """Whether it is about the keys that the person owns."""
        return self.role == Role.MEMBER

    @property
    def is_for_everything(self) -> bool:
        """Whether it holds for all rows."""
        return not self.is_own and self.customer_id is None and self.team_id is None
