"""The page of a 403: what was refused, and which roles have the right."""

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


def page(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Django's handler of refused requests to pages. The permission is the one that was refused last."""
    permission: str | None = getattr(getattr(request, "user", None), "refused", None)
    context = {
        **admin.site.each_context(request),
        "title": "This needs another role",
        "deed": deed(permission) if permission else "",
        "roles": with_right(permission) if permission else [],
        "reason": str(exception) if permission is None else "",
    }
    return TemplateResponse(request, "admin/refused.html", context, status=403).render()


def deed(permission: str) -> str:
    """What a permission lets a person do, such as `rotate virtual keys`."""
    action = names.parts(permission).action
    try:
        things = apps.get_model(names.subject(permission))._meta.verbose_name_plural
    except LookupError:
        things = "this"
    return f"{VERBS.get(action, action)} {things}"
