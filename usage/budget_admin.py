"""Admin pages for budgets and limits, and how they stand. The counters are the arbiter's: they are only looked at.

Whoever tops up or overrides is written down by the name that they are logged in with; neither is ever edited.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator, Sequence
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
from keys.badges import state_badge
from keys.cards import Cards
from usage.append_only import AppendOnly
from usage.budget_forms import BudgetForm, LimitForm, OverrideForm, TopUpForm
from usage.budgets import Budget, Limit, LimitKind, Override, Period, Recorded, TopUp
from usage.lists import OWNER, bar, part, shown, two_lines
from usage.standing import with_limit_standing, with_standing

OWNERS = ("customer", "team", "virtual_key")
# Of the windows that a page shows, the newest so many.
WINDOWS = 12


class Standing:
    """Columns about the current window; the rows are from `with_standing`."""

    COLUMNS = ("used_now", "left_now", "resets_at_shown")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Budget]:
        rows: QuerySet[Budget] = super().get_queryset(request)  # type: ignore[misc]
        return with_standing(rows.select_related(*OWNER, "provider_key"))

    @admin.display(description="spent and held")
    def used_now(self, row: Any) -> SafeString | str:
        if not hasattr(row, "allowed"):
            return "–"
        held = f", {shown(row.held, row.unit)} held" if row.held else ""
        return bar(row.spent, row.held, row.allowed, f"{shown(row.spent, row.unit)} spent{held}")

    @admin.display(description="left")
    def left_now(self, row: Any) -> SafeString | str:
        if not hasattr(row, "left"):
            return "–"
        explained = part(row.left, row.allowed, row.unit)
        if row.exhausted_since:
            explained = f"{explained}; exhausted since {row.exhausted_since:%Y-%m-%d %H:%M} UTC"
        return two_lines(shown(row.left, row.unit), explained)

    @admin.display(description="resets at")
    def resets_at_shown(self, row: Any) -> SafeString | str:
        if row.period == Period.NONE:
            return "never"
        resets_at = getattr(row, "resets_at", None)
        if not resets_at:
            return "not in use yet"
        zone = row.payer().time_zone
        return two_lines(f"{resets_at.astimezone(zoneinfo.ZoneInfo(zone)):%Y-%m-%d %H:%M}", zone)


class OwnerFilter(admin.SimpleListFilter):
    """By whose it is."""

    title = "owner"
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(owner, owner.replace("_", " ")) for owner in OWNERS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{f"{self.value()}__isnull": False}) if self.value() in OWNERS else queryset


class InForceFilter(admin.SimpleListFilter):
    """Those that apply to calls, unless others are asked for."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("off", "off"), ("deleted", "deleted"), ("any", "any")]

    def choices(self, changelist: Any) -> Iterator[Any]:
        yield {
            "selected": self.value() is None,
            "query_string": changelist.get_query_string(remove=[self.parameter_name]),
            "display": "active",
        }
        for value, title in self.lookup_choices:
            yield {
                "selected": self.value() == value,
                "query_string": changelist.get_query_string({self.parameter_name: value}),
                "display": title,
            }

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        states: dict[str | None, dict[str, Any]] = {
            "off": {"active": False, "deleted_at": None},
            "deleted": {"deleted_at__isnull": False},
            "any": {},
        }
        return queryset.filter(**states.get(self.value(), {"active": True}))


class OwnedAdmin(KeptAdmin):
    """Budgets and limits: what is deleted applies to no call any more, and is kept, for calls were charged to it."""

    actions: Sequence[Any] = ("delete_softly",)
    autocomplete_fields = (*OWNERS, "provider_key")
    search_fields = ("customer__name", "team__name", "virtual_key__name")
    list_select_related: ClassVar[tuple[str, ...]] = (*OWNER, "provider_key")
    # What stays as it is, for what was counted would lose its meaning.
    FIXED: Sequence[str] = (*OWNERS, "provider_key")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.FIXED, *self.readonly_fields) if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return (obj is None or obj.deleted_at is None) and super().has_change_permission(request, obj)

    @admin.display(description="owner")
    def owned(self, row: Any) -> SafeString:
        scope = ", ".join(row.model_patterns) or "all models"
        scope = f"{scope} at {row.provider_key}" if row.provider_key else scope
        return two_lines(row.owned_by(), scope if row.active else format_html("{} {}", scope, self.condition(row)))

    @admin.display(description="state")
    def condition(self, row: Any) -> SafeString:
        return state_badge("deleted" if row.deleted_at else "active" if row.active else "off")

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


class TopUpInline(AppendOnly, Cards):
    """A prepaid budget's top-ups."""

    model = TopUp
    form = TopUpForm
    fields = ("amount", "reason", "author", "created_at")
    readonly_fields = ("author", "created_at")
    ordering = ("-pk",)


class OverrideInline(AppendOnly, Cards):
    """What replaces a budget's amount for a time."""

    model = Override
    form = OverrideForm
    fields = ("amount", "windows", "until", "reason", "author", "created_at")
    readonly_fields = ("author", "created_at")
    ordering = ("-pk",)


