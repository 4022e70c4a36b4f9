"""Admin pages for budgets and limits, with their current state. Only the arbiter changes counters; pages show them.

A top-up or override records the name of the logged-in user as its author. Neither can be edited later.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.widgets import AdminTextInputWidget
from django.contrib.postgres.fields import ArrayField
from django.db import transaction
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from keys import ceilings, viewer
from keys.admin import CustomerAdmin, KeptAdmin, TeamAdmin, VirtualKeyAdmin
from keys.badges import state_badge
from keys.cards import Cards
from keys.errors import Unusable
from usage.append_only import AppendOnly
from usage.budget_forms import BudgetForm, KeyRulesForm, LimitForm, OverrideForm, TopUpForm
from usage.budgets import Budget, Limit, LimitKind, Override, Period, Recorded, TopUp
from usage.cells import OWNER, bar, part, shown, two_lines
from usage.key_rules import KeyRules
from usage.standing import with_limit_standing, with_standing

OWNERS = ("customer", "team", "virtual_key")
# The number of windows that a budget's page shows, newest first.
WINDOWS = 12


class Standing:
    """Columns about the current window. They need the annotations of `with_standing`."""

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
            explained = f"{explained}; exhausted since {viewer.moment(row.exhausted_since)}"
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
    """Filters by kind of owner."""

    title = "owner"
    parameter_name = "owner"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(owner, owner.replace("_", " ")) for owner in OWNERS]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{f"{self.value()}__isnull": False}) if self.value() in OWNERS else queryset


class InForceFilter(admin.SimpleListFilter):
    """Filters by state. By default, the list shows only what applies to calls."""

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
    """Shared by budgets and limits. A deleted row no longer applies to calls; it is kept because the ledger refers to
    it."""

    actions: Sequence[Any] = ("delete_softly",)
    autocomplete_fields = (*OWNERS, "provider_key")
    search_fields = ("customer__name", "team__name", "virtual_key__name")
    list_select_related: ClassVar[tuple[str, ...]] = (*OWNER, "provider_key")
    # Changing these would make what was counted so far meaningless.
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

    @admin.action(description="Delete: no longer apply to calls", permissions=["change"])
    def delete_softly(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        rows = [row for row in queryset if self.has_change_permission(request, row)]
        try:
            with transaction.atomic():
                for row in rows:
                    row.delete_softly()
                    ceilings.hold(request.user, row)
                    self.log_change(request, row, "Deleted.")
        except Unusable as error:
            self.message_user(request, f"Nothing was deleted: {error}.", messages.ERROR)
            return
        self.message_user(request, f"Deleted: {', '.join(map(str, rows)) or 'none'}.")


def record(row: Recorded, author: str) -> None:
    """Save a top-up or override, the same way as the commands do; `row` takes on the saved values."""
    if isinstance(row, TopUp):
        saved: Recorded = row.budget.top_up(row.amount, reason=row.reason, author=author)
    else:
        assert isinstance(row, Override)
        until = None if row.windows else row.until
        saved = row.budget.override(row.amount, windows=row.windows, until=until, reason=row.reason, author=author)
    saved.refresh_from_db()
    vars(row).update(vars(saved))


class TopUpInline(AppendOnly, Cards):
    """The top-ups of a prepaid budget."""

    model = TopUp
    form = TopUpForm
    title = "Top-ups"
    title_to_add = "Top up a prepaid budget"
    fields = ("amount", "reason", "author", "created_at")
    readonly_fields = ("author", "created_at")
    ordering = ("-pk",)


class OverrideInline(AppendOnly, Cards):
    """The overrides of a budget's amount."""

    model = Override
    form = OverrideForm
    fields = ("amount", "windows", "until", "reason", "author", "created_at")
    readonly_fields = ("author", "created_at")
    ordering = ("-pk",)


@admin.register(Budget)
class BudgetAdmin(Standing, OwnedAdmin):
    """Budgets, with what is spent, held and left in the current window."""

    form = BudgetForm
    FIXED = (*OwnedAdmin.FIXED, "unit", "period", "rolling")
    readonly_fields = ("condition", "used_now", "left_now", "windows")
    list_display = ("owned", "terms", *Standing.COLUMNS)
    list_filter = (InForceFilter, OwnerFilter, "period", "unit", "enforcement")
    empty = (
        "There is no active budget: calls are admitted whatever they cost. Add a budget for a customer first (it "
        "covers all its teams and keys), then narrower ones for teams and keys; or run manage.py set_budget "
        "customer:NAME 100/month."
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
            # Saving all fields would undo a top-up that changed the amount since the page was opened.
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
                    viewer.moment(window.start),
                    viewer.moment(window.until) if window.until else "never",
                    shown(window.spent, row.unit),
                    shown(window.held, row.unit),
                )
                for window in row.windows.order_by("-start")[:WINDOWS]
            ),
        )
        head = format_html("<tr><th>{}</th><th>{}</th><th>{}</th><th>{}</th></tr>", "from", "until", "spent", "held")
        return format_html("<table>{}{}</table>", head, lines) if lines else format_html("{}", "not in use yet")


