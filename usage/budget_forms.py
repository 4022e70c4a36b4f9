"""The forms of the admin pages for budgets: they ask the same functions as the commands whether a value is usable."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.utils import timezone

from keys.forms import refusals_shown, usable_patterns
from usage import budget_terms
from usage.budgets import Budget, Limit, Override, Period, TopUp

MOST_WINDOWS = 1000


class OwnedForm(forms.ModelForm):  # type: ignore[type-arg]
    """What budgets and limits have in common."""

    def clean_model_patterns(self) -> list[str]:
        return usable_patterns(self.cleaned_data["model_patterns"])


class BudgetForm(OwnedForm):
    """A budget, new or changed."""

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
            # Not the zeros of twelve places.
            self.initial["amount"] = f"{self.initial['amount'].normalize():f}"

    def clean_thresholds(self) -> list[int]:
        with refusals_shown():
            return budget_terms.check_thresholds(self.cleaned_data["thresholds"])


class LimitForm(OwnedForm):
    """A limit, new or changed."""

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


class TopUpForm(forms.ModelForm):  # type: ignore[type-arg]
    """An amount to add to a prepaid balance."""

    class Meta:
        model = TopUp
        fields = ("budget", "amount", "reason")

    def clean_budget(self) -> Budget:
        budget: Budget = self.cleaned_data["budget"]
        if budget.period != Period.NONE:
            raise ValidationError("Only a prepaid budget is topped up: raise the amount of this one, or override it.")
        return budget


class OverrideForm(forms.ModelForm):  # type: ignore[type-arg]
    """Another amount for a time: for so many windows, or until a moment."""

    windows = forms.IntegerField(
        required=False,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_WINDOWS)],
        help_text="For so many, the current one is the first.",
    )

    class Meta:
        model = Override
        fields = ("budget", "amount", "windows", "until", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "until" in self.fields:
            self.fields["until"].required = False
            self.fields["until"].help_text = "UTC; or else say for how many windows."

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        windows, until = cleaned.get("windows"), cleaned.get("until")
        budget: Budget | None = cleaned.get("budget") or getattr(self.instance, "budget", None)
        if "windows" in self.errors or "until" in self.errors or budget is None:
            return cleaned
        if (windows is None) == (until is None):
            raise ValidationError("Say for how many windows, or until when: one of the two.")
        if windows is not None and budget.period == Period.NONE:
            self.add_error("windows", "A prepaid budget has no windows to count: say until when.")
        if until is not None and until <= timezone.now():
            self.add_error("until", "This is past.")
        return cleaned
