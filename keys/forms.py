"""The forms of the admin pages for keys. They check values with the same functions as the commands."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib.admin.widgets import AdminTextInputWidget
from django.core.exceptions import ValidationError

from keys import issuing, names, provider_keys, virtual_keys
from keys.errors import Unusable
from keys.form_fields import LabelsField, expiry
from keys.models import Credential, GatewayToken, ProviderKey, VirtualKey

NEW_SECRET = "The provider's API key, or its JSON."  # noqa: S105 (a help text)
OVERLAPS = {
    "0": "no overlap: it expires at once",
    "900": "15 minutes",
    "3600": "1 hour",
    "86400": "24 hours",
    "604800": "7 days",
    "2592000": "30 days",
}


@contextmanager
def refusals_shown() -> Iterator[None]:
    """Turn an Unusable within this block into an error of the form or field that is being cleaned."""
    try:
        yield
    except Unusable as error:
        raise ValidationError(str(error)) from None


@contextmanager
def at_field(form: forms.BaseForm, field: str) -> Iterator[None]:
    """Turn an Unusable within this block into an error beside this field. For use in a form's `clean`."""
    try:
        yield
    except Unusable as error:
        form.add_error(field, str(error))


def usable_patterns(patterns: list[str]) -> list[str]:
    """Check and return the patterns. A form field for an array doesn't run the validators of its items."""
    with refusals_shown():
        for pattern in patterns:
            issuing.check_pattern(pattern)
    return patterns


class VirtualKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """The terms of a new or changed virtual key."""

    expires_at = expiry()
    labels = LabelsField()

    class Meta:
        model = VirtualKey
        fields = (
            "name",
            "customer",
            "team",
            "owner",
            "allowed_models",
            "denied_models",
            "fallback_models",
            "adaptive_weights",
            "max_tokens",
            "default_max_tokens",
            "expires_at",
            "labels",
        )
        # Of pages that can only be read, which show times in the viewer's zone.
        help_texts: ClassVar = {
            "expires_at": "In your time zone. Empty: never.",
            "labels": "Each ledger row of the key carries them.",
        }

    def clean_name(self) -> str:
        with refusals_shown():
            return names.check(self.cleaned_data["name"], "the virtual key")

    def clean_allowed_models(self) -> list[str]:
        return usable_patterns(self.cleaned_data["allowed_models"])

    def clean_denied_models(self) -> list[str]:
        return usable_patterns(self.cleaned_data["denied_models"])

    def clean_fallback_models(self) -> list[str]:
        models: list[str] = self.cleaned_data["fallback_models"]
        with refusals_shown():
            issuing.check_fallbacks(models)
        return models

    def clean_expires_at(self) -> datetime | None:
        expires_at: datetime | None = self.cleaned_data["expires_at"]
        if "expires_at" in self.changed_data:
            with refusals_shown():
                issuing.check_expiry(expires_at)
        return expires_at

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        team = cleaned.get("team")
        customer = cleaned.get("customer") or (self.instance.customer if self.instance.pk else None)
        if team and customer and team.customer_id != customer.pk:
            self.add_error("team", f"This team belongs to {team.customer}: choose a team of {customer}.")
        elif customer and "name" in cleaned and "team" not in self.errors:
            named = VirtualKey(
                pk=self.instance.pk,
                name=cleaned["name"],
                customer=customer,
                team=team,
                revoked_at=self.instance.revoked_at,
            )
            with at_field(self, "name"):
                virtual_keys.check_name(named)
        return cleaned


class RouteFormSet(forms.BaseInlineFormSet):  # type: ignore[type-arg]
    """The routes of a virtual key: its provider keys and their weights."""

    def routes(self) -> list[tuple[ProviderKey, int]]:
        """The routes that the submitted form asks for."""
        return [
            (form.cleaned_data["provider_key"], form.cleaned_data["weight"])
            for form in self.forms
            if form.cleaned_data.get("provider_key") and not form.cleaned_data.get("DELETE")
        ]

    def clean(self) -> None:
        super().clean()
        if any(self.errors) or self.instance.allowed_models is None:
            return
        with refusals_shown():
            issuing.check_reach(self.instance.allowed_models, [provider_key for provider_key, _ in self.routes()])


