"""The site: what all pages share."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from django.contrib.admin import AdminSite
from django.contrib.auth import REDIRECT_FIELD_NAME
from django.http import HttpRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import URLPattern, URLResolver, path, reverse
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache

from administration import rooms, viewers
from administration.breadcrumbs import crumbs
from keys.product import NAME
from keys.sign_in_forms import SignInForm


class Site(AdminSite):
    """The one site of pages for people; `django.contrib.admin.site` is an object of it.

    Its rooms are in `administration/rooms.py`. Pages are found by room, so it has no index of tables.
    """

    site_header = f"{NAME} administration"
    site_title = NAME
    index_title = "Overview"
    login_form = SignInForm
    logout_template = "admin/account/signed_out.html"
    enable_nav_sidebar = False

    def get_urls(self) -> list[URLPattern | URLResolver]:
        """The pages of the rooms, before Django's own."""
        ours = [
            path(page.route or "", self.admin_view(page.guarded()), name=page.name.removeprefix("admin:"))
            for page in rooms.served()
        ]
        return [path("time-zone/", viewers.choose_zone, name="time_zone"), *ours, *super().get_urls()]

    def each_context(self, request: HttpRequest) -> dict[str, Any]:
        """Django's variables for every page, with the bar, the links of the room and its first breadcrumbs."""
        match = request.resolver_match
        here = match.view_name if match else ""
        zone = viewers.zone_of(request)
        context: dict[str, Any] = super().each_context(request)
        context |= {"zone": zone or UTC, "zone_unknown": zone is None}
        if context["has_permission"]:
            context |= {
                "search_url": reverse("admin:find"),
                "bar": rooms.bar(request.user, here),
                "room_links": rooms.links(request.user, here),
                "page_title": page.title if (page := rooms.page_of(here)) else "",
                "crumbs": crumbs(request.user, here),
            }
        return context

    @method_decorator(never_cache)
    def login(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponseBase:  # type: ignore[override]
        """The sign-in page, for every page that a visitor asks for."""
        # Processes that serve no pages import this module too, and have no allauth.
        from administration.sign_in.pages import SignIn

        if request.method == "GET" and self.has_permission(request):
            return HttpResponseRedirect(reverse("admin:index"))
        context = {
            **self.each_context(request),
            "title": "Sign in",
            "subtitle": None,
            "app_path": request.get_full_path(),
            "username": request.user.get_username(),
            **(extra_context or {}),
        }
        if REDIRECT_FIELD_NAME not in request.GET and REDIRECT_FIELD_NAME not in request.POST:
            context[REDIRECT_FIELD_NAME] = reverse("admin:index")
        page = SignIn.as_view(
            authentication_form=self.login_form, template_name="admin/login.html", extra_context=context
        )
        return page(request)

    @method_decorator(never_cache)
    def logout(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponseBase:  # type: ignore[override]
        """Sign out. The page says how to sign out at the provider of single sign-on, too."""
        from administration.sign_in import sso_pages

        page: dict[str, Any] = dict.fromkeys(("bar", "room_links", "crumbs", "search_url"))
        page |= {"title": "Signed out", "provider": sso_pages.name(), "way_out": sso_pages.way_out(request)}
        return super().logout(request, {**page, **(extra_context or {})})

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Empty: the rooms replace Django's list of tables."""
        return []

    def app_index(self, request: HttpRequest, app_label: str, extra_context: Any = None) -> HttpResponseBase:  # type: ignore[override]
        """Old links to the list of an app's tables lead to the front page."""
        return HttpResponseRedirect(reverse("admin:index"))
