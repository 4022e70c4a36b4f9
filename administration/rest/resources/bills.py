"""Bills of clouds: the formats of their files, and the files."""

from __future__ import annotations

import base64
import binascii
import io
from decimal import Decimal
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from rest_framework.decorators import action
from rest_framework.fields import CharField, DateField, DictField
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import ChoiceField

from administration.rest import filters
from administration.rest.members import Members, Moment, Text, Whole, number
from administration.rest.resource import Added, Changed, Listed, assign
from administration.rest.resources.reconciliation import Exact
from keys import names
from keys.models import ProviderKey
from reconciliation import bill_columns, bills
from reconciliation.reads import TOKEN_TYPES
from reconciliation.sources import Bill, BillFormat

MOST_METERS, MOST_TOKENS = 1_000, 2_000_000_000
# A file is answered and taken as JSON, so its text is in base64.
LONGEST_FILE = bills.MOST_BYTES * 4 // 3 + 4


class MeterMembers(Members):
    """Which model's tokens a meter counts."""

    pattern = Text(help_text="Of the meter, such as `*opus-5-5*input-tokens*`. The first that fits counts.")
    model = Text()
    token_type = ChoiceField(choices=["", *TOKEN_TYPES], required=False, default="", help_text="Empty: a fee.")

    def validate(self, values: dict[str, Any]) -> dict[str, Any]:
        """Refuse what can't stand in a line of the page's form."""
        if "=" in values["pattern"] or "," in values["model"]:
            raise ValidationError("A pattern has no “=”, and a model no comma.")
        return values


class BillFormatMembers(Members):
    """How to read a file of a cloud's bill."""

    id = Whole(read_only=True)
    name = Text()
    provider_key_id = number(help_text="Whose calls the bill is about.")
    columns = DictField(
        child=Text(),
        help_text=f"The file's column names by what they say: {', '.join(bill_columns.WANTED)}. "
        f"{', '.join(bill_columns.NEEDED)} are needed.",
    )
    meters = MeterMembers(many=True, required=False)
    tokens_in_unit = Whole(
        required=False, min_value=1, max_value=MOST_TOKENS, help_text="Tokens of one unit of the quantity."
    )
    created_at = Moment(read_only=True)


class BillFormats(Listed, Added, Changed):
    """How to read files of clouds' bills. After a change, the days of its bills are compared again."""

    scope = "reconciliation"
    noun = "bill formats"
    queryset = BillFormat.objects.all()
    serializer_class = BillFormatMembers
    filters: ClassVar = {"name": filters.by_text("name"), "provider_key_id": filters.by_id("provider_key")}

    def add(self, values: dict[str, Any]) -> BillFormat:
        """Save a new format."""
        self.require_any("add")
        row = BillFormat()
        self.keep(row, values)
        return row

    def change(self, row: BillFormat, values: dict[str, Any]) -> None:
        """Save these values, and compare its bills again."""
        self.keep(row, values)
        bills.compare_again(row)

    def keep(self, row: BillFormat, values: dict[str, Any]) -> None:
        """Save these values of a format.

        Raises:
            ValidationError: a column is unknown or missing, or there are too many patterns.
            Unusable: the name is taken.
        """
        if "provider_key_id" in values:
            row.provider_key = self.chosen(ProviderKey, values.pop("provider_key_id"), "provider_key_id")  # type: ignore[assignment]
        try:
            if "columns" in values:
                values["columns"] = bill_columns.checked_columns(values["columns"])
        except ValueError as error:
            raise ValidationError({"columns": f"{error}."}) from None
        if len(values.get("meters", ())) > MOST_METERS:
            raise ValidationError({"meters": f"There can be {MOST_METERS:,} patterns at most."})
        if "meters" in values:
            values["meters"] = [dict(each) for each in values["meters"]]
        assign(row, values)
        with names.unique(f"a bill format named “{row.name}” already exists: choose another name"):
            row.save()


class BillMembers(Members):
    """A file that was uploaded. The same file is taken once."""

    id = Whole(read_only=True)
    format_id = number()
    filename = Text()
    content = CharField(write_only=True, max_length=LONGEST_FILE, help_text="The file (CSV in UTF-8) in base64.")
    sha256 = CharField(read_only=True, help_text="Of the file.")
    size = Whole(read_only=True)
    lines = Whole(read_only=True)
    first_day = DateField(read_only=True)
    last_day = DateField(read_only=True)
    amount = Exact(signed=True, read_only=True, help_text="USD.")
    uploaded_at = Moment(read_only=True)
    author = CharField(read_only=True)


class UnmappedMeterMembers(Members):
    """A meter that no pattern of the format fits."""

    meter = CharField()
    amount = Exact(signed=True, help_text="USD.")


class UnmappedMembers(Members):
    """The money of a bill that no pattern of its format fits, the largest amount first."""

    amount = Exact(signed=True, help_text="The sum, in USD.")
    meters = UnmappedMeterMembers(many=True, help_text=f"The first {MOST_METERS:,}.")


class Bills(Listed, Added):
    """Files of clouds' bills, newest first. A day in a later file replaces that of earlier ones of the same format. A
    body is bounded by `MAX_PAGE_BYTES`; `manage.py import_bill` takes larger files."""

    scope = "reconciliation"
    noun = "bills"
    queryset = Bill.objects.all()
    serializer_class = BillMembers
    newest_first = True
    filters: ClassVar = {"format_id": filters.by_id("format"), "sha256": filters.by_text("sha256")}

    def add(self, values: dict[str, Any]) -> Bill:
        """Read a file, keep its sums and compare its days.

        Raises:
            Conflict: the same file was taken before.
            Unusable: it can't be read.
            ValidationError: there is no such format, or the content is no base64.
        """
        self.require_any("add")
        format_ = self.chosen(BillFormat, values["format_id"], "format_id")
        assert format_ is not None
        try:
            content = base64.b64decode(values["content"], validate=True)
        except (binascii.Error, ValueError):
            raise ValidationError({"content": "This is no base64."}) from None
        return bills.take(format_, values["filename"], io.BytesIO(content), author=self.request.user.get_username())

    @action(detail=True, methods=["get"], returns=UnmappedMembers)
    def unmapped(self, request: Request, pk: Any) -> Response:
        """The meters of a bill that no pattern of its format fits, with their money."""
        found = bills.unmapped(self.row())
        meters = [{"meter": meter, "amount": amount} for meter, amount in found[:MOST_METERS]]
        whole = sum((amount for _, amount in found), Decimal(0))
        return Response(dict(UnmappedMembers({"amount": whole, "meters": meters}).data))
