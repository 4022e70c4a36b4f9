"""Who is answered by what: pages are for people, everything else is the API, in Anthropic's shape."""

from __future__ import annotations

import pytest

from messages_api.prefixes import PREFIXES
from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, ask, message, post, refused


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/nope/v1/messages"),
        ("POST", "/messages"),
        ("GET", "/messages"),
        ("POST", "/"),
        ("PUT", "/"),
        ("POST", "/v1"),
        ("GET", "/v1/nothing"),
        ("POST", "/anthropic/"),
        ("POST", "/v1/messages/v1/messages"),
        ("POST", "/adminx"),
        ("GET", "/%00"),
        ("GET", "/" + "x" * 5000),
    ],
)
def test_a_path_that_is_no_page_is_a_404_in_anthropics_shape(web, alice, upstream, method, path):
    content = b"{}" if method != "GET" else None
    answer = CLIENT.request(method, web.url + path, content=content, headers={"x-api-key": alice.key})
    assert refused(answer, 404, "not_found_error")
    assert upstream.seen == []


# What Chromium and Firefox send for a page that a person opens.
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"


def test_a_browser_at_a_wrong_address_gets_a_page(web):
    for path in ("/nope/", "/messages", "/adminx", "/%00", "/api-keys", "//nope"):
        answer = CLIENT.get(web.url + path, headers={"accept": BROWSER})
        assert answer.status_code == 404, path
        assert answer.headers["content-type"].startswith("text/html"), path
        assert "Nothing is at this address." in answer.text
        assert '<a href="/">To the start page</a>' in answer.text
    answer = CLIENT.head(web.url + "/nope/", headers={"accept": "Text/HTML;q=1"})
    assert (answer.status_code, answer.content) == (404, b"")
    assert answer.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("accept", ["*/*", "application/json", "application/json, text/html", "text/htmlx", ""])
def test_a_program_at_a_wrong_address_gets_json(web, accept):
    assert refused(CLIENT.get(web.url + "/nope/", headers={"accept": accept}), 404, "not_found_error")


def test_below_the_paths_of_programs_a_browser_gets_their_json_too(web):
    assert refused(CLIENT.post(web.url + "/nope/", headers={"accept": BROWSER}), 404, "not_found_error")
    for path in ("/v1", "//v1/nope", "/api", "/api/v2/me", *(f"/{prefix}nope" for prefix in PREFIXES)):
        assert refused(CLIENT.get(web.url + path, headers={"accept": BROWSER}), 404, "not_found_error"), path
    assert refused(CLIENT.get(web.url + "/v1/models", headers={"accept": BROWSER}), 401, "authentication_error")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/complete"),
        ("GET", "/v1/skills"),
        ("POST", "/v1/skills/skill_1/versions"),
        ("POST", "/v1/agents"),
        ("POST", "/v1/sessions"),
        ("GET", "/v1/user_profiles"),
        ("GET", "/v1/organizations/usage_report/messages"),
        ("POST", "/anthropic/v1/complete"),
    ],
)
@pytest.mark.parametrize("query", ["", "?beta=true"])
def test_what_this_gateway_lacks_is_a_404_that_says_what_it_has(web, alice, upstream, method, path, query):
    content = b'{"model": "claude-2", "prompt": "Hi"}' if method == "POST" else None
    answer = CLIENT.request(method, web.url + path + query, content=content, headers={"x-api-key": alice.key})
    said = refused(answer, 404, "not_found_error")
    assert said.startswith(f"{path}: ")
    for offered in ("/v1/messages", "/v1/messages/count_tokens", "/v1/messages/batches", "/v1/files", "/v1/models"):
        assert offered in said
    assert not upstream.seen


@pytest.mark.parametrize("base", ["/", "//", "/v1", "/v1/", "/anthropic/", "/pydanticai/anthropic/v1", "/pydanticai//"])
def test_a_base_url_may_end_in_a_slash_or_in_v1(web, alice, upstream, base):
    upstream.answer = whole(200, message())
    for path in ("/v1/messages", "/v1/messages/count_tokens"):
        answer = CLIENT.post(f"{web.url}{base}{path}", json=ask(), headers={"x-api-key": alice.key})
        assert answer.status_code == 200, answer.text
    assert [seen.target for seen in upstream.seen] == ["/v1/messages", "/v1/messages/count_tokens"]
    assert CLIENT.get(f"{web.url}{base}/v1/models", headers={"x-api-key": alice.key}).status_code == 200


def test_the_root_is_the_home_page(web):
    answer = CLIENT.get(web.url + "/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    answer = CLIENT.head(web.url + "/")
    assert (answer.status_code, answer.content) == (200, b"")


def test_the_health_check_needs_no_key(web):
    answer = CLIENT.get(web.url + "/healthz")
    assert (answer.status_code, answer.content) == (200, b"ok\n")


def test_the_admin_asks_for_a_login(web):
    answer = CLIENT.get(web.url + "/admin/")
    assert answer.status_code == 302
    assert "/admin/login/" in answer.headers["location"]


def test_a_process_without_pages_answers_the_root_as_the_api(start_web, served, upstream, alice):
    web = start_web(roles="api")
    upstream.answer = whole(200, message())
    assert refused(CLIENT.get(web.url + "/"), 404, "not_found_error")
    assert refused(CLIENT.get(web.url + "/admin/", headers={"accept": BROWSER}), 404, "not_found_error")
    answer = post(web, alice.key)
    assert answer.status_code == 200


def test_a_process_without_the_api_has_pages_only(start_web, served, upstream, alice):
    web = start_web(roles="admin")
    answer = post(web, alice.key, ask())
    assert (answer.status_code, answer.content) == (404, b"not found\n")
    answer = CLIENT.get(web.url + "/")
    assert answer.status_code == 200
    assert "Nothing is at this address." in CLIENT.get(web.url + "/nope/", headers={"accept": BROWSER}).text
    assert upstream.seen == []
