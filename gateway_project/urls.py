"""URLs of pages for people. API requests don't reach Django's URLs: see gateway_project.asgi."""

from __future__ import annotations

from django.contrib import admin
from django.urls import include, path
from django.views.generic import TemplateView

from administration import invitations
from administration.members import pages as member_pages
from administration.passwords import change_password
from administration.rest import document as rest_document
from administration.usage_report.pages import report
from gateway_project import page_socket, static_files
from keys.audit_admin import history
from keys.choices import Autocomplete
from messages_api.reference import document

handler400 = "administration.error_pages.bad_request"
handler403 = "administration.refused.page"
handler404 = "administration.error_pages.not_found"
handler500 = "administration.error_pages.failed"

urlpatterns = [
    path("", TemplateView.as_view(template_name="home.html"), name="home"),
    path("favicon.ico", static_files.favicon),
    path("docs/", document.show, name="docs"),
    path("docs/openapi.json", document.serve, name="openapi"),
    path("docs/rest/", document.show, {"title": "REST API for administrators"}, name="rest_docs"),
    path("docs/rest/openapi.json", rest_document.serve, name="rest_openapi"),
    path("my/", member_pages.front, name="my"),
    path("my/sign-out/", member_pages.leave, name="my_sign_out"),
    path("my/<int:pk>/", member_pages.one, name="my_key"),
    path("api/v1/", include("administration.rest.urls")),
    path("", include("administration.analytics.urls")),
    path("admin/usage/report/", admin.site.admin_view(report), name="usage_report"),
    path("admin/autocomplete/", admin.site.admin_view(Autocomplete.as_view(admin_site=admin.site))),
    path("invitation/<uidb64>/<token>/", invitations.accept, name="invitation"),
    path("admin/password_change/", admin.site.admin_view(change_password, cacheable=True)),
    path("admin/<slug:app_label>/<slug:model_name>/<path:object_id>/history/", admin.site.admin_view(history)),
    # Other processes, such as a worker, look up URLs, and don't load the packages of sign-in.
    *([path("admin/", include("administration.sign_in.urls"))] if page_socket.serves_pages_here() else []),
    path("admin/", admin.site.urls),
]
