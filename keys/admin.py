"""Admin pages for keys: thin over keys.issuing, keys.provider_keys and keys.pausing, as the commands are.

A secret is rendered in the answer to the POST that made it, and nowhere else: not in a message (these are stored),
not in a URL, not in the log of changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.options import InlineModelAdmin
from django.contrib.admin.utils import unquote
from django.contrib.admin.widgets import AdminTextInputWidget
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import PermissionDenied
from django.db import models, transaction
from django.db.models import Prefetch, Q, QuerySet
from django.db.models.functions import Now
from django.forms import ModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST

from keys import issuing, pausing, provider_keys, routing_admin
from keys.badges import state_badge
from keys.errors import Unusable
from keys.forms import (
    GatewayTokenForm,
    ProviderKeyForm,
    RevokeForm,
    RotateForm,
    RouteFormSet,
    VirtualKeyForm,
)
from keys.lists import Listed
from keys.models import (
    Credential,
    CredentialKind,
    Customer,
    Gateway,
    GatewayToken,
    ModelList,
    ProviderKey,
    Team,
    VirtualKey,
    VirtualKeyRoute,
)

__all__ = ["routing_admin"]  # its pages are registered with these

admin.site.site_header = "Gateway administration"
admin.site.site_title = "Gateway"
admin.site.index_title = "Keys and usage"

SECRET_FIELDS = ("digest", "secret_ciphertext")
# The page that shows a secret answers however the form was sent: no other way to send it is offered.
ONE_WAY_TO_SAVE = {"show_save_and_add_another": False, "show_save_and_continue": False}
SOME_MODEL = "claude-haiku-4-5"
ECHO_MODEL = "echo-1"


class KeptAdmin(Listed):
    """Rows that the ledger names are kept for ever, and their secrets can't be asked about by a look-up."""

    formfield_overrides: ClassVar = {ArrayField: {"widget": AdminTextInputWidget}}

    def has_delete_permission(self, request: HttpRequest, obj: models.Model | None = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest | None = None) -> bool:
        # Or else ?digest__startswith=… would answer questions about a digest, a byte at a time.
        if any(part in SECRET_FIELDS for part in lookup.split("__")):
            return False
        return super().lookup_allowed(lookup, value, request)  # type: ignore[arg-type]

    def page(self, request: HttpRequest, template: str, **context: Any) -> TemplateResponse:
        """A page of ours in the frame of the admin, for nobody's cache."""
        frame = {**self.admin_site.each_context(request), "opts": self.opts}
        response = TemplateResponse(request, f"admin/keys/{template}", frame | context)
        response.headers["Cache-Control"] = "no-store"
        return response

    def shown_once(self, request: HttpRequest, virtual_key: VirtualKey, title: str, plain: str) -> TemplateResponse:
        """The only page that ever shows this secret."""
        return self.page(
            request,
            "shown_once.html",
            title=title,
            plain=plain,
            virtual_key=virtual_key,
            base_url=request.build_absolute_uri("/").rstrip("/"),
            model=example_model(virtual_key),
            back=reverse(f"admin:keys_{self.opts.model_name}_changelist"),
        )

    def confirm_revoking(
        self, request: HttpRequest, rows: Iterable[models.Model], title: str, form: RevokeForm | None, action: str = ""
    ) -> TemplateResponse:
        """Asks before something is taken back for good."""
        back = reverse(f"admin:keys_{self.opts.model_name}_changelist")
        return self.page(request, "revoke.html", title=title, rows=rows, form=form, action=action, back=back)


def example_model(virtual_key: VirtualKey) -> str:
    """A model that a call with this key can name."""
    served = [pattern for key in virtual_key.provider_keys.all() for pattern in key.model_patterns]
    for name in (*virtual_key.allowed_models, *served):
        if "*" not in name and virtual_key.allows(name):
            return name
    return ECHO_MODEL if served and all(name.startswith("echo") for name in served) else SOME_MODEL


