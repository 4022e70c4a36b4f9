"""Saved reports: questions of the usage report under a name."""

from __future__ import annotations

from typing import Any, ClassVar

from django.core.exceptions import PermissionDenied
from django.db.models import Model, QuerySet
from rest_framework.serializers import CharField, SerializerMethodField

from administration import refused
from administration.rest import filters
from administration.rest.members import Flag, Members, Moment, Text, Whole
from administration.rest.resource import Added, Changed, Listed, Removed, assign
from usage.reporting import saved
from usage.saved_reports import LONGEST_QUERY, Cadence, SavedReport

OTHERS = "This report is another person's: only they change it."


class SavedReportMembers(Members):
    """A question of the usage report under a name."""

    id = Whole(read_only=True)
    name = Text(max_length=100)
    query = Text(
        max_length=LONGEST_QUERY,
        help_text="The parameters of the report's URL, such as `range=last_month&zone=Europe%2FBerlin&by=team`. A "
        "named range stays relative. Answers have all parameters, in their usual order.",
    )
    shared = Flag(
        required=False,
        help_text="Everyone who may see what the report names finds it, and sees in it only what they may see.",
    )
    owner = CharField(read_only=True, source="owner.username", help_text="Whose it is.")
    mailed = SerializerMethodField(
        help_text=f"How often it is sent by e-mail: {', '.join(f'`{each}`' for each in Cadence.values)}; null: never. "
        "Its page sets this."
    )
    created_at = Moment(read_only=True)

    def get_mailed(self, report: SavedReport) -> str | None:
        """How often it is sent by e-mail."""
        schedule = getattr(report, "schedule", None)
        return None if schedule is None else schedule.every


class SavedReports(Listed, Added, Changed, Removed):
    """A person's own reports, and those that others share. `GET /api/v1/usage` and the usage report answer them."""

    scope = "saved_reports"
    noun = "saved reports"
    queryset = SavedReport.objects.select_related("owner", "schedule")
    serializer_class = SavedReportMembers
    filters: ClassVar = {"shared": filters.by_flag(lambda rows, shared: rows.filter(shared=shared))}
    volatile = ("mailed",)

    def require_any(self, action: str) -> None:
        """Check that the token's person may see reports.

        Raises:
            PermissionDenied: the person may not.
        """
        if not self.request.user.has_perm(saved.SEE):
            raise PermissionDenied(refused.sentence(saved.SEE))

    def require(self, action: str, row: Model, permission: str = "") -> None:
        """Check that a report is the person's own.

        Raises:
            PermissionDenied: it is another person's.
        """
        assert isinstance(row, SavedReport)
        if not saved.may_change(self.request.user, row):
            raise PermissionDenied(OTHERS)

    def rows(self, action: str = "view") -> QuerySet[Any]:
        """The reports that the token's person finds."""
        return saved.seen_by(self.request.user).select_related("owner", "schedule")

    def add(self, values: dict[str, Any]) -> SavedReport:
        """Save a new report of the token's person."""
        self.require_any("add")
        person: Any = self.request.user
        return saved.save(person, SavedReport(owner_id=person.pk, **values))

    def change(self, row: SavedReport, values: dict[str, Any]) -> None:
        """Save these values."""
        assign(row, values)
        saved.save(self.request.user, row)

    def remove(self, row: SavedReport) -> None:
        """Delete a report, and end its e-mails.

        Raises:
            PermissionDenied: it is another person's.
        """
        if not saved.may_remove(self.request.user, row):
            raise PermissionDenied(OTHERS)
        row.delete()
