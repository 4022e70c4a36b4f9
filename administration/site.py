"""The site: what all pages share."""

from __future__ import annotations

from django.contrib.admin import AdminSite

from keys.product import NAME
from keys.sign_in_forms import SignInForm


class Site(AdminSite):
    """The one site of pages for people; `django.contrib.admin.site` is an object of it."""

    site_header = f"{NAME} administration"
    site_title = NAME
    index_title = "Keys and usage"
    login_form = SignInForm
