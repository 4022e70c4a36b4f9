"""What the admin pages for keys and what belongs to them have in common: rows that are kept, and can be paused.

A secret is rendered in the answer to the POST that made it, and nowhere else: not in a message (these are stored),
not in a URL, not in the log of changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.widgets import AdminTextInputWidget
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString

from keys import pausing
from keys.badges import state_badge
from keys.choices import VirtualKeyField
from keys.forms import RevokeForm
from keys.lists import Listed
from keys.models import VirtualKey

SECRET_FIELDS = ("digest", "secret_ciphertext")
# The page that shows a secret answers however the form was sent: no other way to send it is offered.
ONE_WAY_TO_SAVE = {"show_save_and_add_another": False, "show_save_and_continue": False}
SOME_MODEL = "claude-haiku-4-5"
ECHO_MODEL = "echo-1"


class KeptAdmin(Listed):
    """Rows that the ledger names are kept for ever, and their secrets can't be asked about by a look-up."""

    formfield_overrides: ClassVar = {ArrayField: {"widget": AdminTextInputWidget}}

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        # Or else ?digest__startswith=… would answer questions about a digest, a byte at a time.
        if any(part in SECRET_FIELDS for part in lookup.split("__")):
            return False
        return super().lookup_allowed(lookup, value, request)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.related_model is VirtualKey:
            kwargs["form_class"] = VirtualKeyField
            kwargs.setdefault("queryset", VirtualKey.objects.all())
            kwargs["queryset"] = kwargs["queryset"].select_related("customer", "team")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def page(self, request: HttpRequest, template: str, **context: Any) -> TemplateResponse:
        """A page of ours in the frame of the admin, which no cache keeps."""
        frame = {**self.admin_site.each_context(request), "opts": self.opts}
        response = TemplateResponse(request, f"admin/keys/{template}", frame | context)
        response.headers["Cache-Control"] = "no-store"
        return response

    def shown_once(self, request: HttpRequest, virtual_key: VirtualKey, title: str, plain: str) -> TemplateResponse:
        """The only page that ever shows this secret."""
        return self.page(
            request,
            "shown_once.html",
            title=title,
            plain=plain,
            virtual_key=virtual_key,
            base_url=request.build_absolute_uri("/").rstrip("/"),
            model=example_model(virtual_key),
            back=reverse(f"admin:keys_{self.opts.model_name}_changelist"),
        )

    def confirm_revoking(
        self, request: HttpRequest, rows: Iterable[models.Model], title: str, form: RevokeForm | None, action: str = ""
    ) -> TemplateResponse:
        """Asks before something is taken back for good."""
        back = reverse(f"admin:keys_{self.opts.model_name}_changelist")
        return self.page(request, "revoke.html", title=title, rows=rows, form=form, action=action, back=back)


def example_model(virtual_key: VirtualKey) -> str:
    """A model that a call with this key can name."""
    served = [pattern for key in virtual_key.provider_keys.all() for pattern in key.model_patterns]
    for name in (*virtual_key.allowed_models, *served):
        if "*" not in name and virtual_key.allows(name):
            return name
    return ECHO_MODEL if served and all(name.startswith("echo") for name in served) else SOME_MODEL


class PausableAdmin(KeptAdmin):
    """Rows whose calls can be refused for a while."""

    actions: Sequence[Any] = ("pause", "resume")

    def changeable(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        return [row for row in queryset if self.has_change_permission(request, row)]

    @admin.action(description="Pause: refuse their calls for now", permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        rows = self.changeable(request, queryset)
        pausing.pause_all(rows)
        self.note(request, rows, "Paused")

    @admin.action(description="Resume: let their calls in again", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        rows = self.changeable(request, queryset)
        pausing.resume_all(rows)
        self.note(request, rows, "Resumed")

    def note(self, request: HttpRequest, rows: list[Any], what: str) -> None:
        """Log it for each row, and tell the person how many there were."""
        for row in rows:
            self.log_change(request, row, f"{what}.")
        self.message_user(request, f"{what}: {', '.join(map(str, rows)) or 'none'}.")

    @admin.display(description="state", ordering="paused")
    def paused_state(self, row: Any) -> SafeString:
        return state_badge("paused" if row.paused else "active")
