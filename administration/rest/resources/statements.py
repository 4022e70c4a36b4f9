"""Closed months: statements and credit notes."""

from __future__ import annotations

import base64
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from rest_framework.decorators import action
from rest_framework.fields import BooleanField, CharField, ChoiceField, ListField, SerializerMethodField
from rest_framework.request import Request
from rest_framework.response import Response

from administration.rest import filters
from administration.rest.members import Amount, Members, Moment, Text, Whole
from administration.rest.resource import Listed, written
from administration.roles import names
from administration.statements import files, mails
from billing import closing, documents, months
from billing.formats import pdf
from billing.models import Kind, Statement
from keys.errors import Unusable
from keys.models import Customer


class StatementMembers(Members):
    """A statement or a credit note. `total` is in `currency`, `total_usd` exact."""

    id = Whole()
    number = CharField()
    kind = ChoiceField(choices=Kind.values)
    customer_id = Whole()
    team_id = Whole(allow_null=True)
    month = SerializerMethodField(help_text="As 2026-10.")
    issued_at = Moment()
    currency = CharField()
    total = Amount()
    total_usd = Amount()
    corrects = SerializerMethodField(help_text="The number of the statement that a credit note corrects.")
    hash = CharField(help_text="SHA-256 of the file `json`.")
    previous_hash = CharField(help_text="Of the issuer's document before; empty for the first one.")

    def get_month(self, row: Statement) -> str:
        """The month."""
        return f"{row.month:%Y-%m}"

    def get_corrects(self, row: Statement) -> str | None:
        """The number of the statement that it corrects."""
        return row.corrects.number if row.corrects else None


class CloseMembers(Members):
    """Which month is closed."""

    customer_id = Whole()
    month = Text(max_length=7, help_text="As 2026-10.")
    leave_earlier = BooleanField(
        required=False, default=False, help_text="For a first statement: calls before it are billed elsewhere."
    )


class ClosedMembers(Members):
    """The documents of the month; none, if the issuer wants four eyes and another person has to ask, too."""

    numbers = ListField(child=CharField())
    waits_for_second_person = BooleanField()


class FileMembers(Members):
    """A file."""

    name = CharField()
    media_type = CharField()
    sha256 = CharField()
    content = CharField(help_text="In base64.")


class Statements(Listed):
    """Closed months: statements and credit notes, newest first. They are never changed. Each has the files `pdf`,
    `csv`, `xlsx`, `json`, `journal.csv`, `focus.csv` and `evidence.zip`."""

    scope = "statements"
    noun = "statements"
    queryset = Statement.objects.select_related("corrects")
    serializer_class = StatementMembers
    newest_first = True
    filters: ClassVar = {
        "customer_id": filters.by_id("customer"),
        "team_id": filters.by_id("team"),
        "number": filters.by_text("number"),
        "month": filters.Filter(
            months.parse,
            lambda rows, month: rows.filter(month=month),
            "a month, such as 2026-10",
            {"type": "string", "pattern": "^2[0-9]{3}-(0[1-9]|1[0-2])$"},
        ),
        "kind": filters.by_choice("kind", list(Kind.values)),
    }

    @action(detail=False, methods=["post"], takes=CloseMembers, returns=ClosedMembers, url_path="close")
    @written
    def close(self, request: Request) -> Response:
        """Close a month of a customer. It waits for open calls for one lease at most."""
        values = self.taken()
        customer = self.chosen(Customer, values["customer_id"], "customer_id")
        assert customer is not None
        self.require("close", customer, names.CLOSE_MONTH)
        try:
            month = months.parse(values["month"])
        except Unusable as error:
            raise ValidationError({"month": str(error)}) from None
        issued = closing.close(
            customer,
            month,
            by=request.user.get_username(),
            make_files=pdf.make,
            leave_earlier=values["leave_earlier"],
        )
        mails.send(issued)
        return Response({"numbers": [each.number for each in issued], "waits_for_second_person": not issued})

    @action(detail=True, methods=["get"], returns=FileMembers, url_path="files/<str:name>")
    def file(self, request: Request, pk: Any, name: str) -> Response:
        """A file of a document, in base64. The evidence pack (`evidence.zip`) is for those who see what providers
        charge, and for documents with at most 200,000 calls: the others are packed by `manage.py evidence_pack`."""
        filename, media, content = files.content(self.row(), name, request.user)
        return Response(
            {
                "name": filename,
                "media_type": media,
                "sha256": documents.digest(content),
                "content": base64.b64encode(content).decode(),
            }
        )