@admin.register(Budget)
class BudgetAdmin(Standing, OwnedAdmin):
    """What calls may cost, and what is left of it."""

    form = BudgetForm
    FIXED = (*OwnedAdmin.FIXED, "unit", "period", "rolling")
    readonly_fields = ("condition", "used_now", "left_now", "windows")
    list_display = ("owned", "terms", *Standing.COLUMNS)
    list_filter = (InForceFilter, OwnerFilter, "period", "unit", "enforcement")
    empty = (
        "There is no budget in force: every call that a key may make is let through, whatever it costs. Add one for a "
        "customer first (all its teams and keys together), then narrower ones for teams and keys; or run manage.py "
        "set_budget customer:NAME 100/month."
    )

    @admin.display(description="terms")
    def terms(self, row: Any) -> SafeString:
        kind = f"{row.enforcement}, rolling" if row.rolling else row.enforcement
        if row.allowed != row.amount:
            kind = f"{kind}; overridden: {shown(row.allowed, row.unit)}"
        if row.period == Period.NONE:
            return two_lines("prepaid", kind)
        return two_lines(row.terms(), kind)

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
    """How a limit stands; the rows are from `with_limit_standing`."""

    USED = "used"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Limit]:
        rows: QuerySet[Limit] = super().get_queryset(request)  # type: ignore[misc]
        return with_limit_standing(rows.select_related(*OWNER, "provider_key"))

    @admin.display(description="now")
    def standing(self, row: Any) -> SafeString | str:
        if not hasattr(row, "remaining"):
            return "–"
        most = row.rate if row.kind == LimitKind.PARALLEL else row.bucket
        used = most - row.remaining
        words = f"{used:,} of {most:,} {'run' if row.kind == LimitKind.PARALLEL else self.USED}"
        return bar(used, Decimal(0), most, words)


@admin.register(Limit)
class LimitAdmin(LimitStanding, OwnedAdmin):
    """How fast calls may come, and how many at once."""

    form = LimitForm
    FIXED = (*OwnedAdmin.FIXED, "kind")
    readonly_fields = ("condition", "terms", "standing")
    list_display = ("owned", "terms", "standing")
    list_filter = (InForceFilter, OwnerFilter, "kind")
    empty = (
        "There is no limit in force: calls may come as fast as they like, as many at once. Add one here, on the page "
        "of a customer, team or key, or by manage.py set_limit key:NAME --rpm 60 --parallel 8."
    )

    @admin.display(description="terms")
    def terms(self, row: Any) -> SafeString:
        if row.kind == LimitKind.PARALLEL:
            return two_lines(f"{row.rate:,} {row.get_kind_display()}", "")
        cached = ", read from caches too" if row.count_cached else ""
        return two_lines(f"{row.rate:,} {row.get_kind_display()}", f"{row.bucket:,} at once{cached}")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*LimitForm.Meta.fields, *(self.readonly_fields if obj else ())]


class RecordedAdmin(AppendOnly, KeptAdmin):
    """What was done to budgets, by whom, when and why; added here, too."""

    autocomplete_fields = ("budget",)
    search_fields = ("reason", "author")
    list_select_related = tuple(f"budget__{owner}" for owner in OWNER)
    list_filter = ("author",)
    ordering = ("-pk",)
    actions = None

    @admin.display(description="budget", ordering="budget")
    def whose(self, row: Any) -> SafeString:
        return two_lines(row.budget.owned_by(), row.budget.terms())

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*self.form.Meta.fields, *(("author", "created_at") if obj else ())]  # type: ignore[attr-defined]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        record(obj, request.user.get_username())


@admin.register(TopUp)
class TopUpAdmin(RecordedAdmin):
    """What was added to prepaid balances."""

    form = TopUpForm
    list_display = ("created_at", "whose", "added", "reason", "author")
    empty = (
        "Nothing was topped up yet. A prepaid balance is a budget whose period is none (prepaid): make one, then add "
        "to it here or by manage.py top_up customer:NAME 500 --reason 'invoice 2027-014'."
    )

    @admin.display(description="amount")
    def added(self, row: TopUp) -> str:
        return shown(row.amount, row.budget.unit)


@admin.register(Override)
class OverrideAdmin(RecordedAdmin):
    """What replaced amounts for a time."""

    form = OverrideForm
    list_display = ("created_at", "whose", "instead", "until", "reason", "author")
    empty = (
        "No amount was overridden yet. An override replaces a budget's amount for so many windows, or until a moment, "
        "and then ends by itself: add one here, or on the budget's page."
    )

    @admin.display(description="amount")
    def instead(self, row: Override) -> str:
        return shown(row.amount, row.budget.unit)


class OwnedInline(Cards):
    """What applies to an owner, on its page: added here, changed on a page of its own."""

    show_change_link = True
    can_delete = False
    formfield_overrides: ClassVar = {ArrayField: {"widget": AdminTextInputWidget}}
    autocomplete_fields = ("provider_key",)

    class Media:
        css: ClassVar = {"all": ["keys/lists.css"]}

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
    # When it resets is on its own page.
    SHOWN = ("used_now", "left_now")


class LimitInline(LimitStanding, OwnedInline):
    """Its limits."""

    model = Limit
    form = LimitForm
    SHOWN = ("standing",)
    # There is no other column that says what may come at once.
    USED = "at once used"


for page in (CustomerAdmin, TeamAdmin, VirtualKeyAdmin):
    page.inlines = (*page.inlines, BudgetInline, LimitInline)
