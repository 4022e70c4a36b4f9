"""Admin pages for issuers of statements, and for the billing particulars of customers."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import TextField
from django.http import HttpRequest

from billing.models import Issuer, Particulars, Statement
from keys.admin_lists import Listed

AREA = {"widget": forms.Textarea(attrs={"rows": 4, "cols": 60})}


class Kept(Listed):
    """Rows that are never deleted, because documents name them."""

    formfield_overrides: ClassVar = {TextField: AREA}
    actions: Any = None

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Issuer)
class IssuerAdmin(Kept):
    """Who issues statements."""

    title = "Issuers"
    empty = "Statements and credit notes are issued in the name of an issuer, which numbers them. Add yours."
    about = "An issuer’s numbers have no gap. Its prefix and its next numbers stay once it has issued a document."
    list_display = ("name", "prefix", "next_number", "next_credit_number", "four_eyes")
    fields = ("name", "address", "prefix", "next_number", "next_credit_number", "four_eyes")
    search_fields = ("name", "prefix")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        if obj is not None and Statement.objects.filter(issuer=obj).exists():
            return ("prefix", "next_number", "next_credit_number")
        return ()


@admin.register(Particulars)
class ParticularsAdmin(Kept):
    """What statements say about a customer."""

    title = "Billing particulars"
    empty = "A customer gets statements once it has billing particulars: who issues them, and in which currency."
    about = "A statement keeps the particulars as they were when it was closed: a change applies from the next one on."
    list_display = ("customer", "issuer", "billing_name", "currency", "time_zone", "cost_centre", "by_team")
    list_select_related = ("customer", "issuer")
    autocomplete_fields = ("customer",)
    fieldsets: ClassVar = [
        (None, {"fields": ("customer", "issuer", "by_team")}),
        ("On each document", {"fields": ("billing_name", "address", "currency", "time_zone")}),
        ("Sent to", {"fields": ("contacts",)}),
        ("Journal for the ERP", {"fields": ("cost_centre", "debit_account", "credit_account")}),
    ]
    list_filter = ("issuer", "currency", "by_team")
    search_fields = ("customer__name", "billing_name", "cost_centre")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("customer",) if obj is not None else ()
