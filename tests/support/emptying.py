"""Empties the gateway's database between tests, except for the processes that are running."""

from __future__ import annotations

import time
from typing import Any

import psycopg
from django.db import connection

from keys.connection import parameters
from tests.support.environment import RESOURCES
from usage.models import Hold

# What may only be added to is deleted without its triggers; to truncate it, or to alter the triggers, would make the
# gateway plan its statements again for each test.
GUARDED = (
    "usage_ledgerentry",
    "usage_adjustment",
    "usage_topup",
    "usage_override",
    "usage_checkpointwindow",
    "usage_checkpoint",
    "usage_archivedcharge",
    "usage_archivedmonth",
    "billing_archivedcover",
    "billing_statementfile",
    "billing_statementline",
    "billing_statement",
    "billing_cover",
    "billing_closing",
    *(f"reconciliation_{each}" for each in ("adjustmentrun", "bill", "costrow", "usagerow", "read")),
    *(f"reconciliation_{each}" for each in ("comparison", "billformat", "reportedkey", "adminkey")),
    "administration_restanswer",
    "administration_apitoken",
    "administration_grant",
    "django_admin_log",
    "usersessions_usersession",
    "django_session",
    "auth_user_groups",
    "auth_user_user_permissions",
    "auth_user",
)
OTHERS = (
    "usage_overrun",
    "usage_ownerday",
    "usage_quartertotal",
    "usage_daytotal",
    "usage_credentialuse",
    "usage_hold",
    "usage_retained",
    "usage_window",
    "usage_limitstate",
    "usage_delivery",
    "usage_alerttarget",
    "usage_alert",
    "usage_budget",
    "usage_limit",
    "usage_refusal",
    "usage_freecalls",
    *(f"usage_{each}" for each in ("reportdelivery", "reportrecipient", "reportschedule", "savedreport")),
    "messages_api_batch",
    "messages_api_binding",
    "messages_api_file",
    "billing_closerequest",
    "billing_particulars",
    "billing_issuer",
    "keys_credential",
    "keys_virtualkeyroute",
    "keys_virtualkey",
    "keys_cooldown",
    "keys_performance",
    "keys_providerkey",
    "keys_modelalias",
    "usage_keyrules",
    "keys_team",
    "keys_customer",
    "keys_signincount",
)
STATEMENTS = (
    "SET LOCAL session_replication_role = replica",
    *(f"DELETE FROM {table}" for table in GUARDED),
    "SET LOCAL session_replication_role = origin",
    *(f"DELETE FROM {table}" for table in OTHERS),
    "UPDATE keys_gateway SET paused = false",
)
# A connection for each database, which keeps its plans: planning takes ten times as long as these statements.
LINKS: dict[str, psycopg.Connection[Any]] = {}


def empty() -> None:
    """Take away what a test left, once the gateway has written what it still had to."""
    deadline = time.monotonic() + 5
    while Hold.objects.filter(process__isnull=False).exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    name = str(connection.settings_dict["NAME"])
    try:
        delete(LINKS[name])
    except (KeyError, psycopg.OperationalError):  # a first time, or a test has ended the server or its connections
        link = LINKS[name] = psycopg.connect(**parameters(), autocommit=True)
        RESOURCES.callback(link.close)
        delete(link)


def delete(link: psycopg.Connection[Any]) -> None:
    """Delete everything in one transaction."""
    with link.pipeline(), link.transaction():
        for statement in STATEMENTS:
            link.execute(statement.encode(), prepare=True)
