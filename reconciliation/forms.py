"""The forms of admin keys and of bill formats."""

from __future__ import annotations

from typing import Any

from django import forms

from keys.errors import Unusable
from reconciliation import admin_keys, bill_columns
from reconciliation.sources import AdminKey, BillFormat


class AdminKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """An admin key. Its secret can be entered, and is never shown again."""

    secret = forms.CharField(
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"}),
        help_text="The provider's admin key (sk-ant-admin…, sk-admin-…). It is stored encrypted and never shown again. "
        "Leave empty to keep the current one.",
    )

    class Meta:
        model = AdminKey
        fields = ("name", "provider", "base_url", "requests_a_minute", "active")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors:
            for name in self.Meta.fields:
                setattr(self.instance, name, cleaned[name])
            try:
                admin_keys.check(self.instance, cleaned.get("secret", "").strip())
            except Unusable as error:
                self.add_error("secret" if "secret" in str(error) else None, str(error))
        return cleaned


class BillFormatForm(forms.ModelForm):  # type: ignore[type-arg]
    """How to read a bill. Columns and patterns are lines of text."""

    preset = forms.ChoiceField(
        choices=[("", "–"), *((key, preset.name) for key, preset in bill_columns.PRESETS.items())],
        required=False,
        help_text="Fills in columns and unit that are left empty.",
    )
    columns = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 6, "class": "vLargeTextField"}),
        required=False,
        help_text="A line for each: start = ChargePeriodStart. Needed: start, meter, cost. Also: quantity, currency, "
        "and only with only_value, a column and a text that it must contain.",
    )
    meters = forms.CharField(
        widget=forms.Textarea(attrs={"rows": 8, "class": "vLargeTextField"}),
        required=False,
        help_text="A line for each pattern of meters, the first that fits counts: *opus-5-5*input-tokens* = "
        "claude-opus-5-5, input_tokens. Without a type of tokens, it is a fee.",
    )
    tokens_in_unit = forms.IntegerField(
        min_value=1, max_value=2_000_000_000, required=False, help_text="Tokens of one unit of the quantity."
    )

    class Meta:
        model = BillFormat
        fields = ("name", "provider_key", "tokens_in_unit", "columns", "meters")

    field_order = ("name", "provider_key", "preset", "tokens_in_unit", "columns", "meters")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["columns"] = bill_columns.columns_in_lines(self.instance.columns)
            self.initial["meters"] = bill_columns.meters_in_lines(self.instance.meters)

    def clean_columns(self) -> dict[str, str]:
        text, preset = self.cleaned_data["columns"], self.data.get("preset", "")
        if not text.strip() and preset in bill_columns.PRESETS:
            return bill_columns.PRESETS[preset].columns
        try:
            return bill_columns.read_columns(text)
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None

    def clean_meters(self) -> list[dict[str, str]]:
        try:
            return bill_columns.read_meters(self.cleaned_data["meters"])
        except ValueError as error:
            raise forms.ValidationError(str(error)) from None

    def clean_tokens_in_unit(self) -> int:
        preset = bill_columns.PRESETS.get(self.data.get("preset", ""))
        given: int | None = self.cleaned_data["tokens_in_unit"]
        return given or (preset.tokens_in_unit if preset else 1)
