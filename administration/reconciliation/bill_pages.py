"""Pages of bills: files that people upload, and what no pattern of their format fits."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from administration import rooms
from administration.reconciliation.pages import framed, refuse_unless
from administration.rooms import Page
from keys.errors import Unusable
from reconciliation import bills
from reconciliation.sources import Bill, BillFormat

LISTED, METERS = 50, 100


class UploadForm(forms.Form):
    """A file, and how to read it."""

    format = forms.ModelChoiceField(BillFormat.objects.all())
    file = forms.FileField(help_text="CSV in UTF-8. For large files: manage.py import_bill.")


@require_http_methods(["GET", "HEAD", "POST"])
def uploaded(request: HttpRequest) -> HttpResponse:
    """The bills, latest first, and the form that takes another one. `?bill=ID` shows what isn't mapped of one."""
    allowed = request.user.has_perm("reconciliation.add_bill")
    form = UploadForm(request.POST or None, request.FILES or None)
    if request.method == "POST":
        refuse_unless(allowed)
    if request.method == "POST" and form.is_valid():
        file: Any = form.cleaned_data["file"]
        try:
            bill = bills.take(form.cleaned_data["format"], file.name, file.file, author=request.user.get_username())
        except Unusable as error:
            form.add_error("file", f"Nothing was stored: {error}.")
        else:
            messages.success(request, f"“{bill.filename}” is stored, and its days are compared.")
            return HttpResponseRedirect(f"{reverse('admin:bills')}?bill={bill.pk}")
    rows = Bill.objects.select_related("format__provider_key")
    number = request.GET.get("bill", "")
    shown = rows.filter(pk=int(number)).first() if number.isdecimal() and len(number) < 19 else None
    meters = bills.unmapped(shown) if shown else []
    return framed(
        request,
        "bills",
        "Bills",
        rows=rows[:LISTED],
        shown=shown,
        meters=meters[:METERS],
        unmapped=sum((amount for _, amount in meters), Decimal(0)),
        form=form if allowed else None,
        formats=BillFormat.objects.exists(),
        may_add_formats=request.user.has_perm("reconciliation.add_billformat"),
    )


rooms.BILLING.add(
    Page("Bills", "admin:bills", ("reconciliation.view_bill",), route="billing/bills/", view=uploaded),
    rooms.listed("Bill formats", "reconciliation.billformat"),
)
rooms.PROVIDERS.add(rooms.listed("Admin keys", "reconciliation.adminkey"))
