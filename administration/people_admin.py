"""The pages of people: who may sign in, and which roles each has. The rules are in administration/roles/giving.py."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import Group, User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.views.decorators.http import require_POST

from administration import invitations
from administration.models import Grant, Person
from administration.people_forms import GrantForm, NewPersonForm
from administration.roles import giving
from keys.cards import Cards
from keys.kept_admin import KeptAdmin
from keys.uncached import framed

# Django's pages for these would let people give what they lack.
admin.site.unregister([User, Group])


class GrantInline(Cards):
    """The roles of a person. A role is given or taken, and never changed."""

    model = Grant
    form = GrantForm
    verbose_name = "role"
    verbose_name_plural = "roles"
    title_to_add = "Give another role"
    autocomplete_fields = ("customer", "team")

    def get_formset(self, request: HttpRequest, obj: Any = None, **kwargs: Any) -> Any:
        return super().get_formset(
            request, obj, form=type("GrantForm", (GrantForm,), {"giver": request.user}), **kwargs
        )

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True  # the page has been asked about its person

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return obj is not None and giving.may_manage(request.user, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self.has_add_permission(request, obj)


@admin.register(Person)
class PersonAdmin(KeptAdmin):
    """People are never deleted, because the audit log names them: they are deactivated."""

    actions = ("deactivate", "remove_second_factors", "leave_only_roles")
    empty = "There is no person here yet."
    about = "A person signs in with a password or by single sign-on, and may do what their roles let them do."
    list_display = ("username", "full_name", "email", "roles", "active", "last_login")
    list_filter = ("is_active", "grants__role")
    search_fields = ("username", "first_name", "last_name", "email")
    ordering = ("username",)
    readonly_fields = ("beyond_roles", "last_login", "date_joined")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).prefetch_related("grants__customer", "grants__team__customer")

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return super().has_change_permission(request, obj) and (obj is None or giving.may_manage(request.user, obj))

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if change:
            return super().get_form(request, obj, change, **kwargs)
        form: Any = super().get_form(request, obj, change, form=type("NewPersonForm", (NewPersonForm,), {}), **kwargs)
        form.giver = request.user
        return form

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        """Only an owner changes by what a person is known: the virtual keys of this name and address are the person's,
        notices go to the address, and single sign-on may find the person by it."""
        known_by = () if obj is None or giving.is_owner(request.user) else ("username", "email")
        return (*self.readonly_fields, *known_by)

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        typed = ["username", "first_name", "last_name", "email"]
        return [*typed, "is_active", *self.readonly_fields] if obj else [*typed, "role", "customer", "team"]

    def get_inlines(self, request: HttpRequest, obj: Any) -> list[Any]:
        return [GrantInline] if obj else []

    def save_form(self, request: HttpRequest, form: Any, change: bool) -> Any:
        return form.save(commit=False)  # a new person belongs to no owner yet: the form has checked the first role

    def save_model(self, request: HttpRequest, obj: Any, form: Any, change: bool) -> None:
        if not change:
            obj.set_unusable_password()
            obj.save()
            given = {name: form.cleaned_data[name] for name in ("customer", "team")}
            giving.give(request.user, obj, form.cleaned_data["role"], **given)
            return
        active, names = obj.is_active, [name for name in form.changed_data if name != "is_active"]
        obj.save(update_fields=names)
        if "is_active" in form.changed_data:
            giving.set_active(request.user, obj, active)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        with transaction.atomic():
            for row in formset.save(commit=False):
                giving.give(request.user, form.instance, row.role, customer=row.customer, team=row.team)
            for row in formset.deleted_objects:
                giving.take(request.user, row)

    # Invitations

    def get_urls(self) -> list[URLPattern]:
        invite = self.admin_site.admin_view(require_POST(self.invite))
        return [path("<path:object_id>/invite/", invite, name="administration_person_invite"), *super().get_urls()]

    def response_add(self, request: HttpRequest, obj: Any, post_url_continue: str | None = None) -> HttpResponse:
        return self.invited(request, obj)

    def invite(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Make a new invitation, for a first or a forgotten password."""
        person = self.get_object(request, unquote(object_id))
        if not self.has_change_permission(request, person):
            raise PermissionDenied
        if person is None:
            raise Http404
        self.log_change(request, person, "Invited.")
        return self.invited(request, person)

    def invited(self, request: HttpRequest, person: Any) -> TemplateResponse:
        """The only page that shows the link of an invitation."""
        link = invitations.link(request, person)
        back = reverse("admin:administration_person_changelist")
        context = {"opts": self.opts, "title": f"Invitation of {person}", "link": link, "person": person, "back": back}
        context["mailed"] = invitations.send(request, person, link)
        return framed(request, "admin/administration/person/invited.html", context)

    # Actions

    @admin.action(description="Deactivate: they can't sign in any more", permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        people = [each for each in queryset if self.has_change_permission(request, each)]
        with transaction.atomic():
            for person in people:
                giving.set_active(request.user, person, False)
                self.log_change(request, person, "Deactivated.")
        self.message_user(request, f"Deactivated: {', '.join(map(str, people)) or 'none'}.")

    @admin.action(
        description="Remove their second factors and links to single sign-on: they set up new ones",
        permissions=["change"],
    )
    def remove_second_factors(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """For people who have lost theirs. One's own are removed on the account page, which asks for the password."""
        # Processes that serve no pages import this module too, and have no allauth.
        from administration.sign_in import lost

        others = queryset.exclude(pk=request.user.pk)
        people = [each for each in others if self.has_change_permission(request, each)]
        with transaction.atomic():
            for person in people:
                lost.remove_second_factors(person)
                self.log_change(request, person, "Second factors removed.")
        self.message_user(request, f"Second factors removed: {', '.join(map(str, people)) or 'none'}.")

    def has_own_permission(self, request: HttpRequest) -> bool:
        """Only an owner may take away what no role gives."""
        return giving.is_owner(request.user)

    @admin.action(description="Leave them only their roles", permissions=["own"])
    def leave_only_roles(self, request: HttpRequest, queryset: QuerySet[Any]) -> None:
        """Take away a superuser's rights, and permissions that were given by hand."""
        people = list(queryset)
        with transaction.atomic():
            for person in people:
                giving.leave_only_roles(request.user, person)
                self.log_change(request, person, "Left only roles.")
        self.message_user(request, f"They have only their roles: {', '.join(map(str, people))}.")

    # Columns

    @admin.display(description="name")
    def full_name(self, row: Person) -> str:
        return row.get_full_name() or "–"

    @admin.display(description="roles")
    def roles(self, row: Any) -> str:
        words = [str(grant) for grant in row.grants.all()]
        return "; ".join(["Superuser, so an owner"] * row.is_superuser + words) or "none"

    @admin.display(description="may sign in", boolean=True, ordering="is_active")
    def active(self, row: Person) -> bool:
        return row.is_active

    @admin.display(description="beyond roles")
    def beyond_roles(self, row: Person) -> str:
        """What the person may do without a role, from before there were roles."""
        if row.is_superuser:
            return "Superuser, so an owner"
        return ", ".join(sorted(giving.permissions_by_hand(row))) or "nothing"
