"""Form fields that several pages show, so that the same thing is entered in the same way everywhere."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from keys import commands, issuing
from keys.errors import Unusable


class MomentInput(forms.DateTimeInput):
    """A date and time by the browser's own calendar."""

    input_type = "datetime-local"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%dT%H:%M")

    def format_value(self, value: Any) -> str | None:
        """The value as browsers take it, with its seconds if it has any: a form that is sent back changes nothing."""
        if isinstance(value, datetime) and value.second:
            return value.strftime("%Y-%m-%dT%H:%M:%S")
        return super().format_value(value)


class DayInput(forms.DateInput):
    """A date field that uses the browser's own calendar."""

    input_type = "date"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%d")


class DayField(forms.DateField):
    """A day in the years that the gateway can know. The days beside it exist, and so do their times in every zone."""

    FIRST, LAST = date(2000, 1, 1), date(9000, 12, 31)

    def __init__(self, **options: Any) -> None:
        bounds = [MinValueValidator(self.FIRST), MaxValueValidator(self.LAST)]
        super().__init__(widget=DayInput, validators=bounds, **options)


# What an expiry's buttons choose, from now.
SPANS = (("30 days", timedelta(days=30)), ("90 days", timedelta(days=90)), ("1 year", timedelta(days=365)))


class ExpiryInput(MomentInput):
    """A date and time, with buttons for usual ones. Without scripts, the buttons aren't shown."""

    class Media:
        js = ("keys/presets.js",)

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> SafeString:
        """The field and its buttons. Each has its time in the viewer's zone, whatever the browser's is."""
        now = timezone.localtime(timezone.now())
        times = [(self.format_value((now + span).replace(second=0, microsecond=0)), title) for title, span in SPANS]
        if not self.is_required:
            times.append(("", "Never"))
        return format_html(
            '<span class="preset-field">{}<span class="presets" role="group" aria-label="Expires after" hidden>{}'
            "</span></span>",
            super().render(name, value, attrs, renderer),
            format_html_join("", '<button type="button" data-value="{}">{}</button>', times),
        )


def expiry(label: str = "Expires", *, required: bool = False) -> forms.DateTimeField:
    """The field of the expiry of a virtual key or a token."""
    text = "In your time zone." if required else "In your time zone. Empty: never."
    return forms.DateTimeField(label=label, required=required, widget=ExpiryInput, help_text=text)


class LabelsField(forms.CharField):
    """Labels as `name=value`, one a line. Their value is an object: an empty one without labels."""

    def __init__(self) -> None:
        super().__init__(
            label="Labels",
            required=False,
            max_length=issuing.LABELS * 2 * (issuing.LABEL_LENGTH + 1),
            help_text="name=value, one a line. Each ledger row of the key carries them.",
            widget=forms.Textarea(attrs={"rows": 2, "cols": 30}),
        )

    def prepare_value(self, value: Any) -> Any:
        """The lines of an object."""
        return "\n".join(f"{name}={each}" for name, each in value.items()) if isinstance(value, dict) else value

    def clean(self, value: Any) -> dict[str, str]:
        """The object that lines mean.

        Raises:
            ValidationError: a line isn't `name=value`, or there are too many or too long labels.
        """
        lines = [line.strip() for line in str(super().clean(value)).splitlines() if line.strip()]
        try:
            found = commands.labels(lines)
            issuing.check_labels(found)
        except Unusable as error:
            raise ValidationError(str(error)) from None
        return found

    def has_changed(self, initial: Any, data: Any) -> bool:
        """Whether the lines mean other labels, or none that can be read. Lines that are sent back as shown don't."""
        if str(data or "").split() == self.prepare_value(initial or {}).split():
            return False
        try:
            return self.clean(data) != (initial or {})
        except ValidationError:
            return True
