"""Forms of the admin pages for budgets and limits. They validate values with the same functions as the commands."""

from __future__ import annotations

from typing import Any, ClassVar

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.utils import timezone

from keys.forms import refusals_shown, usable_patterns
from usage import budget_terms
from usage.budgets import Budget, Override, Period, TopUp
from usage.key_rules import KeyRules
from usage.limits import Limit, LimitKind

MOST_WINDOWS = 1000


class OwnedForm(forms.ModelForm):  # type: ignore[type-arg]
    """Shared by budgets and limits."""

    def clean_model_patterns(self) -> list[str]:
        return usable_patterns(self.cleaned_data["model_patterns"])

    def save(self, commit: bool = True) -> Any:
        """Save the row as commands and REST do. Owners' pages, which add rows, save so."""
        row = super().save(commit=False)
        return budget_terms.save(row, self.changed_data) if commit else row


class BudgetForm(OwnedForm):
    class Meta:
        model = Budget
        fields = (
            "customer",
            "team",
            "virtual_key",
            "provider_key",
            "model_patterns",
            "unit",
            "amount",
            "period",
            "rolling",
            "enforcement",
            "thresholds",
            "active",
        )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "amount" in self.initial:
            # The column has twelve decimal places: show the amount without the trailing zeros.
            self.initial["amount"] = f"{self.initial['amount'].normalize():f}"

    def clean_thresholds(self) -> list[int]:
        with refusals_shown():
            return budget_terms.check_thresholds(self.cleaned_data["thresholds"])


class LimitForm(OwnedForm):
    class Meta:
        model = Limit
        fields = (
            "customer",
            "team",
            "virtual_key",
            "provider_key",
            "model_patterns",
            "kind",
            "rate",
            "burst",
            "count_cached",
            "active",
        )
        help_texts: ClassVar = {"rate": "Requests or tokens per minute. For calls at once: the number of calls."}


class KeyRulesForm(forms.ModelForm):  # type: ignore[type-arg]
    """The rules for a team's keys."""

    class Meta:
        model = KeyRules
        bounds = ("budget", *LimitKind.values, "days")
        fields = ("period", *(name for bound in bounds for name in (bound, f"most_{bound}")), "allowed_models")

    def clean_allowed_models(self) -> list[str]:
        return usable_patterns(self.cleaned_data["allowed_models"])


class TopUpForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = TopUp
        fields = ("budget", "amount", "reason")

    def clean_budget(self) -> Budget:
        budget: Budget = self.cleaned_data["budget"]
        if budget.period != Period.NONE:
            raise ValidationError("Only a prepaid budget can be topped up. Raise this budget's amount, or override it.")
        return budget


class OverrideForm(forms.ModelForm):  # type: ignore[type-arg]
    """An amount that replaces the budget's for a number of windows, or until a point in time."""

    windows = forms.IntegerField(
        required=False,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_WINDOWS)],
        help_text="The number of windows, counting the current one. Leave empty if you set an end.",
    )

    class Meta:
        model = Override
        fields = ("budget", "amount", "windows", "until", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "until" in self.fields:
            self.fields["until"].required = False
            self.fields["until"].help_text = "In your time zone. Leave empty if you set a number of windows."

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        windows, until = cleaned.get("windows"), cleaned.get("until")
        budget: Budget | None = cleaned.get("budget") or getattr(self.instance, "budget", None)
        if "windows" in self.errors or "until" in self.errors or budget is None:
            return cleaned
        if (windows is None) == (until is None):
            raise ValidationError("Enter either a number of windows or an end (until).")
        if windows is not None and budget.period == Period.NONE:
            self.add_error("windows", "A prepaid budget has no windows: enter an end (until) instead.")
        if until is not None and until <= timezone.now():
            self.add_error("until", "This is in the past: enter a later time.")
        return cleaned
