"""The grants of roles, the trigger that keeps the last owner, and grants in the audit log."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import django.db.models.deletion
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

from keys.audit.watched import Watched, unwatch, watch

SQL = Path(__file__).resolve().parent.parent / "sql" / "last_owner.sql"
BACKWARD = """
DROP TRIGGER administration_last_owner ON auth_user;
DROP TRIGGER administration_last_active_owner ON auth_user;
DROP TRIGGER administration_last_owner ON administration_grant;
DROP TRIGGER administration_last_changed_owner ON administration_grant;
DROP FUNCTION administration_keep_owner;
"""
TABLES = {
    "administration_grant": Watched(plain="user_id role customer_id team_id", belongs={"user_id": "auth_user"}),
}
ROLES = [
    ("owner", "Owner"),
    ("key_admin", "Key admin"),
    ("team_admin", "Team admin"),
    ("billing_admin", "Billing admin"),
    ("finance", "Finance"),
    ("auditor", "Auditor"),
    ("member", "Member"),
]


class Migration(migrations.Migration):
    initial = True

    dependencies: ClassVar = [
        ("keys", "0018_audit_log"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations: ClassVar = [
        migrations.CreateModel(
            name="Grant",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("role", models.CharField(choices=ROLES, max_length=20)),
                (
                    "created_at",
                    models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False),
                ),
                (
                    "customer",
                    models.ForeignKey(
                        blank=True,
                        help_text="Empty: not only one.",
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="keys.customer",
                    ),
                ),
                (
                    "team",
                    models.ForeignKey(
                        blank=True,
                        help_text="Empty: not only one.",
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="keys.team",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="grants",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "verbose_name": "role of a person",
                "verbose_name_plural": "roles of people",
                "default_permissions": ("view",),
                "constraints": [
                    models.UniqueConstraint(
                        fields=("user", "role", "customer", "team"),
                        name="administration_grant_once",
                        nulls_distinct=False,
                        violation_error_message="The person has this role already.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("role__in", [name for name, _ in ROLES])), name="administration_grant_role"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("customer", None), ("team", None), _connector="OR"),
                        name="administration_grant_one_scope",
                        violation_error_message="Choose a customer or a team, not both.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("role__in", ("owner", "member")), _negated=True),
                            models.Q(("customer", None), ("team", None)),
                            _connector="OR",
                        ),
                        name="administration_grant_unscoped",
                        violation_error_message="This role can't be given for one customer or team.",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(
                            models.Q(("role__in", ("team_admin",)), _negated=True),
                            models.Q(("customer", None), ("team", None), _negated=True),
                            _connector="OR",
                        ),
                        name="administration_grant_scoped",
                        violation_error_message="Choose the team or the customer that this role is for.",
                    ),
                ],
            },
        ),
        migrations.RunSQL(watch(TABLES), unwatch(TABLES)),
        migrations.RunSQL(SQL.read_text(), BACKWARD),
    ]
