"""Admin pages that show and change only what the person may, by Django's permissions and keys/visibility.py."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any

from django.contrib import admin
from django.contrib.admin.options import BaseModelAdmin, InlineModelAdmin
from django.contrib.admin.utils import get_fields_from_path
from django.core.exceptions import FieldDoesNotExist, PermissionDenied, ValidationError
from django.db.models import DateTimeField, Model, QuerySet
from django.forms import DateTimeField as MomentField
from django.http import Http404, HttpRequest, HttpResponse

from keys import ceilings
from keys.form_fields import MomentInput
from keys.pickers import PickerSelect, limit
from keys.visibility import visible

# To see the first and last characters of credentials, and to search by them.
VIEW_CREDENTIAL = "keys.view_credential"


class VisibleFilter(admin.RelatedFieldListFilter):
    """A filter by a related row. It offers only those whose names the person may see."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> list[tuple[Any, Any]]:
        """The rows of the menu."""
        rows = visible(request.user, field.remote_field.model._default_manager.all(), "choose")
        order = self.field_admin_ordering(field, request, model_admin)
        return [(row.pk, str(row)) for row in (rows.order_by(*order) if order else rows)]


class ScopedForms(BaseModelAdmin):  # type: ignore[type-arg]
    """For pages and inlines: forms offer, and accept, only rows that the person may choose."""

    def formfield_for_dbfield(self, db_field: Any, request: Any, **kwargs: Any) -> Any:
        """The form's field. Django would split a date and a time into two boxes."""
        if isinstance(db_field, DateTimeField):
            kwargs = {"form_class": MomentField, "widget": MomentInput} | kwargs
        return super().formfield_for_dbfield(db_field, request, **kwargs)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name in self.get_autocomplete_fields(request):
            kwargs.setdefault("widget", PickerSelect(db_field, self.admin_site))
        field = super().formfield_for_foreignkey(db_field, request, **kwargs)
        limit([field], request.user)
        return field

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        field = super().formfield_for_manytomany(db_field, request, **kwargs)
        limit([field], request.user)
        return field


class ScopedInline(ScopedForms, InlineModelAdmin):  # type: ignore[type-arg]
    """An inline whose permissions are asked about the row of the page."""

    def new_row(self, parent: Model) -> Model:
        """A row of this page that isn't saved, for asking whether the person may add such a row."""
        row: Model = self.model(**{self._parent_field(): parent})
        return row

    def _parent_field(self) -> str:
        if self.fk_name:
            return str(self.fk_name)
        for field in self.model._meta.fields:
            if field.remote_field and issubclass(self.parent_model, field.remote_field.model):
                return str(field.name)
        raise LookupError(f"{self.model} has no foreign key to {self.parent_model}")

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        row = self.new_row(obj) if obj is not None and obj.pk is not None else None
        return request.user.has_perm(_name(self.opts, "add"), row)


class ScopedAdmin(ScopedForms, admin.ModelAdmin):  # type: ignore[type-arg]
    """A page that asks for each row whether the person may do this to it. A row beyond a person's roles doesn't exist.

    Attributes:
        adds: the action whose permission adding a row needs.
        secret_columns: columns with a part of a secret, for people with `secret_permission`.
    """

    adds = "add"
    secret_columns: Sequence[str] = ()
    secret_permission = VIEW_CREDENTIAL

    def asked(self, request: HttpRequest, action: str, row: Model | None = None) -> bool:
        """Whether the person may do this to the row; None: to any row at all."""
        return request.user.has_perm(_name(self.opts, action), row)

    def permitted(self, request: HttpRequest, action: str, rows: Iterable[Any]) -> list[Any]:
        """Those of the rows to which the person may do this. For actions of lists."""
        return [row for row in rows if self.asked(request, action, row)]

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.asked(request, "view", obj)

    def has_view_or_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_view_permission(request, obj)  # every role that changes rows views them

    def has_add_permission(self, request: HttpRequest) -> bool:
        return self.asked(request, self.adds)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.asked(request, "change", obj)

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.asked(request, "delete", obj)

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        """What the URL fills in: values that the form itself would accept from this person."""
        fields, accepted = self.get_form(request)().fields, {}
        for name, value in super().get_changeform_initial_data(request).items():
            with suppress(ValidationError, KeyError, TypeError):
                accepted[name] = fields[name].clean(value)
        return accepted

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return visible(request.user, super().get_queryset(request))

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Any:
        """Refuse a row that would belong to another owner than those of the person's roles."""
        row = super().save_form(request, form, change)
        if not self.asked(request, "change" if change else self.adds, row):
            raise PermissionDenied
        return row

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        ceilings.hold(request.user, form.instance)

    def get_list_filter(self, request: HttpRequest) -> list[Any]:
        return [self._scoped(each) for each in super().get_list_filter(request)]

    def _scoped(self, spec: Any) -> Any:
        if not isinstance(spec, str):
            return spec
        try:
            field = get_fields_from_path(self.model, spec)[-1]
        except FieldDoesNotExist:
            return spec
        return (spec, VisibleFilter) if field.is_relation else spec

    def get_list_display(self, request: HttpRequest) -> list[Any]:
        return self.without_secrets(request, super().get_list_display(request))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.without_secrets(request, super().get_fields(request, obj))

    def without_secrets(self, request: HttpRequest, columns: Sequence[Any]) -> list[Any]:
        """The columns that the person may see."""
        hidden = () if self.sees_secrets(request) else self.secret_columns
        return [column for column in columns if column not in hidden]

    def sees_secrets(self, request: HttpRequest) -> bool:
        """Whether the person may see the ends of secrets."""
        return not self.secret_columns or request.user.has_perm(self.secret_permission)

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        raise Http404(f"There is no {opts.verbose_name} with this id.")


def _name(opts: Any, action: str) -> str:
    return f"{opts.app_label}.{action}_{opts.model_name}"
