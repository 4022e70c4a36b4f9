"""Admin pages for budgets and limits, and how they stand. The counters are the arbiter's: they are only looked at.

Whoever tops up or overrides is written down by the name that they are logged in with; neither is ever edited.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, ClassVar

from django.contrib import admin
from django.contrib.admin.widgets import AdminTextInputWidget
from django.contrib.postgres.fields import ArrayField
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from keys.admin import CustomerAdmin, KeptAdmin, TeamAdmin, VirtualKeyAdmin
from usage.append_only import AppendOnly
from usage.budget_forms import BudgetForm, LimitForm, OverrideForm, TopUpForm
from usage.budgets import Budget, Limit, LimitState, Override, Period, Recorded, TopUp, Unit
from usage.standing import with_standing

OWNERS = ("customer", "team", "virtual_key")
# Of the windows that a page shows, the newest so many.
WINDOWS = 12


def shown(amount: Decimal | None, unit: str) -> str:
    """An amount for people: to a hundredth of a cent."""
    if amount is None:
        return "–"
    return f"{amount:,.0f} tokens" if unit == Unit.TOKENS else f"${amount:,.4f}"


class Standing:
    """Columns about the current window; the rows are from `with_standing`."""

    COLUMNS = ("allowed_now", "spent_now", "held_now", "left_now", "resets_at_shown")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Budget]:
        rows: QuerySet[Budget] = super().get_queryset(request)  # type: ignore[misc]
        return with_standing(rows.select_related("customer", "team__customer", "virtual_key", "provider_key"))

    @admin.display(description="allows now")
    def allowed_now(self, row: Any) -> str:
        return shown(getattr(row, "allowed", None), row.unit)

    @admin.display(description="spent")
    def spent_now(self, row: Any) -> str:
        return shown(getattr(row, "spent", None), row.unit)

    @admin.display(description="held")
    def held_now(self, row: Any) -> str:
        return shown(getattr(row, "held", None), row.unit)

    @admin.display(description="left")
    def left_now(self, row: Any) -> str:
        return shown(getattr(row, "left", None), row.unit)

    @admin.display(description="resets at, UTC")
    def resets_at_shown(self, row: Any) -> str:
        if row.period == Period.NONE:
            return "never"
        resets_at = getattr(row, "resets_at", None)
        return f"{resets_at:%Y-%m-%d %H:%M}" if resets_at else "not in use yet"


class OwnerFilter(admin.SimpleListFilter):
    """By whose it is."""

    title = "owner"
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(owner, owner.replace("_", " ")) for owner in OWNERS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{f"{self.value()}__isnull": False}) if self.value() in OWNERS else queryset


class OwnedAdmin(KeptAdmin):
    """Budgets and limits: what is deleted applies to no call any more, and is kept, for calls were charged to it."""

    actions: Sequence[Any] = ("delete_softly",)
    autocomplete_fields = (*OWNERS, "provider_key")
    search_fields = ("customer__name", "team__name", "virtual_key__name")
    list_select_related: ClassVar[tuple[str, ...]] = ("customer", "team__customer", "virtual_key", "provider_key")
    # What stays as it is, for what was counted would lose its meaning.
    FIXED: Sequence[str] = (*OWNERS, "provider_key")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.FIXED, *self.readonly_fields) if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return (obj is None or obj.deleted_at is None) and super().has_change_permission(request, obj)

    @admin.display(description="owner")
    def owned(self, row: Any) -> str:
        return f"{row.owned_by()} of {row.team.customer}" if row.team else row.owned_by()

    @admin.display(description="for")
    def scope(self, row: Any) -> str:
        models = ", ".join(row.model_patterns) or "all models"
        return f"{models} at {row.provider_key}" if row.provider_key else models

    @admin.display(description="state")
    def condition(self, row: Any) -> str:
        return "deleted" if row.deleted_at else "active" if row.active else "off"

    @admin.action(description="Delete: they apply to no call any more", permissions=["change"])
    def delete_softly(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        rows = [row for row in queryset if self.has_change_permission(request, row)]
        for row in rows:
            row.delete_softly()
            self.log_change(request, row, "Deleted.")
        self.message_user(request, f"Deleted: {', '.join(map(str, rows)) or 'none'}.")


def record(row: Recorded, author: str) -> None:
    """Save what somebody did to a budget, as the commands do; `row` becomes what was saved."""
    if isinstance(row, TopUp):
        saved: Recorded = row.budget.top_up(row.amount, reason=row.reason, author=author)
    else:
        assert isinstance(row, Override)
        until = None if row.windows else row.until
        saved = row.budget.override(row.amount, windows=row.windows, until=until, reason=row.reason, author=author)
    saved.refresh_from_db()
    vars(row).update(vars(saved))


class TopUpInline(AppendOnly, admin.TabularInline):  # type: ignore[type-arg]
    """A prepaid budget's top-ups."""

    model = TopUp
    form = TopUpForm
    fields = ("amount", "reason", "author", "created_at")
    readonly_fields = ("author", "created_at")
    ordering = ("-pk",)
    extra = 0


class OverrideInline(AppendOnly, admin.TabularInline):  # type: ignore[type-arg]
    """What replaces a budget's amount for a time."""

    model = Override
    form = OverrideForm
    fields = ("amount", "windows", "until", "reason", "author", "created_at")
    readonly_fields = ("author", "created_at")
    ordering = ("-pk",)
    extra = 0


