"""Forms of saved reports: a name, and when a report is sent by e-mail, and to whom."""

from __future__ import annotations

from datetime import time
from typing import Any, ClassVar

from django import forms
from django.utils import timezone

from administration.models import Person
from keys import viewer
from keys.visibility import visible
from usage.reporting import mailing
from usage.saved_reports import Cadence, ReportSchedule, SavedReport

# People that the form offers.
OFFERED = 200


class NameForm(forms.ModelForm):  # type: ignore[type-arg]
    """A report's name, and whether others find it."""

    class Meta:
        model = SavedReport
        fields = ("name", "shared")
        labels: ClassVar = {"shared": "Share with others"}


class TimeInput(forms.TimeInput):
    """A time of day in the browser's own field."""

    input_type = "time"

    def __init__(self) -> None:
        super().__init__(format="%H:%M")


class MailForm(forms.Form):
    """When a report is sent by e-mail, and to whom."""

    every = forms.ChoiceField(label="Send it", required=False, choices=[("", "never"), *Cadence.choices])
    at = forms.TimeField(required=False, widget=TimeInput, help_text="by the clock of the time zone")
    zone = forms.ChoiceField(label="Time zone", choices=lambda: [(name, name) for name in viewer.zones()])
    people = forms.ModelMultipleChoiceField(
        Person.objects.none(),
        label="To",
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text="Each gets what they may see. Others who find the report can subscribe to it on this page.",
    )

    def __init__(self, data: Any = None, *, user: Any, report: SavedReport) -> None:
        """A form for a report's owner, with the people whom the owner sees and who can get the report."""
        schedule = schedule_of(report)
        initial: dict[str, Any] = {
            "every": "",
            "at": time(7),
            "zone": timezone.get_current_timezone_name(),
            "people": [user.pk],
        }
        if schedule is not None:
            initial |= {"every": schedule.every, "at": schedule.at, "zone": schedule.zone}
            initial["people"] = list(schedule.recipients.values_list("person", flat=True))
        super().__init__(data, initial=initial)
        field: Any = self.fields["people"]
        field.queryset = Person.objects.filter(pk__in=offered(user, report) | set(initial["people"]))
        field.label_from_instance = lambda person: person.get_full_name() or person.get_username()

    def clean(self) -> dict[str, Any]:
        """Check that a report that is sent has a time and a receiver."""
        cleaned = super().clean() or {}
        if cleaned.get("every"):
            if cleaned.get("at") is None and "at" not in self.errors:
                self.add_error("at", "Enter a time of day.")
            if not cleaned.get("people") and "people" not in self.errors:
                self.add_error("people", "Choose who gets it.")
        return cleaned


def schedule_of(report: SavedReport) -> ReportSchedule | None:
    """When a report is sent; None: never."""
    return ReportSchedule.objects.filter(report=report).first()


def offered(user: Any, report: SavedReport) -> set[int]:
    """The ids of people whom the form offers: the owner, and of a shared report those whom the owner sees and who can
    get it."""
    found = {user.pk}
    if report.shared:
        people = visible(user, Person.objects.filter(is_active=True).exclude(email=""))
        found |= {person.pk for person in people.order_by("username")[:OFFERED] if mailing.may_get(person, report)}
    return found
