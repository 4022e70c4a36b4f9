"""Provider keys, and the deployment's own names for models."""

from __future__ import annotations

from typing import Any, ClassVar

from drf_spectacular.utils import extend_schema_field
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import CharField, FloatField, SerializerMethodField

from administration.rest import filters
from administration.rest.members import Flag, Members, Moment, Text, Whole, texts
from administration.rest.resource import Added, Changed, Listed, Removed, assign, written
from administration.rest.resources.customers import Nothing
from keys import model_aliases, provider_checks, provider_keys
from keys.models import CheckState, Cooldown, ModelAlias, ProviderKey


class CheckMembers(Members):
    """The result of the last test of the secret and the address."""

    state = CharField(help_text=f"One of {', '.join(CheckState.values)}.")
    http_status = Whole(allow_null=True)
    message = CharField()
    checked_at = Moment()


class CooldownMembers(Members):
    """A time in which the provider key gets no calls of one model, or of any (an empty `model`)."""

    model = CharField()
    reason = CharField()
    http_status = Whole(allow_null=True)
    until = Moment()


def seconds(what: str) -> FloatField:
    """A timeout."""
    least, most = provider_keys.LEAST_SECONDS, provider_keys.MOST_SECONDS
    text = f"Seconds {what}. Null: the deployment's setting."
    return FloatField(required=False, allow_null=True, min_value=least, max_value=most, help_text=text)


class ProviderKeyMembers(Members):
    """An account with a provider: the address to call, and the secret to call it with, which no answer shows."""

    id = Whole(read_only=True)
    name = Text()
    provider = Text(max_length=20)
    base_url = Text(required=False, allow_blank=True, max_length=provider_keys.URL_LENGTH)
    region = Text(required=False, allow_blank=True, max_length=50)
    project = Text(required=False, allow_blank=True, max_length=100)
    secret = Text(
        write_only=True, required=False, max_length=provider_keys.SECRET_LENGTH, help_text="The provider's API key."
    )
    secret_hint = CharField(read_only=True, help_text="The secret's last characters; empty for a short one.")
    models = texts(required=False, source="model_patterns", help_text="Names and patterns (claude-*). Empty: all.")
    active = Flag(required=False)
    connect_seconds = seconds("to connect")
    first_byte_seconds = seconds("to the first byte of an answer")
    between_bytes_seconds = seconds("between two pieces of an answer")
    total_seconds = seconds("for a whole call")
    retry_unanswered = Flag(required=False)
    organization_id = CharField(read_only=True, help_text="The provider's name for the account, learned from answers.")
    workspace_id = CharField(read_only=True)
    last_check = SerializerMethodField(help_text="The last test; null: it was not tested.")
    cooldowns = CooldownMembers(many=True, read_only=True)
    created_at = Moment(read_only=True)

    @extend_schema_field(CheckMembers(allow_null=True))
    def get_last_check(self, row: ProviderKey) -> dict[str, Any] | None:
        """The last test."""
        found = getattr(row, "last_check", None)
        return dict(CheckMembers(found).data) if found is not None else None


class ProviderKeys(Listed, Added, Changed):
    """Accounts with providers. An unused one is deactivated and never removed, because calls name it."""

    scope = "provider_keys"
    noun = "provider keys"
    queryset = ProviderKey.objects.select_related("last_check").prefetch_related("cooldowns")
    serializer_class = ProviderKeyMembers
    filters: ClassVar = {
        "name": filters.by_text("name"),
        "provider": filters.by_text("provider"),
        "active": filters.by_flag(lambda rows, active: rows.filter(active=active)),
    }
    volatile = ("last_check", "cooldowns", "organization_id", "workspace_id")

    def represented(self, rows: list[ProviderKey]) -> list[dict[str, Any]]:
        """The provider keys, with the ends of their secrets for those who may change them."""
        shown = super().represented(rows)
        for row, data in zip(rows, shown, strict=True):
            if not self.request.user.has_perm("keys.change_providerkey", row):
                data["secret_hint"] = ""
        return shown

    def add(self, values: dict[str, Any]) -> ProviderKey:
        """Save a new provider key."""
        secret = values.pop("secret", "")
        row = ProviderKey(**values)
        self.require("add", row)
        provider_keys.save(row, secret)
        return row

    def change(self, row: ProviderKey, values: dict[str, Any]) -> None:
        """Save these values. A changed address needs the secret again."""
        secret = values.pop("secret", "")
        assign(row, values)
        provider_keys.save(row, secret)

    @action(detail=True, methods=["post"], takes=Nothing)
    def test(self, request: Request, pk: Any) -> Response:
        """Test its secret and address by a request that costs nothing."""
        self.taken()
        row = self.row()
        self.require("test", row)
        provider_checks.check(row)
        return self.shown(self.again(row.pk))

    @action(detail=True, methods=["post"], takes=Nothing)
    @written
    def reset(self, request: Request, pk: Any) -> Response:
        """End its cool-downs, so that the next call uses it."""
        self.taken()
        row = self.row()
        self.require("end", row, "keys.end_cooldown")
        Cooldown.objects.filter(provider_key=row).delete()
        return self.shown(self.again(row.pk))


class AliasMembers(Members):
    """The deployment's own name for a model."""

    id = Whole(read_only=True)
    name = Text()
    target = Text(help_text="What it stands for: a model, or provider/model.")
    created_at = Moment(read_only=True)


class Aliases(Listed, Added, Changed, Removed):
    """The deployment's own names for models."""

    scope = "aliases"
    noun = "aliases"
    queryset = ModelAlias.objects.all()
    serializer_class = AliasMembers
    filters: ClassVar = {"name": filters.by_text("name")}

    def add(self, values: dict[str, Any]) -> ModelAlias:
        """Save a new alias."""
        row = ModelAlias(**values)
        self.require("add", row)
        model_aliases.save(row)
        return row

    def change(self, row: ModelAlias, values: dict[str, Any]) -> None:
        """Save these values."""
        assign(row, values)
        model_aliases.save(row)

    def remove(self, row: ModelAlias) -> None:
        """Forget the name."""
        self.require("delete", row)
        row.delete()