class PausableAdmin(KeptAdmin):
    """Rows whose calls can be refused for a while."""

    actions: Sequence[Any] = ("pause", "resume")

    def changeable(self, request: HttpRequest, queryset: QuerySet[Any]) -> list[Any]:
        return [row for row in queryset if self.has_change_permission(request, row)]

    @admin.action(description="Pause: refuse their calls for now", permissions=["change"])
    def pause(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        rows = self.changeable(request, queryset)
        pausing.pause_all(rows)
        self.note(request, rows, "Paused")

    @admin.action(description="Resume: let their calls in again", permissions=["change"])
    def resume(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        rows = self.changeable(request, queryset)
        pausing.resume_all(rows)
        self.note(request, rows, "Resumed")

    def note(self, request: HttpRequest, rows: list[Any], what: str) -> None:
        """Log it for each row, and tell the person how many there were."""
        for row in rows:
            self.log_change(request, row, f"{what}.")
        self.message_user(request, f"{what}: {', '.join(map(str, rows)) or 'none'}.")

    @admin.display(description="state", ordering="paused")
    def paused_state(self, row: Any) -> SafeString:
        return state_badge("paused" if row.paused else "active")


@admin.register(Gateway)
class GatewayAdmin(PausableAdmin):
    """The one row about the whole gateway."""

    fields = ("paused", "arbiter_away")
    readonly_fields = ("arbiter_away",)
    actions = ()

    @admin.display(description="while the database is away")
    def arbiter_away(self, row: Gateway) -> str:
        """What the deployment has chosen; it can't be changed here, for it must be known without the database."""
        if settings.CONFIGURATION.arbiter_away == "refuse":
            return "Calls are refused (ARBITER_AWAY=refuse)."
        return (
            "Calls with credentials that a process has let in before pass, whatever is left of their budgets and "
            "limits, and are admitted afterwards (ARBITER_AWAY=pass). A revocation takes no effect until the database "
            "is back."
        )

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        if not self.has_view_or_change_permission(request):
            raise PermissionDenied
        return HttpResponseRedirect(reverse("admin:keys_gateway_change", args=[1]))


@admin.register(Customer)
class CustomerAdmin(PausableAdmin):
    """Who is billed."""

    empty = "There is no customer yet: add whoever is billed, a company or a cost centre."
    list_display = ("name", "paused_state", "created_at")
    list_filter = ("paused",)
    search_fields = ("name",)
    fields = ("name", "paused", "time_zone", "fiscal_year_month", "language")


@admin.register(Team)
class TeamAdmin(PausableAdmin):
    """A customer's groups."""

    empty = "There is no team yet: add one, and its virtual keys share files, budgets and limits."
    list_display = ("name", "customer", "paused_state", "created_at")
    list_filter = ("paused", "customer")
    list_select_related = ("customer",)
    search_fields = ("name", "customer__name")
    fields = ("customer", "name", "paused", "max_tokens", "default_max_tokens")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["customer"] if obj else []  # its keys' rows in the ledger name that customer


@admin.register(ProviderKey)
class ProviderKeyAdmin(KeptAdmin):
    """Accounts with providers. One that isn't wanted any more is deactivated: the ledger names it."""

    # From the provider, once it has been called.
    LEARNED = ("listed", "organization_id", "workspace_id")

    form = ProviderKeyForm
    POLICY = ("connect_seconds", "first_byte_seconds", "between_bytes_seconds", "total_seconds", "retry_unanswered")

    fields = (
        "name",
        "provider",
        "base_url",
        "region",
        "project",
        "secret",
        "model_patterns",
        "active",
        *POLICY,
        *LEARNED,
    )
    readonly_fields = LEARNED
    empty = "There is no provider key yet: add an account with a provider, and virtual keys can be mapped to it."
    list_display = ("name", "provider", "state", "address", "models", "hint", "organization_id", "workspace_id")
    list_filter = ("provider", "active")
    search_fields = ("name", "base_url")

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProviderKey]:
        return super().get_queryset(request).prefetch_related("cooldowns")

    @method_decorator(sensitive_post_parameters("secret"))
    def changeform_view(self, *args: Any, **kwargs: Any) -> Any:
        return super().changeform_view(*args, **kwargs)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        # A field that isn't the model's can't be rendered on a page to look at only.
        may = self.has_change_permission(request, obj) if obj else self.has_add_permission(request)
        hidden = {"secret": not may} | dict.fromkeys(self.LEARNED, obj is None)
        return [field for field in self.fields if not hidden.get(field)]

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        provider_keys.save(obj, form.cleaned_data["secret"])

    @admin.display(description="state", ordering="active")
    def state(self, row: ProviderKey) -> SafeString:
        """Whether it is called: what it cools down for is on a page of its own."""
        cooling = [each for each in row.cooldowns.all() if each.until > timezone.now() or each.is_refused]
        if not row.active or not cooling:
            return state_badge("active" if row.active else "inactive")
        told = "refused" if any(each.is_refused for each in cooling) else "cooling"
        url = reverse("admin:keys_cooldown_changelist", query={"provider_key__id__exact": row.pk})
        return format_html('<a href="{}">{}</a>', url, state_badge(told))

    @admin.display(description="base URL")
    def address(self, row: ProviderKey) -> str:
        return row.base_url or row.region or "the provider's own"

    @admin.display(description="models")
    def models(self, row: ProviderKey) -> str:
        return ", ".join(row.model_patterns) or "all"

    @admin.display(description="models that its provider lists")
    def listed(self, row: ProviderKey) -> str:
        models = ModelList.objects.filter(pk=row.pk).first()
        if models is None:
            return "not asked for yet"
        names = ", ".join(model["id"] for model in models.listed) or "none yet"
        when = f" ({models.listed_at:%Y-%m-%d %H:%M} UTC)" if models.listed_at else ""
        return names + when + (f"; the last question had no answer: {models.problem}" if models.problem else "")

    @admin.display(description="secret")
    def hint(self, row: ProviderKey) -> str:
        return f"…{row.secret_hint}" if row.secret_hint else ("set" if row.secret_ciphertext else "none")


class FollowsKey(InlineModelAdmin):  # type: ignore[type-arg]
    """A part of a virtual key's page: who may do what to the key may do it to this."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("keys.view_virtualkey") or request.user.has_perm("keys.change_virtualkey")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        open_to_change = obj is None or obj.pk is None or not (obj.revoked_at or obj.passthrough)
        return open_to_change and request.user.has_perm("keys.change_virtualkey")

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is None or obj.pk is None:
            return request.user.has_perm("keys.add_virtualkey")
        return self.has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)


class RouteInline(FollowsKey, admin.TabularInline):  # type: ignore[type-arg]
    """The provider keys that it maps to."""

    model = VirtualKeyRoute
    formset = RouteFormSet
    extra = 0
    min_num = 1
    verbose_name = "provider key"
    verbose_name_plural = "provider keys that it maps to, and their shares of its calls"


class CredentialInline(FollowsKey, admin.TabularInline):  # type: ignore[type-arg]
    """What opens it: the ends of each secret, and how long it works."""

    model = Credential
    fields = ("ends", "kind", "name", "created_at", "expires_at", "revoked_at")
    readonly_fields = fields
    ordering = ("-pk",)
    extra = 0
    can_delete = False
    verbose_name_plural = "secrets that open it"

    @admin.display(description="secret")
    def ends(self, row: Credential) -> str:
        return str(row)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class StateFilter(admin.SimpleListFilter):
    """By state, as `VirtualKey.state` tells it."""

    title = "state"
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(state, state) for state in ("active", "paused", "expired", "revoked")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        revoked, expired = Q(revoked_at__isnull=False), Q(expires_at__lte=Now())
        states = {
            "revoked": revoked,
            "expired": ~revoked & expired,
            "paused": ~revoked & ~expired & Q(active=False),
            "active": ~revoked & ~expired & Q(active=True),
        }
        return queryset.filter(states[self.value() or ""]) if self.value() in states else queryset


def found_by_end(queryset: QuerySet[Any], term: str, lookup: str) -> QuerySet[Any]:
    """Those whose secret ends like the term; of a whole key that was pasted, no more than its end is looked at."""
    end = term.strip()[-4:]
    return queryset.filter(**{f"{lookup}__endswith": end}) if len(end) > 1 else queryset.none()


@admin.register(VirtualKey)
class VirtualKeyAdmin(PausableAdmin):
    """Issuing, rotating, pausing, revoking and finding virtual keys."""

    form = VirtualKeyForm
    actions = ("pause", "resume", "revoke")
    empty = "There is no virtual key yet: issue one, and copy it to whoever is to call with it."
    list_display = ("name", "customer", "team", "owner", "whole_state", "ends", "expires_at")
    list_filter = (StateFilter, "customer", "team", "provider_keys")
    list_select_related = ("customer", "team__customer")
    search_fields = ("name", "owner")
    search_help_text = "Name, owner, or the last characters of the key"
    change_form_template = "admin/keys/virtualkey/change_form.html"
    change_list_template = "admin/keys/change_list.html"

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        secrets = Credential.objects.filter(kind=CredentialKind.VIRTUAL_KEY).order_by("-pk")
        shown = super().get_queryset(request).filter(passthrough=False)
        return shown.prefetch_related(Prefetch("credentials", secrets, to_attr="secrets"))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        found, _ = super().get_search_results(request, queryset, search_term)
        if search_term:
            found = found | found_by_end(queryset, search_term, "credentials__last")
        return found, True

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        terms = ["name", "customer", "team", "owner", "allowed_models", "denied_models"]
        terms += ["fallback_models", "adaptive_weights", "max_tokens", "default_max_tokens", "expires_at", "labels"]
        if obj is None:
            return [(None, {"fields": terms})]
        return [(None, {"fields": ["whole_state", *terms]}), ("Dates", {"fields": ["created_at", "revoked_at"]})]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        # Its rows in the ledger name its customer: another customer gets another key.
        return ["whole_state", "customer", "created_at", "revoked_at"] if obj else []

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        return [RouteInline, CredentialInline, *self.inlines] if obj else [RouteInline]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return (obj is None or not (obj.revoked_at or obj.passthrough)) and super().has_change_permission(request, obj)

    @admin.display(description="state")
    def whole_state(self, row: VirtualKey) -> SafeString:
        if row.state == "active":
            if row.customer.paused:
                return state_badge("customer paused")
            if row.team and row.team.paused:
                return state_badge("team paused")
        return state_badge(row.state)

    @admin.display(description="key")
    def ends(self, row: Any) -> str:
        return str(row.secrets[0]) if row.secrets else "none"

    # Adding: the function that issues keys saves everything; the page that answers shows the key.

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        try:
            return super().add_view(request, form_url, {**(extra_context or {}), **ONE_WAY_TO_SAVE})
        except Unusable as error:  # somebody else was faster than the form's own checks
            self.message_user(request, f"Nothing was issued: {error}.", messages.ERROR)
            return HttpResponseRedirect(request.path)

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        if change:
            super().save_related(request, form, formsets, change)
        else:
            vars(form.instance)["plain"] = issuing.issue(form.instance, formsets[0].routes())

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        return [{"added": {}}] if add else super().construct_change_message(request, form, formsets, add)

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        return self.shown_once(request, obj, f"Virtual key “{obj}”", vars(obj).pop("plain"))

    # What else can be done to one key, on pages of their own.

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("<path:object_id>/rotate/", wrap(self.rotate_view), name="keys_virtualkey_rotate"),
            path("<path:object_id>/revoke/", wrap(self.revoke_view), name="keys_virtualkey_revoke"),
            path("<path:object_id>/pause/", wrap(require_POST(self.pause_view)), name="keys_virtualkey_pause"),
            path("<path:object_id>/resume/", wrap(require_POST(self.resume_view)), name="keys_virtualkey_resume"),
            *super().get_urls(),
        ]

    def permitted(self, request: HttpRequest, object_id: str, revoked_too: bool = False) -> VirtualKey:
        """The key of this page, if this person may change it: these pages can be asked for without the buttons."""
        virtual_key: VirtualKey | None = self.get_object(request, unquote(object_id))
        if not super().has_change_permission(request, virtual_key):
            raise PermissionDenied
        if virtual_key is None:
            raise Http404
        if not (revoked_too or self.has_change_permission(request, virtual_key)):
            raise PermissionDenied
        return virtual_key

    @transaction.atomic
    def rotate_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        virtual_key = self.permitted(request, object_id)
        if request.method == "POST":
            VirtualKey.objects.select_for_update().get(pk=virtual_key.pk)  # of two clicks, the second sees the first
        form = RotateForm(virtual_key, request.POST or None)
        if form.is_valid():
            try:
                plain = issuing.rotate(virtual_key, form.cleaned_data["overlap"])
            except Unusable as error:
                form.add_error(None, str(error))
            else:
                self.log_change(request, virtual_key, f"Rotated; overlap {form.cleaned_data['overlap']}.")
                return self.shown_once(request, virtual_key, f"New secret of “{virtual_key}”", plain)
        return self.page(
            request, "virtualkey/rotate.html", title=f"Rotate “{virtual_key}”", original=virtual_key, form=form
        )

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        virtual_key = self.permitted(request, object_id, revoked_too=True)
        revoked = virtual_key.revoked_at is not None
        form = RevokeForm(request.POST or None, initial={"cut_streams": revoked})
        if not form.is_valid():
            title = f"Cut the open streams of “{virtual_key}”" if revoked else f"Revoke “{virtual_key}”"
            return self.confirm_revoking(request, [virtual_key], title, form)
        self.take_back(request, [virtual_key], form)
        return HttpResponseRedirect(reverse("admin:keys_virtualkey_change", args=[virtual_key.pk]))

    @admin.action(description="Revoke: take them back for good", permissions=["change"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        rows = self.changeable(request, queryset)
        form = RevokeForm(request.POST if "confirmed" in request.POST else None)
        if not form.is_valid():
            return self.confirm_revoking(request, rows, "Revoke virtual keys", form, "revoke")
        self.take_back(request, rows, form)
        return None

    def take_back(self, request: HttpRequest, rows: list[Any], form: RevokeForm) -> None:
        cut = form.cleaned_data["cut_streams"]
        for row in rows:
            issuing.revoke(row, cut_streams=cut)
        self.note(request, rows, "Revoked, open streams cut" if cut else "Revoked")

    def pause_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.set_paused(request, self.permitted(request, object_id), True)

    def resume_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.set_paused(request, self.permitted(request, object_id), False)

    def set_paused(self, request: HttpRequest, virtual_key: VirtualKey, paused: bool) -> HttpResponse:
        (pausing.pause if paused else pausing.resume)(virtual_key)
        self.note(request, [virtual_key], "Paused" if paused else "Resumed")
        return HttpResponseRedirect(reverse("admin:keys_virtualkey_change", args=[virtual_key.pk]))


@admin.register(GatewayToken)
class GatewayTokenAdmin(KeptAdmin):
    """Tokens that call as somebody's virtual key: added, shown once, revoked, never edited."""

    form = GatewayTokenForm
    actions = ("revoke",)
    fields = ("name", "virtual_key")
    empty = "There is no gateway token yet: issue one to a person or service that calls as somebody's virtual key."
    list_display = ("name", "virtual_key", "ends", "created_at", "revoked_at")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter),)
    list_select_related = ("virtual_key",)
    search_fields = ("name", "virtual_key__name")
    search_help_text = "Name, virtual key, or the last characters of the token"
    change_list_template = "admin/keys/change_list.html"
    ordering = ("name",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(kind=CredentialKind.GATEWAY_TOKEN)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        found, duplicates = super().get_search_results(request, queryset, search_term)
        return (found | found_by_end(queryset, search_term, "last")) if search_term else found, duplicates

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_view_permission(request, obj) or self.has_revoke_permission(request)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return super().has_change_permission(request)

    def formfield_for_foreignkey(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        kwargs["queryset"] = VirtualKey.objects.filter(passthrough=False, revoked_at=None)
        return super().formfield_for_foreignkey(db_field, request, **kwargs)

    @admin.display(description="token")
    def ends(self, row: GatewayToken) -> str:
        return str(row)

    def add_view(self, request: HttpRequest, form_url: str = "", extra_context: Any = None) -> HttpResponse:
        try:
            return super().add_view(request, form_url, {**(extra_context or {}), **ONE_WAY_TO_SAVE})
        except Unusable as error:
            self.message_user(request, f"Nothing was issued: {error}.", messages.ERROR)
            return HttpResponseRedirect(request.path)

    def save_model(self, request: HttpRequest, obj: Any, form: ModelForm[Any], change: bool) -> None:
        vars(obj)["plain"] = issuing.issue_gateway_token(obj.name, obj.virtual_key)
        obj.pk = GatewayToken.objects.get(kind=CredentialKind.GATEWAY_TOKEN, name=obj.name).pk

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        obj.refresh_from_db()
        return super().log_addition(request, obj, message)

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        return self.shown_once(request, obj.virtual_key, f"Gateway token “{obj.name}”", vars(obj).pop("plain"))

    @admin.action(description="Revoke: take them back for good", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        if "confirmed" not in request.POST:
            return self.confirm_revoking(request, queryset, "Revoke gateway tokens", None, "revoke")
        for row in queryset:
            issuing.revoke_token(row)
            self.log_change(request, row, "Revoked.")
        self.message_user(request, f"Revoked: {', '.join(row.name for row in queryset)}.")
        return None
