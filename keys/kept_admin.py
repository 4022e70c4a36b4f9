"""Base classes of the admin pages for keys: their rows are never deleted, and some can be paused.

A secret appears only in the answer to the POST that created it. It never appears in a message (the session stores
messages), in a URL or in the log of changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.widgets import AdminTextInputWidget
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.safestring import SafeString

from keys import pausing
from keys.admin_lists import Listed
from keys.badges import state_badge
from keys.choices import VirtualKeyField
from keys.forms import RevokeForm
from keys.models import VirtualKey
from keys.snippets import snippets
from keys.uncached import framed

SECRET_FIELDS = ("digest", "secret_ciphertext")
# There is only one button, because the answer is always the page with the secret.
ONE_WAY_TO_SAVE = {"show_save_and_add_another": False, "show_save_and_continue": False}
# In the URL of a form that adds a row: back to the overview, whose next step this may be.
THEN_OVERVIEW = {"then": "overview"}
SOME_MODEL = "claude-haiku-4-5"
ECHO_MODEL = "echo-1"


class KeptAdmin(Listed):
    """Pages whose rows can't be deleted, because the ledger names them, and whose secrets can't be searched."""

    formfield_overrides: ClassVar = {ArrayField: {"widget": AdminTextInputWidget}}

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        # Otherwise ?digest__startswith=… would reveal a digest, a byte at a time.
        if any(part in SECRET_FIELDS for part in lookup.split("__")):
            return False
        return super().lookup_allowed(lookup, value, request)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.related_model is VirtualKey:
            kwargs["form_class"] = VirtualKeyField
            kwargs.setdefault("queryset", VirtualKey.objects.all())
            kwargs["queryset"] = kwargs["queryset"].select_related("customer", "team")
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    def response_post_save_add(self, request: HttpRequest, obj: Any) -> HttpResponseRedirect:
        """Lead back to where the form was linked from: the overview, or the list."""
        if all(request.GET.get(name) == value for name, value in THEN_OVERVIEW.items()):
            return HttpResponseRedirect(reverse("admin:index"))
        return super().response_post_save_add(request, obj)

    def page(self, request: HttpRequest, template: str, **context: Any) -> TemplateResponse:
        """A custom page in the admin's frame, sent so that no cache stores it."""
        return framed(request, f"admin/keys/{template}", {"opts": self.opts, **context})

    def shown_once(
        self, request: HttpRequest, virtual_key: VirtualKey, title: str, plain: str, done: str = "", **more: Any
    ) -> TemplateResponse:
        """The only page that shows this secret. `done`: a sentence about what was done."""
        base_url = request.build_absolute_uri("/").rstrip("/")
        return self.page(
            request,
            "shown_once.html",
            title=title,
            plain=plain,
            done=done,
            virtual_key=virtual_key,
            snippets=snippets(base_url, plain, example_model(virtual_key)),
            back=reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist"),
            **more,
        )

    def confirm_revoking(
        self, request: HttpRequest, rows: Iterable[models.Model], title: str, form: RevokeForm | None, action: str = ""
    ) -> TemplateResponse:
        """The page that asks for confirmation, because a revocation can't be undone."""
        back = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        return self.page(request, "revoke.html", title=title, rows=rows, form=form, action=action, back=back)


def example_model(virtual_key: VirtualKey) -> str:
    """A model for the example call: one that this key may use, if its settings name any."""
    served = [pattern for key in virtual_key.provider_keys.all() for pattern in key.model_patterns]
    for name in (*virtual_key.allowed_models, *served):
        if "*" not in name and virtual_key.allows(name):
            return name
    return ECHO_MODEL if served and all(name.startswith("echo") for name in served) else SOME_MODEL


class PausableAdmin(KeptAdmin):
    """Pages whose rows can be paused: the gateway refuses their calls until they are resumed."""

    actions: Sequence[Any] = ("pause", "resume")

    def changeable(self, request: HttpRequest, action: str, queryset: QuerySet[Any]) -> list[Any]:
        """The rows that aren't closed to changes, and to which the person may do this."""
        rows = self.permitted(request, action, queryset)
        return [row for row in rows if self.has_change_permission(request, row)]

    def has_pause_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return self.asked(request, "pause", obj)

    @admin.action(description="Pause: refuse their calls until resumed", permissions=["pause"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        rows = self.changeable(request, "pause", queryset)
        pausing.pause_all(rows)
        self.note(request, rows, "Paused")

    @admin.action(description="Resume: accept their calls again", permissions=["pause"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        rows = self.changeable(request, "pause", queryset)
        pausing.resume_all(rows)
        self.note(request, rows, "Resumed")

    def note(self, request: HttpRequest, rows: list[Any], what: str) -> None:
        """Log the change for each row, and show which rows it affected."""
        for row in rows:
            self.log_change(request, row, f"{what}.")
        self.message_user(request, f"{what}: {', '.join(map(str, rows)) or 'none'}.")

    @admin.display(description="state", ordering="paused")
    def paused_state(self, row: Any) -> SafeString:
        return state_badge("paused" if row.paused else "active")
