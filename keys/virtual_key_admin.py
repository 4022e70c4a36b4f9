"""Admin pages for virtual keys. The rules are in keys.issuing and keys.pausing, which the commands use too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from django.contrib import admin, messages
from django.contrib.admin.options import InlineModelAdmin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Prefetch, Q, QuerySet
from django.db.models.functions import Now
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.views.decorators.http import require_POST

from keys import ceilings, issuing, key_search, key_terms, pausing, viewer, virtual_key_export
from keys.admin_lists import LONGEST_TERM
from keys.badges import state_badge
from keys.cards import Cards
from keys.errors import Unusable
from keys.forms import RevokeForm, RotateForm, RouteFormSet, VirtualKeyForm
from keys.kept_admin import PausableAdmin
from keys.large_lists import LargeList, PickerFilter
from keys.models import Credential, CredentialKind, VirtualKey, VirtualKeyRoute


class FollowsKey(InlineModelAdmin):  # type: ignore[type-arg]
    """A part of a virtual key's page. The permissions on the key also hold for this part."""

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("keys.view_virtualkey", obj)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        open_to_change = obj is None or obj.pk is None or not obj.is_closed
        return open_to_change and request.user.has_perm("keys.change_virtualkey", obj)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        if obj is None or obj.pk is None:
            return request.user.has_perm("keys.issue_virtualkey")
        return self.has_change_permission(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_change_permission(request, obj)


class RouteInline(FollowsKey, Cards):
    """The provider keys that a virtual key maps to, with their weights."""

    model = VirtualKeyRoute
    formset = RouteFormSet
    min_num = 1
    verbose_name = "route"
    verbose_name_plural = "routes"
    title_to_add = "Add another route"


class CredentialInline(FollowsKey, Cards):
    """The secrets of a virtual key: the first and last characters of each, and when it expires."""

    model = Credential
    fields = ("ends", "kind", "name", "created_at", "expires_at", "revoked_at")
    readonly_fields = fields
    ordering = ("-pk",)
    can_delete = False
    verbose_name_plural = "secrets"

    @admin.display(description="secret")
    def ends(self, row: Credential) -> str:
        return str(row)

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class KeyStateFilter(admin.SimpleListFilter):
    """Filters by `VirtualKey.state`, in SQL."""

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


def rotated(virtual_key: VirtualKey) -> str:
    """What a rotation did, in a sentence. The old secret is the latest but one."""
    secrets = Credential.objects.filter(virtual_key=virtual_key, kind=CredentialKind.VIRTUAL_KEY).order_by("-pk")
    ends = secrets.values_list("expires_at", flat=True)[1:2].get()
    if ends is None or ends <= timezone.now():
        return "Rotated; the old secret no longer works."
    return f"Rotated; the old secret works until {viewer.moment(ends)}."


@admin.register(VirtualKey)
class VirtualKeyAdmin(LargeList, PausableAdmin):
    """Issues, rotates, pauses, revokes and finds virtual keys."""

    form = VirtualKeyForm
    title_to_add = "Issue a virtual key"
    adds = "issue"
    secret_columns = ("ends",)
    actions = ("pause", "resume", "revoke")
    empty = "There is no virtual key yet. Issue one, and give it to the person or service that will call with it."
    list_display: tuple[Any, ...] = ("name", "belongs_to", "owner", "whole_state", "ends", "expires_at")
    list_filter = (KeyStateFilter, ("customer", PickerFilter), ("team", PickerFilter), "provider_keys")
    # Other columns would have to be sorted before a page of them could be shown.
    sortable_by = ("name",)
    row_page = "admin:key"
    autocomplete_fields = ("customer", "team")
    list_select_related = ("customer", "team__customer")
    search_fields = ("name", "owner", "labels")
    search_help_text = key_search.HELP
    change_form_template = "admin/keys/virtualkey/change_form.html"
    change_list_template = "admin/keys/virtualkey/change_list.html"

    # Functions of other apps that look up the facts of their columns for all rows of a page.
    row_facts: ClassVar[tuple[Callable[[HttpRequest, Sequence[VirtualKey]], None], ...]] = ()

    def get_changelist_instance(self, request: HttpRequest) -> Any:
        """The list, with what is looked up for a whole page at once."""
        changelist = super().get_changelist_instance(request)
        changelist.result_list = list(changelist.result_list)
        for look_up in self.row_facts:
            look_up(request, changelist.result_list)
        return changelist

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        secrets = Credential.objects.filter(kind=CredentialKind.VIRTUAL_KEY).order_by("-pk")
        shown = super().get_queryset(request).filter(passthrough=False)
        return shown.prefetch_related(Prefetch("credentials", secrets, to_attr="secrets"))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if not search_term or len(search_term) > LONGEST_TERM:
            return super().get_search_results(request, queryset, search_term)
        ids = key_search.found(queryset, search_term)
        if self.sees_secrets(request):
            ids += key_search.with_end(search_term).values_list("virtual_key", flat=True)[: key_search.FOUND]
        return queryset.filter(pk__in=ids), False

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        terms = ["name", "customer", "team", "owner", "allowed_models", "denied_models"]
        terms += ["fallback_models", "adaptive_weights", "max_tokens", "default_max_tokens", "expires_at", "labels"]
        dates = ["created_at", *(["revoked_at", "revoke_reason"] if obj and obj.revoked_at else [])]
        return [(None, {"fields": ["whole_state", *terms]}), ("Dates", {"fields": dates})]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        # The customer is fixed, because ledger rows of this key name it. Issue a new key to another customer.
        return ["whole_state", "customer", "created_at", "revoked_at", "revoke_reason"]

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        secrets = [CredentialInline] if request.user.has_perm(self.secret_permission, obj) else []
        return [RouteInline, *secrets, *self.inlines]

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return (obj is None or not obj.is_closed) and super().has_change_permission(request, obj)

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> VirtualKey:
        row: VirtualKey = super().save_form(request, form, change)
        ceilings.hold_move(request.user, row)
        return row

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        """Save nothing yet: `save_formset` saves the terms with the routes, as REST and `apply` do."""

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        if not isinstance(formset, RouteFormSet):
            super().save_formset(request, form, formset, change)
            return
        formset.save(commit=False)  # only names what changes, for the log of the page
        terms = {name: form.cleaned_data[name] for name in form.changed_data}
        key_terms.change(form.instance, terms, formset.routes())

    @admin.display(description="state")
    def whole_state(self, row: VirtualKey) -> SafeString:
        return state_badge(virtual_key_export.state_of(row))

    @admin.display(description="key")
    def ends(self, row: Any) -> str:
        return str(row.secrets[0]) if row.secrets else "none"

    # Keys are issued on a page of their own (administration/issuing/), at the URL that Django has for a new row.
    # Rotating, revoking, pausing and resuming have separate pages.

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("export/", wrap(self.export), name="keys_virtualkey_export"),
            path("<path:object_id>/rotate/", wrap(self.rotate_view), name="keys_virtualkey_rotate"),
            path("<path:object_id>/end-old/", wrap(require_POST(self.end_old_view)), name="keys_virtualkey_end_old"),
            path("<path:object_id>/revoke/", wrap(self.revoke_view), name="keys_virtualkey_revoke"),
            path("<path:object_id>/pause/", wrap(require_POST(self.pause_view)), name="keys_virtualkey_pause"),
            path("<path:object_id>/resume/", wrap(require_POST(self.resume_view)), name="keys_virtualkey_resume"),
            *(url for url in super().get_urls() if url.name != "keys_virtualkey_add"),
        ]

    def export(self, request: HttpRequest) -> HttpResponseBase:
        """The filtered list as CSV."""
        if not self.asked(request, "view"):
            raise PermissionDenied
        rows = self.get_changelist_instance(request).get_queryset(request)
        return virtual_key_export.download(request, rows, ends=self.sees_secrets(request))

    def found(self, request: HttpRequest, action: str, object_id: str, revoked_too: bool = False) -> VirtualKey:
        """The key of this page, if this person may do this to it. Hiding a button doesn't protect its URL."""
        virtual_key: VirtualKey | None = self.get_object(request, unquote(object_id))
        if not self.asked(request, action, virtual_key):
            raise PermissionDenied
        if virtual_key is None:
            raise Http404
        if virtual_key.is_closed and not revoked_too:
            raise PermissionDenied(f"“{virtual_key}” is revoked permanently: issue a new key instead.")
        if not (revoked_too or self.has_change_permission(request, virtual_key)):
            raise PermissionDenied
        return virtual_key

    @transaction.atomic
    def rotate_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        virtual_key = self.found(request, "rotate", object_id)
        if request.method == "POST":
            VirtualKey.objects.select_for_update().get(pk=virtual_key.pk)  # a second click waits for the first
        form = RotateForm(virtual_key, request.POST or None)
        if form.is_valid():
            try:
                plain = issuing.rotate(virtual_key, form.cleaned_data["overlap"])
            except Unusable as error:
                form.add_error(None, str(error))
            else:
                self.log_change(request, virtual_key, f"Rotated; overlap {form.cleaned_data['overlap']}.")
                said = rotated(virtual_key)
                return self.shown_once(request, virtual_key, f"New secret of “{virtual_key}”", plain, said)
        return self.page(
            request, "virtualkey/rotate.html", title=f"Rotate “{virtual_key}”", original=virtual_key, form=form
        )

    def end_old_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        virtual_key = self.found(request, "rotate", object_id)
        try:
            ended = issuing.end_old_secrets(virtual_key)
        except Unusable as error:
            self.message_user(request, f"Nothing was ended: {error}.", messages.ERROR)
        else:
            self.log_change(request, virtual_key, "Old secrets ended.")
            said = "Only the newest secret works now." if ended else "No old secret works any more."
            self.message_user(request, said)
        return HttpResponseRedirect(reverse(self.row_page, args=[virtual_key.pk]))

    def revoke_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        virtual_key = self.found(request, "revoke", object_id, revoked_too=True)
        revoked = virtual_key.revoked_at is not None
        form = RevokeForm(request.POST or None, revoked=revoked)
        if not form.is_valid():
            title = f"Cut the open streams of “{virtual_key}”" if revoked else f"Revoke “{virtual_key}”"
            return self.confirm_revoking(request, [virtual_key], title, form)
        try:
            self.take_back(request, [virtual_key], form)
        except Unusable as error:
            self.message_user(request, f"Nothing was changed: {error}.", messages.ERROR)
        return HttpResponseRedirect(reverse(self.row_page, args=[virtual_key.pk]))

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return self.asked(request, "revoke")

    @admin.action(description="Revoke: refuse their calls permanently", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[Any]) -> HttpResponse | None:
        rows = self.changeable(request, "revoke", queryset)
        form = RevokeForm(request.POST if "confirmed" in request.POST else None)
        if not form.is_valid():
            return self.confirm_revoking(request, rows, "Revoke virtual keys", form, "revoke")
        self.take_back(request, rows, form)
        return None

    def take_back(self, request: HttpRequest, rows: list[Any], form: RevokeForm) -> None:
        cut, reason = form.cleaned_data["cut_streams"], form.cleaned_data.get("reason", "")
        for row in rows:
            issuing.revoke_once(row, cut, reason)
        self.note(request, rows, "Revoked, open streams cut" if cut else "Revoked")

    def pause_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.set_paused(request, self.found(request, "pause", object_id), True)

    def resume_view(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.set_paused(request, self.found(request, "pause", object_id), False)

    def set_paused(self, request: HttpRequest, virtual_key: VirtualKey, paused: bool) -> HttpResponse:
        (pausing.pause if paused else pausing.resume)(virtual_key)
        self.note(request, [virtual_key], "Paused" if paused else "Resumed")
        return HttpResponseRedirect(reverse(self.row_page, args=[virtual_key.pk]))
