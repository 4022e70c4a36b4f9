"""What browsers may do with what the gateway says: nothing that isn't in a file of its own."""

from __future__ import annotations

import os
from pathlib import Path

from django.contrib import admin
from django.urls import reverse

from gateway_project.content_security import policy
from tests.admin.test_page_widths import filled, styled
from tests.support.gateway import CLIENT, talk
from tests.support.signed_in import signed_in

PICTURES = os.environ.get("PICTURES_DIR", "")
__all__ = ["filled", "styled"]


def test_every_page_says_what_it_may_load_and_ask_for(web):
    with signed_in() as cookies:
        session = f"sessionid={cookies['sessionid']}"
        for path in ("/", "/docs/", "/docs/openapi.json", "/admin/", "/admin/login/", "/admin/nope/", "/favicon.ico"):
            given = CLIENT.get(web.url + path, headers={"cookie": session}).headers
            said = given["content-security-policy"]
            assert "default-src 'self'" in said
            assert "frame-ancestors 'none'" in said
            assert "unsafe-" not in said
            assert given["x-content-type-options"] == "nosniff"
            assert given["x-frame-options"] == "DENY"
            assert given["referrer-policy"] == "same-origin"
            assert "camera=()" in given["permissions-policy"]
    refused = talk(web, b"GET /admin/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")[1]
    assert "default-src 'none'" in refused["content-security-policy"]
    assert refused["x-content-type-options"] == "nosniff"
    assert CLIENT.get(web.url + "/static/nothing.css").headers["x-content-type-options"] == "nosniff"


def test_behind_tls_cookies_are_of_this_host_only(served, start_web):
    web = start_web(tls_in_front="true")
    given = CLIENT.get(web.url + "/admin/login/", headers={"x-forwarded-proto": "https"}).headers
    (cookie,) = given.get_list("set-cookie")
    assert cookie.startswith("__Host-csrftoken=")
    assert "; Secure" in cookie
    assert "; Path=/" in cookie
    assert "Domain" not in cookie


def test_no_page_does_what_its_policy_forbids(chromium, styled, filled):
    """Every list and form of the admin, the report, its dialogues, and the pages before it."""
    lists = [
        reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist") for model in admin.site._registry
    ]
    pages = ["/", "/docs/", "/admin/login/", "/admin/", "/admin/usage/report/?range=month", "/admin/password_change/"]
    wrong = {}
    with signed_in() as cookies:
        chromium.keep(cookies, styled.url)
        chromium.size(1280, 1000)
        for page in [*pages, *lists, *filled.values(), "/admin/logout/"]:
            if page == "/admin/login/":
                chromium.forget()
            chromium.open(styled.url + page)
            if found := chromium.violations():
                wrong[page] = found
            if PICTURES:
                chromium.picture(Path(PICTURES) / f"policy {page.strip('/').replace('/', ' ') or 'home'}.png")
            chromium.keep(cookies, styled.url)
    assert wrong == {}


def test_the_reference_is_shown_under_its_policy(chromium, styled):
    chromium.open(styled.url + "/docs/")
    shown = """new Promise(done => {
        const look = () => document.querySelectorAll(".opblock").length > 5 ? done(true) : setTimeout(look, 50);
        look();
    })"""
    assert chromium.evaluate(shown)
    chromium.evaluate("document.querySelector('.opblock-summary-control, .opblock-summary').click()")
    assert chromium.violations() == []


def test_a_policy_is_written_as_browsers_read_it():
    directives = {"default-src": ["'none'"], "img-src": ["'self'", "data:"]}
    assert policy(directives) == "default-src 'none'; img-src 'self' data:"
