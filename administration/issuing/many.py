"""The page that issues many virtual keys at once: names, a preview, and one file with the keys.

The preview issues the keys in a transaction that it takes back, so what it shows is what the rules say. The secrets are
only in the answer that is the file: nothing keeps them, and the page can't be asked for them again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.contrib.admin.models import ADDITION, LogEntry
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.http import require_http_methods

from administration import rooms
from administration.issuing import lines
from administration.issuing.lines import Line
from administration.issuing.one import ISSUE, begin, page
from administration.issuing.terms import TermsForm
from administration.rooms import Page
from keys.csv_lines import BYTE_ORDER_MARK, csv_line
from keys.errors import Unusable
from keys.forms import refusals_shown
from keys.models import VirtualKey
from keys.uncached import kept_nowhere
from usage.new_keys import MOST_AT_ONCE, Issued

# Bytes of a text or a file with names: far more than the most keys need.
MOST_BYTES = 512 * 1024
HEADER = ("customer", "team", "name", "owner", "virtual key", "expires at (UTC)")
TITLE = "Issue many virtual keys"


class ManyForm(TermsForm):
    """The terms that the new keys share, and their names."""

    names = forms.CharField(
        label="Names",
        required=False,
        max_length=MOST_BYTES,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 8, "cols": 40, "spellcheck": "false"}),
        help_text=(
            f"One a line, at most {MOST_AT_ONCE}. Or CSV, whose first line names the columns: name, and any of "
            f"{', '.join(lines.OTHERS)}. What a line doesn't say is as below."
        ),
    )
    file = forms.FileField(label="Or a CSV file", required=False, allow_empty_file=True)

    def clean_file(self) -> str:
        """The text of the file; empty without one.

        Raises:
            ValidationError: it is too long, or not UTF-8.
        """
        file = self.cleaned_data["file"]
        if file is None:
            return ""
        if file.size > MOST_BYTES:
            raise forms.ValidationError(f"The file is too long: at most {MOST_BYTES // 1024} kB are read.")
        try:
            return str(file.read().decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise forms.ValidationError("The file isn't text in UTF-8: save it as “CSV UTF-8”.") from None

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean()
        text = cleaned.get("file") or cleaned.get("names") or ""
        if "file" in self.errors or "names" in self.errors:
            return cleaned
        if cleaned.get("file") and (cleaned.get("names") or "").strip():
            self.add_error("file", "Give the names either in the field or as a file.")
            return cleaned
        try:
            with refusals_shown():
                self.lines = lines.read(text)
        except forms.ValidationError as error:
            self.add_error("file" if cleaned.get("file") else "names", error)
        self.text = text
        return cleaned


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a line: a key, or a fault."""

    line: Line
    issued: Issued | None = None
    fault: str = ""


@require_http_methods(["GET", "HEAD", "POST"])
def issue_many(request: HttpRequest) -> HttpResponse:
    """The form; then a preview; then the file with the keys, once."""
    if request.method != "POST":
        form = ManyForm(request.user)
        return page(request, "many.html", TITLE, form, left_out=begin(form, request.GET))
    form = ManyForm(request.user, request.POST, request.FILES)
    if form.is_valid():
        confirmed = "confirmed" in request.POST
        try:
            outcomes = issue_all(form, keep=confirmed)
        except Unusable as error:
            form.show(error)
        else:
            faults = sum(1 for outcome in outcomes if outcome.fault)
            if confirmed and not faults:
                return download(request, [outcome.issued for outcome in outcomes if outcome.issued])
            if "change" not in request.POST:
                return page(
                    request,
                    "preview.html",
                    TITLE,
                    form,
                    outcomes=outcomes,
                    faults=faults,
                    count=len(outcomes),
                    sent=sent(request, form),
                )
    return page(request, "many.html", TITLE, form)


def issue_all(form: ManyForm, *, keep: bool) -> list[Outcome]:
    """Issue the keys of all lines. Nothing is kept if a line has a fault, or if nothing is to be kept.

    Raises:
        Unusable: the customer or team can't be added.
    """
    outcomes = []
    with transaction.atomic():
        customer, team = form.save_payer()
        for line in form.lines:
            if line.own is None:
                outcomes.append(Outcome(line, fault=line.fault))
                continue
            try:
                with transaction.atomic():
                    outcomes.append(Outcome(line, form.issue(line.own, customer, team)))
            except Unusable as error:
                outcomes.append(Outcome(line, fault=str(error)))
        if not keep or any(outcome.fault for outcome in outcomes):
            transaction.set_rollback(True)
    return outcomes


def sent(request: HttpRequest, form: ManyForm) -> list[tuple[str, str]]:
    """What the form was sent with, to send it again. Names of a file come as the text."""
    own = {"csrfmiddlewaretoken", "confirmed", "change", "names", "file"}
    found = [(name, value) for name, values in request.POST.lists() if name not in own for value in values]
    return [*found, ("names", form.text)]


def download(request: HttpRequest, issued: list[Issued]) -> HttpResponse:
    """The file with the keys. It is made once, and nothing keeps it."""
    keys = VirtualKey.objects.filter(pk__in=[each.virtual_key.pk for each in issued])
    LogEntry.objects.log_actions(request.user.pk or 0, keys, ADDITION, [{"added": {}}])
    body = BYTE_ORDER_MARK + csv_line(HEADER) + "".join(csv_line(_cells(each)) for each in issued)
    filename = f"virtual-keys-{timezone.now():%Y-%m-%d-%H%M}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{filename}"'}
    return kept_nowhere(HttpResponse(body, content_type="text/csv; charset=utf-8", headers=headers))


def _cells(issued: Issued) -> tuple[str, ...]:
    key = issued.virtual_key
    expires = f"{key.expires_at:%Y-%m-%d %H:%M}" if key.expires_at else ""
    return key.customer.name, key.team.name if key.team else "", key.name, key.owner, issued.plain, expires


rooms.KEYS.add(
    Page(TITLE, "admin:issue_many", ISSUE, route="keys/virtualkey/many/", view=issue_many, linked=False),
)
