"""Admin pages for tokens of the REST API. People make tokens for themselves; owners see and revoke everyone's."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import Model, QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.safestring import SafeString

from administration.models import ApiToken
from administration.rest import scopes, tokens
from keys.badges import state_badge
from keys.form_fields import expiry
from keys.forms import at_field
from keys.kept_admin import ONE_WAY_TO_SAVE, KeptAdmin

USUAL = timedelta(days=90)


class ApiTokenForm(ModelForm):  # type: ignore[type-arg]
    """A new token of the person who fills in the form."""

    scopes = forms.MultipleChoiceField(
        choices=[(scope, scopes.in_words(scope)) for scope in scopes.SCOPES],
        widget=forms.CheckboxSelectMultiple,
        help_text="Who may write may also read. The token can never do more than you.",
    )
    expires_at = expiry(required=True)
    # Set by the page.
    person: Any = None

    class Meta:
        model = ApiToken
        fields = ("name", "scopes", "expires_at")
        help_texts: ClassVar = {"expires_at": "In your time zone."}  # of the page that can only be read

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if "expires_at" in cleaned:
            with at_field(self, "expires_at"):
                tokens.check_expiry(cleaned["expires_at"])
        if ApiToken.objects.filter(user=self.person.pk, name=cleaned.get("name", "").strip(), revoked_at=None).exists():
            self.add_error("name", "You already have a token of this name: choose another name, or revoke that one.")
        return cleaned


@admin.register(ApiToken)
class ApiTokenAdmin(KeptAdmin):
    """Tokens are made, shown once and revoked, but never edited."""

    form = ApiTokenForm
    fields = ("name", "scopes", "expires_at")
    actions = ("revoke",)
    about = "Programs use the REST API at /api/v1 with a token, for the person who made it."
    empty = "There is no token yet. Make one, and a program may do for you what its scopes allow."
    list_display = ("name", "user", "token", "state", "scopes_shown", "expires_at", "last_used_at", "last_used_from")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    list_select_related = ("user",)
    list_display_links = None
    search_fields = ("name", "user__username", "last")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ApiToken]:
        rows = ApiToken.objects.select_related("user")
        everyones = request.user.has_perm("administration.view_apitoken")
        return rows if everyones else rows.filter(user=request.user.pk)

    # All who may sign in may make tokens, which can do no more than their person.

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_add_permission(request)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.is_active and request.user.is_staff)

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.has_add_permission(request)

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return self.has_add_permission(request)

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, change, **kwargs)
        return type(form.__name__, (form,), {"person": request.user})

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        return {"expires_at": (timezone.now() + USUAL).replace(second=0, microsecond=0)}

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        return super().add_view(request, form_url, {**(extra_context or {}), **ONE_WAY_TO_SAVE})

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        assert request.user.is_authenticated
        token, plain = tokens.issue(request.user, obj.name, form.cleaned_data["scopes"], obj.expires_at)
        vars(obj).update(vars(token), plain=plain)

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        return self.page(
            request,
            "token_shown_once.html",
            title=f"API token “{obj}”",
            plain=vars(obj).pop("plain"),
            base_url=request.build_absolute_uri("/").rstrip("/"),
            back=reverse("admin:administration_apitoken_changelist"),
        )

    @admin.action(description="Revoke: refuse their requests permanently", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        others = request.user.has_perm("administration.change_apitoken")
        rows = [row for row in queryset if others or row.user_id == request.user.pk]
        if "confirmed" not in request.POST:
            return self.confirm_revoking(request, rows, "Revoke API tokens", None, "revoke")
        for row in rows:
            tokens.revoke(row)
            self.log_change(request, row, "Revoked.")
        self.message_user(request, f"Revoked: {', '.join(row.name for row in rows) or 'none'}.")
        return None

    @admin.display(description="token")
    def token(self, row: ApiToken) -> str:
        return row.ends

    @admin.display(description="state")
    def state(self, row: ApiToken) -> SafeString:
        return state_badge(row.state)

    @admin.display(description="scopes")
    def scopes_shown(self, row: ApiToken) -> str:
        return ", ".join(row.scopes)