class RotateForm(forms.Form):
    """The overlap of a rotation. `newest` makes sure that a form that is sent twice rotates once."""

    overlap = forms.TypedChoiceField(
        choices=list(OVERLAPS.items()),
        initial="86400",
        coerce=lambda seconds: timedelta(seconds=int(seconds)),
        label="The old secret works for",
    )
    newest = forms.IntegerField(widget=forms.HiddenInput)

    def __init__(self, virtual_key: VirtualKey, data: Any = None) -> None:
        credentials = Credential.objects.filter(virtual_key=virtual_key).order_by("-pk")
        self.newest_now = credentials.values_list("pk", flat=True).first() or 0
        super().__init__(data, initial={"newest": self.newest_now})

    def clean_newest(self) -> int:
        newest: int = self.cleaned_data["newest"]
        if newest != self.newest_now:
            raise ValidationError(
                "This key got a new secret after you opened this page. Reload the page to rotate it again."
            )
        return newest


class RevokeForm(forms.Form):
    """Why keys are revoked, and whether their open streams end, too."""

    reason = forms.CharField(
        max_length=names.LENGTH,
        widget=AdminTextInputWidget(attrs={"list": "reasons", "autocomplete": "off"}),
        help_text="It is kept with the key, and is in the audit log.",
    )
    cut_streams = forms.BooleanField(required=False, label="Cut its open streams too")

    def __init__(self, data: Any = None, *, revoked: bool = False) -> None:
        super().__init__(data, initial={"cut_streams": revoked})
        if revoked:  # only its streams are left to cut
            del self.fields["reason"]

    def clean_reason(self) -> str:
        with refusals_shown():
            return issuing.check_reason(self.cleaned_data["reason"])


class ProviderKeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new or changed provider key. The form takes a secret and never shows one."""

    secret = forms.CharField(
        required=False,
        strip=True,
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password", "class": "vTextField"}),
    )

    class Meta:
        model = ProviderKey
        fields = (
            "name",
            "provider",
            "base_url",
            "region",
            "project",
            "model_patterns",
            "active",
            "connect_seconds",
            "first_byte_seconds",
            "between_bytes_seconds",
            "total_seconds",
            "retry_unanswered",
        )
        widgets: ClassVar = {"base_url": AdminTextInputWidget}
        labels: ClassVar = {"base_url": "Base URL"}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "secret" in self.fields:
            hint = f"Ends in …{self.instance.secret_hint}. " if self.instance.secret_hint else ""
            stored = f"{hint}Leave empty to keep it." if self.instance.secret_ciphertext else NEW_SECRET
            self.fields["secret"].help_text = f"{stored} It is stored encrypted and never shown again."

    def clean_model_patterns(self) -> list[str]:
        return usable_patterns(self.cleaned_data["model_patterns"])

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors:
            asked = ProviderKey(pk=self.instance.pk, secret_ciphertext=self.instance.secret_ciphertext)
            for field in ("name", "provider", "base_url", "region", "project", "model_patterns"):
                setattr(asked, field, cleaned[field])
            with refusals_shown():
                provider_keys.check(asked, cleaned["secret"])
        return cleaned


class GatewayTokenForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = GatewayToken
        fields = ("name", "virtual_key")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "name" in self.fields:
            self.fields["name"].required = True
            self.fields["name"].help_text = "The person or service that gets the token."

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        with refusals_shown():
            return names.check(name, "the gateway token")

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not self.errors:
            with at_field(self, "name"):
                issuing.check_token_name(cleaned["name"], cleaned["virtual_key"])
        return cleaned
