"""Admin keys, which read providers' reports, and the keys that these reports name."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db.models import ProtectedError
from rest_framework.decorators import action
from rest_framework.fields import CharField
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ChoiceField

from administration.rest import filters
from administration.rest.members import Flag, Members, Moment, Text, Whole, number
from administration.rest.resource import Added, Changed, Listed, Removed, assign
from administration.rest.resources.customers import Nothing
from administration.roles import names
from keys.errors import Conflict
from keys.models import ProviderKey
from keys.provider_keys import SECRET_LENGTH
from reconciliation import admin_keys, key_hints
from reconciliation.sources import MOST_RATE, USUAL_RATE, AdminKey, ReportedKey, ReportsOf


class AdminKeyMembers(Members):
    """A key that reads an organisation's usage and cost reports. No answer shows its secret."""

    id = Whole(read_only=True)
    name = Text()
    provider = ChoiceField(choices=ReportsOf.values)
    base_url = Text(required=False, allow_blank=True, max_length=500, help_text="Empty: the provider's own address.")
    secret = Text(write_only=True, required=False, max_length=SECRET_LENGTH, help_text="The provider's admin key.")
    secret_hint = CharField(read_only=True, help_text="The secret's last characters, for those who may change it.")
    active = Flag(required=False, help_text="Its reports are read.")
    requests_a_minute = Whole(required=False, min_value=1, max_value=MOST_RATE, help_text=f"{USUAL_RATE} without it.")
    reads = CharField(source="kind", read_only=True, help_text="`analytics`, `older` or `openai`; empty: not tested.")
    problem = CharField(read_only=True, help_text="Why reading failed, or is limited.")
    checked_at = Moment(read_only=True, allow_null=True)
    read_at = Moment(read_only=True, allow_null=True)
    created_at = Moment(read_only=True)


class AdminKeys(Listed, Added, Changed, Removed):
    """Keys that read providers' reports. One that has read something is switched off and not removed: what it read
    names it."""

    scope = "provider_keys"
    noun = "admin keys"
    queryset = AdminKey.objects.all()
    serializer_class = AdminKeyMembers
    filters: ClassVar = {
        "name": filters.by_text("name"),
        "provider": filters.by_choice("provider", list(ReportsOf.values)),
        "active": filters.by_flag(lambda rows, active: rows.filter(active=active)),
    }
    volatile = ("reads", "problem", "checked_at", "read_at")

    def represented(self, rows: list[AdminKey]) -> list[dict[str, Any]]:
        """The admin keys, with the ends of their secrets for those who may change them."""
        shown = super().represented(rows)
        for row, data in zip(rows, shown, strict=True):
            if not self.request.user.has_perm("reconciliation.change_adminkey", row):
                data["secret_hint"] = ""
        return shown

    def add(self, values: dict[str, Any]) -> AdminKey:
        """Save a new admin key."""
        secret = values.pop("secret", "")
        row = AdminKey(**values)
        self.require("add", row)
        admin_keys.save(row, secret)
        return row

    def change(self, row: AdminKey, values: dict[str, Any]) -> None:
        """Save these values. A changed provider or address needs the secret again."""
        secret = values.pop("secret", "")
        assign(row, values)
        admin_keys.save(row, secret)

    def remove(self, row: AdminKey) -> None:
        """Take an admin key away that has read nothing.

        Raises:
            Conflict: it has.
        """
        self.require("change", row)
        try:
            row.delete()
        except ProtectedError:
            raise Conflict("this admin key has read reports, which are kept: change it to `active: false`") from None

    @action(detail=True, methods=["post"], takes=Nothing)
    def test(self, request: Request, pk: Any) -> Response:
        """Ask the provider for a report of one hour, which costs nothing. `reads` and `problem` say what came of it."""
        self.taken()
        row = self.row()
        self.require("test", row, names.TEST_ADMIN_KEY)
        admin_keys.test(row)
        return self.shown(self.again(row.pk))


class ReportedKeyMembers(Members):
    """An API key as its provider names it, and the provider key of this gateway that it is."""

    id = Whole(read_only=True)
    admin_key_id = Whole(read_only=True)
    api_key_id = CharField(read_only=True, help_text="The provider's id.")
    name = CharField(read_only=True)
    hint = CharField(read_only=True, help_text="The first and last characters of its secret, as the provider lists it.")
    status = CharField(read_only=True)
    provider_key_id = number(allow_null=True, help_text="Null: it isn't ours. Setting it is a choice by hand.")
    chosen = Flag(read_only=True, help_text="A person has chosen; else its hint has decided.")
    candidates = Whole(read_only=True, help_text="How many provider keys fit the hint.")


class ReportedKeys(Listed, Changed):
    """The API keys that providers report on. What is chosen holds for days as they are read again, and for earlier ones
    after `manage.py reconcile --compare-only`."""

    scope = "reconciliation"
    noun = "reported keys"
    queryset = ReportedKey.objects.select_related("admin_key")
    serializer_class = ReportedKeyMembers
    filters: ClassVar = {
        "admin_key_id": filters.by_id("admin_key"),
        "provider_key_id": filters.by_id("provider_key"),
        "api_key_id": filters.by_text("api_key_id"),
    }
    volatile = ("name", "hint", "status", "candidates")

    def change(self, row: ReportedKey, values: dict[str, Any]) -> None:
        """Choose which provider key it is.

        Raises:
            ValidationError: that one is of another provider.
        """
        if "provider_key_id" not in values:
            return
        found = self.chosen(ProviderKey, values["provider_key_id"], "provider_key_id")
        if found is not None and found.provider != row.admin_key.provider:
            raise ValidationError({"provider_key_id": f"Provider key {found.pk} is not of {row.admin_key.provider}."})
        key_hints.choose(row, found)
