"""What a 403 says, on pages and in the REST API: what was refused, and which roles have the right."""

from __future__ import annotations

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from administration.roles import names
from administration.roles.definitions import with_right

# What a person does with an action, where the action's name doesn't say it.
VERBS = {
    "view": "see",
    "give_back": "give back",
    "call": "make a test call with",
    "close": "close the month of",
    "choose": "choose",
    "retry": "send again",
}


# What a permission is about, where the model's name doesn't say it to people.
THINGS = {
    "usage.rollup": "the usage report",
    "usage.ledgerentry": "calls",
    "keys.auditevent": "the audit log",
    "keys.credential": "the ends of secrets",
}


def page(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler of refused requests to pages. The permission is the one that was refused last."""
    reason = str(exception)
    permission: str | None = None if reason else getattr(getattr(request, "user", None), "refused", None)
    context = {
        **admin.site.each_context(request),
        "title": "This needs another role",
        "deed": deed(permission) if permission else "",
        "roles": with_right(permission) if permission else [],
        "reason": reason,
    }
    return TemplateResponse(request, "admin/refused.html", context, status=403).render()


def deed(permission: str) -> str:
    """What a permission lets a person do, such as `rotate virtual keys`."""
    action = names.parts(permission).action
    subject = names.subject(permission)
    try:
        things = THINGS.get(subject) or apps.get_model(subject)._meta.verbose_name_plural
    except LookupError:
        things = "this"
    return f"{VERBS.get(action, action)} {things}"


def sentence(permission: str) -> str:
    """What a person lacks a permission for, and who has it, for programs."""
    roles = ", ".join(role.label for role in with_right(permission))
    who = f"Roles that may, for everything or for this customer or team: {roles}" if roles else "No role may"
    return f"The person of this token may not {deed(permission)} here. {who}."
