"""Admin pages for budgets and limits, with their current state. Only the arbiter changes counters; pages show them.

A top-up or override records the name of the logged-in user as its author. Neither can be edited later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from keys import ceilings, key_search, viewer
from keys.admin_lists import LONGEST_TERM
from keys.badges import state_badge
from keys.cards import Cards
from keys.errors import Unusable
from keys.kept_admin import KeptAdmin
from keys.large_lists import LargeList
from keys.models import Customer, Team, VirtualKey
from usage import budget_terms
from usage.append_only import AppendOnly
from usage.budget_columns import LimitStanding, Standing
from usage.budget_forms import BudgetForm, LimitForm, OverrideForm, TopUpForm
from usage.budgets import OWNERS, Budget, Override, Period, Recorded, TopUp
from usage.cells import OWNER, shown, two_lines
from usage.limits import Limit, LimitKind

# The number of windows that a budget's page shows, newest first.
WINDOWS = 12


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
            "deleted": {"active": False, "deleted_at__isnull": False},
            "any": {},
        }
        return queryset.filter(**states.get(self.value(), {"active": True}))


class OwnedAdmin(LargeList, KeptAdmin):
    """Shared by budgets and limits. A deleted row no longer applies to calls; it is kept because the ledger refers to
    it."""

    actions: Sequence[Any] = ("delete_softly",)
    autocomplete_fields = (*OWNERS, "provider_key")
    search_fields = ("customer__name", "team__name", "virtual_key__name")
    search_help_text = "A part of the customer's or team's name; of a virtual key, the beginning of words of its name"
    list_select_related: ClassVar[tuple[str, ...]] = (*OWNER, "provider_key")
    # Changing these would make what was counted so far meaningless.
    FIXED: Sequence[str] = (*OWNERS, "provider_key", "model_patterns")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term or len(search_term) > LONGEST_TERM:
            return super().get_search_results(request, queryset, search_term)
        named = {"name__icontains": search_term.strip()}
        owners = {
            "customer": Customer.objects.filter(**named),
            "team": Team.objects.filter(**named),
            "virtual_key": VirtualKey.objects.filter(key_search.fits(search_term)),
        }
        found: list[int] = []
        for owner, rows in owners.items():
            of_owners = queryset.filter(**{f"{owner}__in": rows.order_by().values("pk")})
            found += of_owners.order_by().values_list("pk", flat=True)[: key_search.FOUND]
        return queryset.filter(pk__in=found), False

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return (*self.FIXED, *self.readonly_fields) if obj else ()

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return (obj is None or obj.deleted_at is None) and super().has_change_permission(request, obj)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            budget_terms.change(obj, {name: form.cleaned_data[name] for name in form.changed_data})
        else:
            budget_terms.save(obj)

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
    verbose_name, verbose_name_plural = "top-up", "top-ups"
    title_to_add = "Top up this budget"
    fields = ("amount", "reason", "author", "created_at")
    readonly_fields = ("author", "created_at")
    ordering = ("-pk",)


class OverrideInline(AppendOnly, Cards):
    """The overrides of a budget's amount."""

    model = Override
    form = OverrideForm
    title_to_add = "Add an override"
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
            return two_lines(row.terms(), "")
        cached = ", cached input counts" if row.count_cached else ""
        return two_lines(row.terms(), f"{row.bucket:,} at once{cached}")

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*LimitForm.Meta.fields, *(self.readonly_fields if obj else ())]


class RecordedAdmin(AppendOnly, LargeList, KeptAdmin):
    """Shared by top-ups and overrides: what was changed, by which user, when and why."""

    autocomplete_fields = ("budget",)
    search_fields = ("reason", "author")
    list_select_related = tuple(f"budget__{owner}" for owner in OWNER)
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
