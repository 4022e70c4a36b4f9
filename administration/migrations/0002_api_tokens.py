"""Tokens of the REST API, in the audit log, and the answers that repeated requests get."""

from __future__ import annotations

from typing import ClassVar

import django.contrib.postgres.fields
import django.db.models.functions.datetime
from django.conf import settings
from django.db import migrations, models

from keys.audit.watched import Watched, unwatch, watch

TABLES = {
    "administration_apitoken": Watched(
        plain="user_id first last scopes expires_at revoked_at",
        names="name",
        secrets="digest",
        belongs={"user_id": "auth_user"},
    ),
}
NOW = django.db.models.functions.datetime.Now()


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("administration", "0001_roles"),
    ]

    operations: ClassVar = [
        migrations.CreateModel(
            name="ApiToken",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "name",
                    models.CharField(
                        help_text="What uses it, such as terraform or the nightly report.", max_length=200
                    ),
                ),
                ("digest", models.BinaryField(max_length=32, unique=True)),
                ("pepper", models.CharField(editable=False, max_length=16)),
                ("first", models.CharField(editable=False, max_length=20)),
                ("last", models.CharField(editable=False, max_length=8)),
                (
                    "scopes",
                    django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=40), size=None),
                ),
                ("created_at", models.DateTimeField(db_default=NOW, editable=False)),
                ("expires_at", models.DateTimeField(help_text="UTC. At most a year from now.")),
                ("revoked_at", models.DateTimeField(editable=False, null=True)),
                ("last_used_at", models.DateTimeField(editable=False, null=True)),
                (
                    "last_used_from",
                    models.CharField(blank=True, db_default="", default="", editable=False, max_length=60),
                ),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=models.deletion.CASCADE, related_name="api_tokens", to=settings.AUTH_USER_MODEL
                    ),
                ),
            ],
            options={"verbose_name": "API token", "ordering": ["-pk"]},
        ),
        migrations.AddConstraint(
            model_name="apitoken",
            constraint=models.UniqueConstraint(
                condition=models.Q(("revoked_at", None)),
                fields=("user", "name"),
                name="administration_apitoken_name",
                violation_error_message="This person already has a token of this name.",
            ),
        ),
        migrations.CreateModel(
            name="RestAnswer",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("key", models.CharField(max_length=200)),
                ("request", models.BinaryField(max_length=32)),
                ("at", models.DateTimeField(db_default=NOW, db_index=True)),
                ("status", models.PositiveSmallIntegerField()),
                ("body", models.TextField()),
                ("location", models.CharField(max_length=200)),
                ("etag", models.CharField(max_length=80)),
                ("has_secret", models.BooleanField()),
                (
                    "token",
                    models.ForeignKey(
                        on_delete=models.deletion.CASCADE, related_name="+", to="administration.apitoken"
                    ),
                ),
            ],
            options={
                "verbose_name": "stored answer of the REST API",
                "verbose_name_plural": "stored answers of the REST API",
                "default_permissions": (),
            },
        ),
        migrations.AddConstraint(
            model_name="restanswer",
            constraint=models.UniqueConstraint(fields=("token", "key"), name="administration_restanswer_once"),
        ),
        migrations.RunSQL(watch(TABLES), unwatch(TABLES)),
    ]
