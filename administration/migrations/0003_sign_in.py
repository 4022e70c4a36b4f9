"""Roles by single sign-on; second factors, and links to single sign-on, in the audit log."""

from __future__ import annotations

from typing import ClassVar

from django.db import migrations, models

from keys.audit.watched import Watched, unwatch, watch

OWN = {"user_id": "auth_user"}
GRANTS = {"administration_grant": Watched(plain="user_id role customer_id team_id", belongs=OWN)}
GRANTS_NOW = {"administration_grant": Watched(plain="user_id role customer_id team_id by_sso", belongs=OWN)}
# `data` has the secrets of a second factor. It also changes with each recovery code that is used.
TABLES = {
    "mfa_authenticator": Watched(plain="user_id type", secrets="data", belongs=OWN),
    "socialaccount_socialaccount": Watched(plain="user_id provider", names="uid", belongs=OWN),
    "socialaccount_socialapp": Watched(plain="provider provider_id name client_id", secrets="secret key settings"),
    "account_emailaddress": Watched(plain="user_id verified primary", contacts="email", belongs=OWN),
}


class Migration(migrations.Migration):
    dependencies: ClassVar = [
        ("administration", "0002_api_tokens"),
        ("account", "0009_emailaddress_unique_primary_email"),
        ("mfa", "0003_authenticator_type_uniq"),
        ("socialaccount", "0006_alter_socialaccount_extra_data"),
    ]

    operations: ClassVar = [
        migrations.RunSQL(unwatch(GRANTS), watch(GRANTS)),
        migrations.AddField(
            model_name="grant",
            name="by_sso",
            field=models.BooleanField(
                db_default=False, default=False, editable=False, verbose_name="by single sign-on"
            ),
        ),
        migrations.RunSQL(watch(GRANTS_NOW), unwatch(GRANTS_NOW)),
        migrations.RunSQL(watch(TABLES), unwatch(TABLES)),
    ]