class LimitStanding:
    """A column about the current state of a limit. It needs the annotations of `with_limit_standing`."""

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
    """Limits on the rate of calls and tokens, and on parallel calls."""

    form = LimitForm
    FIXED = (*OwnedAdmin.FIXED, "kind")
    readonly_fields = ("condition", "terms", "standing")
    list_display = ("owned", "terms", "standing")
    list_filter = (InForceFilter, OwnerFilter, "kind")
    empty = (
        "There is no active limit: neither the rate nor the number of parallel calls is limited. Add a limit here, on "
        "the page of a customer, team or key, or by manage.py set_limit key:NAME --rpm 60 --parallel 8."
    )

    @admin.display(description="terms")
    def terms(self, row: Any) -> SafeString:
        if row.kind == LimitKind.PARALLEL:
            return two_lines(f"{row.rate:,} {row.get_kind_display()}", "")
        cached = ", cached input counts" if row.count_cached else ""
        return two_lines(f"{row.rate:,} {row.get_kind_display()}", f"{row.bucket:,} at once{cached}")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*LimitForm.Meta.fields, *(self.readonly_fields if obj else ())]


class RecordedAdmin(AppendOnly, KeptAdmin):
    """Shared by top-ups and overrides: what was changed, by which user, when and why."""

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
    """Top-ups of prepaid budgets."""

    form = TopUpForm
    title = "Top-ups"
    title_to_add = "Top up a prepaid budget"
    rows = ("top-up", "top-ups")
    list_display = ("created_at", "whose", "added", "reason", "author")
    empty = (
        "No top-ups yet. A prepaid balance is a budget with the period “none (prepaid)”: create one, then top it up "
        "here or by manage.py top_up customer:NAME 500 --reason 'invoice 2027-014'."
    )

    @admin.display(description="amount")
    def added(self, row: TopUp) -> str:
        return shown(row.amount, row.budget.unit)


@admin.register(Override)
class OverrideAdmin(RecordedAdmin):
    """Temporary replacements of budgets' amounts."""

    form = OverrideForm
    list_display = ("created_at", "whose", "instead", "until", "reason", "author")
    empty = (
        "No overrides yet. An override replaces a budget's amount for a number of windows, or until a point in time, "
        "and then ends by itself. Add one here, or on the budget's page."
    )

    @admin.display(description="amount")
    def instead(self, row: Override) -> str:
        return shown(row.amount, row.budget.unit)


class OwnedInline(Cards):
    """Budgets or limits on the page of their owner. They are added here and changed on their own page."""

    show_change_link = True
    can_delete = False
    formfield_overrides: ClassVar = {ArrayField: {"widget": AdminTextInputWidget}}
    autocomplete_fields = ("provider_key",)

    class Media:
        css: ClassVar = {"all": ["keys/lists.css"]}

    # Only a virtual key's budgets and limits can be restricted to one provider key.
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
    """The owner's budgets, and what is left of each."""

    model = Budget
    form = BudgetForm
    # The budget's own page shows when it resets.
    SHOWN = ("used_now", "left_now")


class LimitInline(LimitStanding, OwnedInline):
    """The owner's limits."""

    model = Limit
    form = LimitForm
    SHOWN = ("standing",)
    # Unlike the list of limits, an inline has no column that names the burst.
    USED = "at once used"


class KeyRulesInline(Cards):
    """What a team's new keys get, and what its admins can't pass."""

    model = KeyRules
    form = KeyRulesForm
    formfield_overrides: ClassVar = {ArrayField: {"widget": AdminTextInputWidget}}
    verbose_name_plural = "rules for its keys"


TeamAdmin.inlines = (*TeamAdmin.inlines, KeyRulesInline)
for page in (CustomerAdmin, TeamAdmin, VirtualKeyAdmin):
    page.inlines = (*page.inlines, BudgetInline, LimitInline)
