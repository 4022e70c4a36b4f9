"""What browsers may do with what the gateway says: nothing that isn't in a file of its own."""

from __future__ import annotations

from gateway_project.content_security import policy
from tests.admin.test_page_widths import styled
from tests.support.gateway import CLIENT, talk
from tests.support.signed_in import signed_in

__all__ = ["styled"]


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
