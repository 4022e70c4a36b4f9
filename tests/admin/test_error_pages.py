"""Pages of errors have the site's look, and say what happened and what to do next; programs get JSON."""

from __future__ import annotations

import json
import logging
import re
from typing import Any

import pytest
from django.db import OperationalError
from django.http import HttpResponse, HttpResponseNotAllowed
from django.test import Client, RequestFactory
from django.urls import reverse

from administration.error_pages import WrongMethodMiddleware
from administration.members import pages as member_pages
from gateway_project.logs import LineFormatter
from tests.roles.test_access import METHODS, urls
from tests.support.gateway import Web, talk

WRONG_HOST: dict[str, Any] = {"HTTP_HOST": "a b"}
COOKIE = {"HTTP_COOKIE": f"csrftoken={'a' * 32}"}
OVERVIEW, START = '<a href="/admin/">Back to the overview</a>', '<a href="/">To the start page</a>'


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """What the process would have logged."""
    formatter = LineFormatter()
    return "\n".join(formatter.format(record) for record in caplog.records)


def fail(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Have `/my/` fail."""

    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(member_pages, "form", failing)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        (("GET", "/my/nope/", {}), 404, "Nothing is at this address.|begin at the start page"),
        (("GET", "/docs/nope", {}), 404, "There is no such page"),
        (("GET", "/", WRONG_HOST), 400, "a host at which this gateway doesn't answer|ALLOWED_HOSTS"),
        (("POST", "/my/", {"data": {"x": ["y"] * 1001}, **COOKIE}), 400, "a form with too many fields.|Go back"),
        (("POST", "/my/", {}), 403, "Nothing was changed. Your browser has sent no cookie|Allow cookies"),
    ],
)
def test_a_visitor_learns_what_happened_and_gets_to_the_start_page(
    caplog: pytest.LogCaptureFixture, asked: tuple[str, str, dict[str, Any]], status: int, words: str
) -> None:
    method, path, more = asked
    answer = getattr(Client(enforce_csrf_checks=True), method.lower())(path, **more)
    said = answer.content.decode().replace("&#x27;", "'")
    assert answer.status_code == status
    assert all(each in said for each in words.split("|")), said
    assert "administration/site.css" in said, "it is in the site's own look, also in dark colours"
    assert START in said
    assert answer.headers["cache-control"] == "no-store"
    assert "Traceback" not in logged(caplog)


def test_a_person_who_is_signed_in_keeps_the_bar(admin_client: Client, caplog: pytest.LogCaptureFixture) -> None:
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = admin_client.cookies
    strict.cookies["csrftoken"] = "a" * 32
    for answer, status, words in (
        (admin_client.get("/admin/nope/"), 404, "search box above"),
        (admin_client.get(reverse("admin:keys_team_change", args=[999])), 404, "your roles don't include it"),
        (strict.post(reverse("admin:find"), {"find": "x", "csrfmiddlewaretoken": "b" * 32}), 403, "TRUSTED_ORIGINS"),
    ):
        said = answer.content.decode().replace("&#x27;", "'")
        assert answer.status_code == status
        assert words in said
        assert 'id="site-search"' in said
        assert OVERVIEW in said
    assert "Traceback" not in logged(caplog)


def test_an_address_that_only_takes_forms_says_so_to_who_opens_it(
    admin_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    # Without single sign-on, its addresses don't exist.
    routes = [route for name, route in urls() if name in METHODS and not name.startswith("single_sign_on")]
    opened = [(admin_client, "/" + re.sub(r"<[^>]*>", "1", route), OVERVIEW) for route in routes]
    assert len(opened) > 10
    for client, path, way_back in [*opened, (Client(), reverse("my_sign_out"), START)]:
        caplog.clear()
        answer = client.get(path)
        said = answer.content.decode()
        assert (path, answer.status_code) == (path, 405)
        assert answer.headers["allow"] in ("POST", "POST, OPTIONS"), path
        assert "Go back to the page with the button" in said, path
        assert way_back in said, path
        assert answer.headers["cache-control"] == "no-store"
        assert len(caplog.records) == 1, path
    assert client.head(path).headers["content-type"].startswith("text/html")


def test_a_page_that_takes_no_form_says_so_to_who_sends_one(admin_client: Client) -> None:
    answer = admin_client.put(reverse("admin:issue_many"))
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD, POST")
    assert "Nothing was changed. The page can be opened" in answer.content.decode()
    assert OVERVIEW in answer.content.decode()


def test_a_method_that_a_rest_url_lacks_is_json(rf: RequestFactory) -> None:
    layer = WrongMethodMiddleware(lambda request: HttpResponseNotAllowed(["GET", "POST"]))
    answer = layer(rf.put("/api/v1/nothing"))
    assert isinstance(answer, HttpResponse)
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, POST")
    assert json.loads(answer.content)["error"]["code"] == "method_not_allowed"


def test_a_fault_of_the_gateway_has_a_page_without_its_words(
    db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = Client(raise_request_exception=False)
    for error, status, words in (
        (ValueError("sk-secret"), 500, "The fault is in the gateway"),
        (OperationalError("sk-secret"), 503, "can't use it at the moment"),
    ):
        fail(monkeypatch, error)
        answer = client.get("/my/")
        said = answer.content.decode().replace("&#x27;", "'")
        assert answer.status_code == status
        assert words in said
        assert "sk-secret" not in said
        assert START in said
    assert answer.headers["retry-after"] == "5"
    assert logging.getLevelName(caplog.records[0].levelno) == "ERROR"
    assert "Traceback" in logged(caplog)


def test_a_page_for_programs_fails_in_their_shape(
    db: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("administration.viewers.zone_of", lambda request: 1 / 0)
    client = Client(raise_request_exception=False)
    for answer, status, code in (
        (client.get("/api/v1/me"), 500, "internal"),
        (client.get("/api/v1/me", **WRONG_HOST), 400, "invalid"),
        (client.get("/api/v1/me", **WRONG_HOST, HTTP_AUTHORIZATION="Bearer x"), 400, "invalid"),
    ):
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/json"
        assert json.loads(answer.content)["error"]["code"] == code


def test_a_malformed_host_gets_the_error_of_each_api(web: Web) -> None:
    for path, status, kind in (
        ("/api/v1/me", 400, "application/json"),
        ("/api/v1", 400, "application/json"),
        ("/v1/models", 401, "application/json"),
        ("/v1/nope", 404, "application/json"),
        ("/admin/", 400, "text/html"),
    ):
        given, headers, body = talk(web, f"GET {path} HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n".encode())
        assert (path, given) == (path, status)
        assert headers["content-type"].startswith(kind), path
        assert "error" in json.loads(body) if kind == "application/json" else b"To the start page" in body
    assert "Traceback" not in web.log.read_text()