@admin.register(Budget)
class BudgetAdmin(Standing, OwnedAdmin):
    """What calls may cost, and what is left of it."""

    form = BudgetForm
    FIXED = (*OwnedAdmin.FIXED, "unit", "period", "rolling")
    readonly_fields = ("condition", "left_now", "windows")
    list_display = ("owned", "scope", "period", "enforcement", *Standing.COLUMNS, "condition")
    list_filter = ("active", OwnerFilter, "period", "unit", "enforcement")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*BudgetForm.Meta.fields, *(self.readonly_fields if obj else ())]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        fixed = super().get_readonly_fields(request, obj)
        return (*fixed, "amount") if obj and obj.period == Period.NONE else fixed

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        if obj is None:
            return []
        return [OverrideInline, *([TopUpInline] if obj.period == Period.NONE else [])]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            # Not its amount, where top-ups move it meanwhile.
            obj.save(update_fields=form.changed_data)
        else:
            super().save_model(request, obj, form, change)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        for row in formset.save(commit=False):
            record(row, request.user.get_username())

    @admin.display(description="latest windows")
    def windows(self, row: Budget) -> SafeString:
        lines = format_html_join(
            "",
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            (
                (
                    f"{window.start:%Y-%m-%d %H:%M}",
                    f"{window.until:%Y-%m-%d %H:%M}" if window.until else "never",
                    shown(window.spent, row.unit),
                    shown(window.held, row.unit),
                )
                for window in row.windows.order_by("-start")[:WINDOWS]
            ),
        )
        head = format_html(
            "<tr><th>{}</th><th>{}</th><th>{}</th><th>{}</th></tr>", "from, UTC", "until", "spent", "held"
        )
        return format_html("<table>{}{}</table>", head, lines) if lines else format_html("{}", "not in use yet")


class LimitStanding:
    """How a limit stands."""

    @admin.display(description="now")
    def standing(self, row: Limit) -> str:
        state: LimitState | None = getattr(row, "state", None)
        if row.kind == "parallel":
            return f"{state.running if state else 0} of {row.rate} run"
        return f"full again at {state.full_at:%Y-%m-%d %H:%M:%S} UTC" if state else "not in use yet"


@admin.register(Limit)
class LimitAdmin(LimitStanding, OwnedAdmin):
    """How fast calls may come, and how many at once."""

    form = LimitForm
    FIXED = (*OwnedAdmin.FIXED, "kind")
    readonly_fields = ("condition", "standing")
    list_display = ("owned", "scope", "kind", "rate", "burst", "standing", "condition")
    list_filter = ("active", OwnerFilter, "kind")
    list_select_related = (*OwnedAdmin.list_select_related, "state")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*LimitForm.Meta.fields, *(self.readonly_fields if obj else ())]


class RecordedAdmin(AppendOnly, KeptAdmin):
    """What was done to budgets, by whom, when and why; added here, too."""

    autocomplete_fields = ("budget",)
    search_fields = ("reason", "author")
    list_select_related = ("budget__customer", "budget__team", "budget__virtual_key")
    list_filter = ("author",)
    ordering = ("-pk",)
    actions = None

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*self.form.Meta.fields, *(("author", "created_at") if obj else ())]  # type: ignore[attr-defined]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        record(obj, request.user.get_username())


@admin.register(TopUp)
class TopUpAdmin(RecordedAdmin):
    """What was added to prepaid balances."""

    form = TopUpForm
    list_display = ("created_at", "budget", "amount", "reason", "author")


@admin.register(Override)
class OverrideAdmin(RecordedAdmin):
    """What replaced amounts for a time."""

    form = OverrideForm
    list_display = ("created_at", "budget", "amount", "starts_at", "until", "reason", "author")


class OwnedInline(admin.TabularInline):  # type: ignore[type-arg]
    """What applies to an owner, on its page: added here, changed on a page of its own."""

    extra = 0
    show_change_link = True
    can_delete = False
    formfield_overrides: ClassVar = {ArrayField: {"widget": AdminTextInputWidget}}
    autocomplete_fields = ("provider_key",)
    # Of a virtual key only.
    NARROW = "provider_key"
    SHOWN: tuple[str, ...] = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(Q(active=True))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        typed = [name for name in self.form.Meta.fields if name not in (*OWNERS, "active")]  # type: ignore[attr-defined]
        narrow = self.parent_model._meta.model_name == "virtualkey"
        return [name for name in typed if narrow or name != self.NARROW] + list(self.SHOWN)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return self.SHOWN

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_autocomplete_fields(self, request: HttpRequest) -> tuple[str, ...]:
        return self.autocomplete_fields if self.parent_model._meta.model_name == "virtualkey" else ()


class BudgetInline(Standing, OwnedInline):
    """Its budgets, and what is left of them."""

    model = Budget
    form = BudgetForm
    SHOWN = ("spent_now", "held_now", "left_now", "resets_at_shown")


class LimitInline(LimitStanding, OwnedInline):
    """Its limits."""

    model = Limit
    form = LimitForm
    SHOWN = ("standing",)


for page in (CustomerAdmin, TeamAdmin, VirtualKeyAdmin):
    page.inlines = (*page.inlines, BudgetInline, LimitInline)
