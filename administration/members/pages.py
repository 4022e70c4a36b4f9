"""The pages at /my/. People see only their own keys here, whatever their roles let them see elsewhere."""

from __future__ import annotations

from typing import Any

from django.core.handlers.asgi import ASGIRequest
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.middleware.csrf import rotate_token
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from administration.members import sessions, standing
from administration.roles import reach, visible
from keys import sign_in
from keys.kept_admin import example_model
from keys.models import VirtualKey
from keys.product import NAME
from keys.snippets import snippets
from keys.uncached import kept_nowhere
from messages_api.relay.why import newest_secret
from messages_api.server import known_callers
from usage import bars
from usage.bars import Judged

# A person's keys that are listed, the newest ones.
LISTED = 100
# Stands for the key in what is shown to paste.
PLACEHOLDER = "sk-bf-..."


@sensitive_post_parameters("key")
@require_http_methods(["GET", "HEAD", "POST"])
def front(request: HttpRequest) -> HttpResponse:
    """The key of the session, else the keys of the person who is signed in, else the form that takes a key."""
    if request.method == "POST":
        return enter(request)
    found = sessions.of(request)
    if found is not None and not found.end:
        return about(request, key_of(found), found, by_key=True)
    if found is not None:
        response = form(request, f"{sessions.ended(found)} Your session has ended.")
        sessions.close(request, response)
        return response
    if is_person(request.user):
        return choice(request)
    return form(request)


def enter(request: HttpRequest) -> HttpResponse:
    """Open a session with the key in the form."""
    secret = request.POST.get("key", "").strip()
    if not secret:
        return form(request, "Paste a virtual key.", status=400)
    try:
        session = sessions.open_with(secret, request.META.get("REMOTE_ADDR", ""))
    except sessions.WrongKey as error:
        return form(request, str(error), status=403)
    except sign_in.Refused as refused:
        response = form(request, f"{refused.words} Try again in {refused.seconds} seconds.", status=refused.status)
        response.headers["Retry-After"] = str(refused.seconds)
        return response
    rotate_token(request)
    response = HttpResponseRedirect(reverse("my"))
    sessions.send(response, session)
    return kept_nowhere(response)


@require_safe
def one(request: HttpRequest, pk: int) -> HttpResponse:
    """One of the signed-in person's keys.

    Raises:
        Http404: the key is another person's.
    """
    if not is_person(request.user):
        return kept_nowhere(HttpResponseRedirect(reverse("my")))
    found = own_keys(request.user).filter(pk=pk).first()
    secret = newest_secret(found) if found is not None else None
    judged = bars.of_credential(secret.pk) if secret is not None else None
    if found is None or judged is None:
        raise Http404("There is no such page.")
    return about(request, found, judged)


@require_POST
def leave(request: HttpRequest) -> HttpResponse:
    """End the session that a key has opened."""
    response = HttpResponseRedirect(reverse("my"))
    sessions.close(request, response)
    return kept_nowhere(response)


def is_person(user: Any) -> bool:
    """Whether a person is signed in who may see the site's pages."""
    return bool(user.is_authenticated and user.is_active and user.is_staff)


def own_keys(user: Any) -> Any:
    """The virtual keys that a person owns and may see, the newest first."""
    rows = visible(user, reach.keys_of(user)).select_related("customer", "team__customer")
    return rows.prefetch_related("provider_keys").order_by("-pk")


def key_of(found: Judged) -> VirtualKey:
    """The key of a session."""
    rows = VirtualKey.objects.select_related("customer", "team__customer").prefetch_related("provider_keys")
    return rows.get(pk=found.virtual_key)


def choice(request: HttpRequest) -> HttpResponse:
    """The list of a person's keys; of a person with one key, its page."""
    rows = list(own_keys(request.user)[: LISTED + 1])
    if len(rows) == 1:
        return one(request, rows[0].pk)
    context = {"title": "Your virtual keys", "keys": rows[:LISTED], "more": len(rows) > LISTED}
    return page(request, "choice.html", context)


def about(request: HttpRequest, virtual_key: VirtualKey, found: Judged, *, by_key: bool = False) -> HttpResponse:
    """The page of one key. `by_key`: the key itself has opened the session."""
    base_url = request.build_absolute_uri("/").rstrip("/")
    context = standing.of_key(virtual_key, found.credential) | {
        "title": virtual_key.name,
        "key": virtual_key,
        "by_key": by_key,
        "end": found.end,
        "pauses": [standing.PAUSES[bar] for bar in found.bars if bar in standing.PAUSES],
        "placeholder": PLACEHOLDER,
        "snippets": snippets(base_url, PLACEHOLDER, example_model(virtual_key)),
    }
    if isinstance(request, ASGIRequest):
        known_callers.note(request.scope)
    return page(request, "key.html", context)


def form(request: HttpRequest, problem: str = "", *, status: int = 200) -> HttpResponse:
    """The form that takes a key. It never shows again what was typed."""
    return page(request, "sign_in.html", {"title": "Your virtual key", "problem": problem}, status=status)


def page(request: HttpRequest, template: str, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    """A page of these, with what all of them have."""
    shared = {"product": NAME, "person": is_person(request.user)}
    return kept_nowhere(TemplateResponse(request, f"my/{template}", shared | context, status=status))
