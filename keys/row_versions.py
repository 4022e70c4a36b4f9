"""Versions of rows. A change names the version that its author has read, so that it overwrites no other change unseen.

REST has the version as an ETag (administration/rest/etags.py), a page as a hidden field of its form.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from django.contrib.admin.utils import flatten_fieldsets, unquote
from django.db import models, transaction
from django.http import HttpRequest, HttpResponse

from keys import viewer
from keys.audit import filters
from keys.audit.models import AuditEvent
from keys.audit.words import Words
from keys.scoped_admin import ScopedAdmin

# The hidden field: the version, and the number of the latest audit event when the page was opened.
FIELD = "_version"
# The attribute of a request whose form names an old version: sentences that say what has changed.
STALE = "changed_since_opened"
# Changes by others that a page names, the latest ones.
NAMED = 5
UNNAMED = (
    "This form doesn't say which version of the row it changes, so nothing was saved. Compare what you entered with "
    "the row, and save it again."
)


def of(shown: Mapping[str, Any]) -> str:
    """The version of a row by what is shown of it: 32 hexadecimal digits."""
    return hashlib.sha256(json.dumps(shown, sort_keys=True, default=_text).encode()).hexdigest()[:32]


def _text(value: Any) -> str:
    return str(value.pk) if isinstance(value, models.Model) else str(value)


class Versioned(ScopedAdmin):
    """Pages that refuse to save a form once its row was changed by others, and say who changed what. The form keeps
    what was entered; sent again, it is saved. A form without a version, such as a script's, is refused in the same way.
    """

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """Compare the versions while the row is locked."""
        if object_id is None or request.method != "POST":
            return super().changeform_view(request, object_id, *args, **kwargs)
        with transaction.atomic():
            self._lock(object_id)
            row = self.get_object(request, unquote(object_id))
            if row is not None and self.has_change_permission(request, row):
                self._compare(request, row, request.POST.get(FIELD, ""))
            return super().changeform_view(request, object_id, *args, **kwargs)

    def _lock(self, object_id: str) -> None:
        try:
            key = self.opts.pk.to_python(unquote(object_id))
        except ValueError:
            return
        self.model._base_manager.select_for_update(no_key=True).filter(pk=key).first()

    def _compare(self, request: HttpRequest, row: Any, named: str) -> None:
        version, _, event = named.partition(".")
        if version != (current := self.version(request, row)):
            opened_at = int(event) if event.isdecimal() and len(event) < 19 else 0
            vars(request)[STALE] = changed_since(request, row, opened_at) if version else [UNNAMED]
            vars(request)[FIELD] = _with_event(current)

    def version(self, request: HttpRequest, row: Any) -> str:
        """The version of a row by what its form, and those of its inlines, would overwrite."""
        fields = flatten_fieldsets(self.get_fieldsets(request, row))
        shown: dict[str, Any] = {"": self.get_form(request, row, change=True, fields=fields)(instance=row).initial}
        for form_set, inline in self.get_formsets_with_inlines(request, row):
            if inline.has_change_permission(request, row):
                rows = form_set(instance=row, queryset=inline.get_queryset(request)).initial_forms
                shown[inline.model._meta.label_lower] = [{"pk": each.instance.pk} | each.initial for each in rows]
        return of(shown)

    def render_change_form(self, request: HttpRequest, context: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        row = kwargs.get("obj")
        if row is not None and self.has_change_permission(request, row):
            if request.method == "POST":  # the row has what was entered
                context["version"] = vars(request).get(FIELD) or request.POST.get(FIELD, "")
            else:
                context["version"] = _with_event(self.version(request, row))
        return super().render_change_form(request, context, *args, **kwargs)

    def get_formset_kwargs(self, request: HttpRequest, obj: Any, inline: Any, prefix: str) -> dict[str, Any]:
        """What an inline's form reads. If others have removed rows of it, it is shown as it is now."""
        given: dict[str, Any] = super().get_formset_kwargs(request, obj, inline, prefix)
        posted = str(request.POST.get(f"{prefix}-INITIAL_FORMS", "0"))
        known = posted.isdecimal() and posted != "0" and len(posted) < 19
        if known and int(posted) > _rows_of(inline, obj, given["queryset"]):
            return {name: given[name] for name in ("instance", "prefix", "queryset")}
        return given


def _rows_of(inline: Any, row: Any, rows: Any) -> int:
    return int(rows.filter(**{inline._parent_field(): row}).count()) if row.pk is not None else 0


def _with_event(version: str) -> str:
    return f"{version}.{AuditEvent.objects.values_list('id', flat=True).first() or 0}"


def changed_since(request: HttpRequest, row: Any, opened_at: int) -> list[str]:
    """Sentences about the changes of a row since its page was opened: who, when and what.

    Who it was, only people see who may see the audit log.

    Args:
        opened_at: the number of the latest audit event at that time.
    """
    events = filters.of_row(AuditEvent.objects.all(), row._meta.concrete_model._meta.db_table, str(row.pk))
    found = list(events.filter(id__gt=opened_at).order_by("-id")[:NAMED]) or list(events.order_by("-id")[:1])
    words, sees = Words(found), request.user.has_perm("keys.view_auditevent")
    said = [f"{viewer.moment(event.at)}, {_who(event, words, request, sees)}: {words.what(event)}" for event in found]
    return [
        "This was changed after you opened the page, and nothing that you entered is saved yet. "
        "Compare it with these changes, and save it again if it shall replace them.",
        *said,
    ]


def _who(event: AuditEvent, words: Words, request: HttpRequest, sees: bool) -> str:
    if (event.actor_kind, event.actor_id) == ("person", request.user.pk):
        return "you"
    return words.who(event) if sees else "another person"
