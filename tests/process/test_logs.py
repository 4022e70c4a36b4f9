"""The log is for people: a line for what a client does, a bounded traceback for a fault of ours, once a minute."""

from __future__ import annotations

import json
import logging

import pytest

from gateway_project import logs
from usage import request_ids


def record(message="it failed", *, name="django.request", error=None, level=logging.ERROR, **more):
    made = logging.LogRecord(
        name, level, __file__, 1, message, None, error and (type(error), error, error.__traceback__)
    )
    vars(made).update(more)
    return made


def raised(depth=0, text="why"):
    def deep(left):
        if left:
            deep(left - 1)
        raise ValueError(text)

    try:
        deep(depth)
    except ValueError as error:
        return error
    raise AssertionError


def elsewhere():
    try:
        raise TypeError("another")
    except TypeError as error:
        return error


def test_a_record_is_one_bounded_line():
    for text in ("Not Found: /" + "x" * 100_000, "a\nb\r\nERROR gateway: forged\x1b[31m", "\ud800", "ü" * 5000):
        shown = logs.LineFormatter().format(record(text))
        assert len(shown.splitlines()) == 1
        assert len(shown) < logs.LINE + 100
        assert shown.isprintable()


def test_a_json_line_is_one_bounded_line_of_ascii():
    for text in ("x" * 100_000, 'a\nb\r\n{"level":"ERROR"}\x1b[31m', "\ud800", "\x85\u2028ü\x7f" * 5000):
        shown = logs.JsonFormatter().format(record(text, fields={"model": text[:200]}))
        assert len(shown.splitlines()) == 1
        assert shown.isascii()
        assert shown.isprintable()
        assert json.loads(shown)["message"][: logs.LINE] == text[: logs.LINE]
        assert json.loads(shown)["model"] == text[:200]


def test_a_json_line_has_the_fault_and_once_its_traceback():
    line = logs.JsonFormatter()
    first, again = (json.loads(line.format(record(error=raised(50)))) for _ in range(2))
    assert first["error"] == again["error"] == "ValueError: why"
    assert first["traceback"].endswith("ValueError: why")
    assert len(first["traceback"]) <= logs.TRACEBACK
    assert "traceback" not in again
    assert "error" not in json.loads(line.format(record(error=raised(), status_code=400)))


@pytest.mark.parametrize("kind", [logs.LineFormatter, logs.JsonFormatter])
def test_a_text_like_a_key_is_masked_everywhere(kind):
    secret = "9nRT2" * 9
    for key in (f"sk-bf-{secret}", f"gt-bf-{secret}", f"sk-ant-api03-{secret}", f"sk-{secret}", f"AKIA{secret}"):
        shown = kind().format(record(f"Not Found: /{key}/x", error=raised(text=key), fields={"model": key}))
        assert secret not in shown
        assert key[:3] in shown


@pytest.mark.parametrize("kind", [logs.LineFormatter, logs.JsonFormatter])
def test_a_line_names_the_request_that_it_belongs_to(kind):
    request = request_ids.new_id()
    assert "req_bf_" not in kind().format(record())
    token = request_ids.CURRENT.set(request)
    try:
        assert kind().format(record()).count(request.hex) == 1
        assert request_ids.request_id(request) in kind().format(record())
    finally:
        request_ids.CURRENT.reset(token)


def test_a_clients_mistake_has_no_traceback():
    for about in ({"name": "django.security.DisallowedHost"}, {"status_code": 400}, {"status_code": 413}):
        shown = logs.LineFormatter().format(record(error=raised(), **about))
        assert len(shown.splitlines()) == 1


def test_a_fault_of_ours_has_a_bounded_traceback_once_for_each_place(monkeypatch):
    line = logs.LineFormatter()
    first = line.format(record(error=raised(50), status_code=500))
    assert len(first.splitlines()) > 10
    assert first.endswith("ValueError: why")
    assert len(first) < logs.TRACEBACK + logs.LINE
    again = line.format(record(error=raised(50), status_code=500))
    assert len(again.splitlines()) == 1
    assert "ValueError: why" in again
    assert len(line.format(record(error=elsewhere(), status_code=500)).splitlines()) > 1
    monkeypatch.setattr(logs, "SECONDS", 0)
    assert len(line.format(record(error=raised(50))).splitlines()) > 1


def test_few_kinds_are_remembered(monkeypatch):
    monkeypatch.setattr(logs, "KINDS", 3)
    line = logs.LineFormatter()
    for number in range(20):
        line.format(record(name=f"logger-{number}", error=raised()))
    assert len(line.shown) <= 3
