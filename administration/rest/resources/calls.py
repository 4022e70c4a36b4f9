"""What happened: calls, refused calls, and the audit log. Programs read them; nothing changes them."""

from __future__ import annotations

from typing import Any, ClassVar
from uuid import UUID

from django.db.models import QuerySet
from django.http import Http404
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import CharField, ChoiceField, DictField, JSONField, ListField, SerializerMethodField

from administration.rest import filters
from administration.rest.errors import RestError
from administration.rest.members import Amount, Flag, Members, Moment, Whole
from administration.rest.resource import Listed
from keys.audit.filters import KINDS, of_row
from keys.audit.models import AuditEvent
from keys.audit.words import Words
from usage import archived, export, paid, request_ids
from usage.models import LedgerEntry, Refusal, Status
from usage.tokens import TOKEN_COLUMNS


class RequestId(CharField):
    """A call's id, as clients see it: `req_bf_…`."""

    def to_representation(self, value: Any) -> str:
        """The id in text."""
        return request_ids.request_id(value)


class CallMembers(Members):
    """A call that reached a provider. Its content is not kept."""

    id = RequestId()
    provider_request_id = CharField()
    admitted_at = Moment()
    ended_at = Moment()
    customer_id = Whole()
    team_id = Whole(allow_null=True)
    virtual_key_id = Whole()
    provider_key_id = Whole(allow_null=True)
    provider = CharField()
    endpoint = CharField()
    requested_model = CharField()
    model = CharField()
    stream = Flag()
    status = ChoiceField(choices=Status.values)
    http_status = Whole(allow_null=True)
    error_type = CharField()
    stop_reason = CharField()
    service_tier = CharField()
    tokens = SerializerMethodField(help_text="Tokens and requests by category.")
    cost = Amount(help_text="What the provider charges, in USD; for those who can't see prices, what the owner pays.")
    charge = Amount(source="owed", help_text="What the owner pays, in USD.")
    currency = CharField()
    held = Amount()
    estimated = Flag()
    price_version = CharField()
    price_flag = CharField()
    time_to_first_byte_ms = Whole(allow_null=True)
    duration_ms = Whole()
    labels = DictField()
    client_labels = DictField()
    attempts = ListField(child=DictField())

    # What a page of them has, beside its rows and cursor.
    of_page: ClassVar = {
        "archived": lambda: ListField(
            child=CharField(), help_text="The archived months of the range, such as 2025-03, whose calls are not here."
        )
    }

    def get_tokens(self, row: LedgerEntry) -> dict[str, int]:
        """The counts by category."""
        return {name: getattr(row, name) for name in TOKEN_COLUMNS}


class OfCalls(Listed):
    """Rows whose ids are request ids."""

    lookup_value_converter = "str"
    newest_first = True

    def row(self, locked: bool = False) -> Any:
        """The row of the URL.

        Raises:
            Http404: there is no such row, or the person doesn't see it.
        """
        try:
            self.kwargs["pk"] = request_ids.parse(self.kwargs["pk"])
        except ValueError:
            raise Http404 from None
        return super().row(locked)


def _since(rows: QuerySet[Any], moment: Any) -> QuerySet[Any]:
    # The id has the time, so the search begins there.
    return rows & export.Range(since=moment).rows().order_by()


def _until(rows: QuerySet[Any], moment: Any) -> QuerySet[Any]:
    return rows & export.Range(until=moment).rows().order_by()


