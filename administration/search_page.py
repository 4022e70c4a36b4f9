"""The pages behind the search boxes: that of the bar, and those of lists.

A search is a POST, so that a secret that was pasted by mistake never becomes part of a URL, of the browser's history or
of a proxy's log, with or without scripts.
"""

from __future__ import annotations

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.views.main import PAGE_VAR, SEARCH_VAR
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import reverse
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_POST

from administration import rooms, search
from administration.rooms import Page
from keys import credentials
from keys.uncached import framed

LONGEST_FILTER = 2000


@sensitive_post_parameters("find")
@require_http_methods(["GET", "HEAD", "POST"])
def find(request: HttpRequest) -> HttpResponse:
    """What the text of the bar's search box may mean. If that is one thing only, its page."""
    text = request.POST.get("find", "")
    found = search.find(request, text) if text else []
    if len(found) == 1:
        return HttpResponseRedirect(found[0].url)
    context = {
        "title": "Search",
        "asked": bool(text.strip()),
        "text": "" if search.may_be_secret(text) else text.strip()[: search.LONGEST],
        "found": found,
        "most": search.MOST,
    }
    return framed(request, "admin/find.html", context)


@sensitive_post_parameters("q")
@require_POST
def find_in_list(request: HttpRequest) -> HttpResponse:
    """Search in one list. The text becomes part of the list's URL; of a secret, only its last characters do.

    Raises:
        Http404: there is no such list.
    """
    try:
        model = apps.get_model(request.POST.get("list", ""))
    except (LookupError, ValueError):
        raise Http404 from None
    if model not in admin.site._registry:
        raise Http404
    query = QueryDict(request.POST.get("filters", "")[:LONGEST_FILTER].lstrip("?"), mutable=True)
    for name in (SEARCH_VAR, PAGE_VAR):
        query.pop(name, None)
    text = request.POST.get("q", "").strip()
    if credentials.is_ours(text) or search.may_be_secret(text):
        text = text[-4:]
    if text:
        query[SEARCH_VAR] = text
    url = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
    return HttpResponseRedirect(f"{url}?{query.urlencode()}" if query else url)


rooms.ELSEWHERE.add(
    Page("Search", "admin:find", route="find/", view=find),
    Page("Search in a list", "admin:find_in_list", route="find/list/", view=find_in_list, linked=False),
)