class Calls(OfCalls):
    """Calls that reached a provider, newest first: one row each, with its tokens and its cost."""

    scope = "calls"
    noun = "calls"
    queryset = LedgerEntry.objects.all()

    def row(self, locked: bool = False) -> Any:
        """The row of the URL.

        Raises:
            RestError: the month of the call is archived.
            Http404: there is no such row, or the person doesn't see it.
        """
        try:
            return super().row(locked)
        except Http404:
            call = self.kwargs["pk"]
            if isinstance(call, UUID) and (month := archived.of_call(call)) is not None:
                raise RestError(404, f"{archived.in_words([month])}.") from None
            raise

    def list(self, request: Request) -> Response:
        """A page, and which months of the range are archived."""
        answer = super().list(request)
        since, until = (
            filters.a_moment(request.query_params[name]) if name in request.query_params else None
            for name in ("since", "until")
        )
        answer.data["archived"] = [str(month) for month in archived.overlapping(since, until)]
        return answer

    def represented(self, rows: Any) -> Any:
        """Rows as answers show them: who may not see prices sees what the owner pays, in both members."""
        return super().represented([paid.seen_by(self.request.user, row) for row in rows])

    serializer_class = CallMembers
    filters: ClassVar = {
        "customer_id": filters.by_id("customer"),
        "team_id": filters.by_id("team"),
        "virtual_key_id": filters.by_id("virtual_key"),
        "provider_key_id": filters.by_id("provider_key"),
        "model": filters.by_text("model"),
        "status": filters.by_choice("status", [*Status.values]),
        "estimated": filters.by_flag(lambda rows, estimated: rows.filter(estimated=estimated)),
        "since": filters.by_moment_as(_since),
        "until": filters.by_moment_as(_until),
    }


class RefusalMembers(Members):
    """A call that the gateway refused, or the last of several of one minute."""

    id = RequestId()
    refused_at = Moment()
    count = Whole()
    http_status = Whole()
    error_type = CharField()
    reason = CharField()
    message = CharField()
    endpoint = CharField()
    virtual_key_id = Whole(allow_null=True)
    requested_model = CharField()
    facts = JSONField(allow_null=True, help_text="What a budget or limit refused, in numbers.")


class Refusals(OfCalls):
    """Calls that the gateway refused in the last days, newest first."""

    scope = "refusals"
    noun = "refused calls"
    queryset = Refusal.objects.all()
    serializer_class = RefusalMembers
    filters: ClassVar = {
        "virtual_key_id": filters.by_id("virtual_key"),
        "reason": filters.by_text("reason"),
        "since": filters.by_moment("refused_at__gte"),
        "until": filters.by_moment("refused_at__lt"),
    }


class EventMembers(Members):
    """A change, sign-in or export: who, when, from where, and from what to what."""

    id = Whole()
    at = Moment()
    actor_kind = ChoiceField(choices=list(KINDS))
    actor = CharField(help_text="Who acted, in words.")
    address = CharField()
    action = CharField()
    table = CharField()
    object_id = CharField()
    about = CharField(help_text="The row that it belongs to, as table:id.")
    description = CharField(help_text="From what to what, in words.")


class Events(Listed):
    """The audit log, newest first: who changed what, from what to what."""

    scope = "audit"
    noun = "events of the audit log"
    queryset = AuditEvent.objects.all()
    serializer_class = EventMembers
    newest_first = True
    filters: ClassVar = {
        "actor_kind": filters.by_choice("actor_kind", list(KINDS)),
        "table": filters.by_text("table_name"),
        "row": filters.by_row(of_row),
        "since": filters.by_moment("at__gte"),
        "until": filters.by_moment("at__lt"),
    }

    def represented(self, rows: list[AuditEvent]) -> list[dict[str, Any]]:
        """The events in words, whose names are looked up together."""
        return [dict(EventMembers(each).data) for each in in_words(rows)]


def in_words(events: list[AuditEvent]) -> list[dict[str, Any]]:
    """Events as answers show them."""
    words = Words(events)
    return [
        {
            "id": event.pk,
            "at": event.at,
            "actor_kind": event.actor_kind,
            "actor": words.who(event),
            "address": event.address,
            "action": event.action,
            "table": event.table_name,
            "object_id": event.object,
            "about": event.about,
            "description": words.what(event),
        }
        for event in events
    ]
