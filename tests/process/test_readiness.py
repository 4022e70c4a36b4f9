"""/health/live, /health/ready and manage.py ready: who can do its work, and who is about to stop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from http.client import HTTPConnection

import pytest
import uvicorn
from django.conf import settings
from django.core.management import call_command
from django.db import connection

from gateway_project import database
from gateway_project.web import WebServer
from tests.support.database_proxy import Proxy
from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, ask, issue, message, post, row, started, wait_until
from usage import readiness
from usage.workers import Signs, Worker, WorkerKind


@pytest.fixture
def no_workers(served):
    """Celery's processes have given no sign of life."""
    Worker.objects.all().delete()


def ready(web, role=""):
    return CLIENT.get(web.url + "/health/ready" + (f"?role={role}" if role else ""))


def checks(answer):
    """The checks of an answer by name."""
    return {check["name"]: check for check in answer.json()["checks"]}


def head_of(link, path):
    """The status of an answer on a connection that is kept, and its `connection` header."""
    link.request("GET", path)
    answer = link.getresponse()
    answer.read()
    return answer.status, answer.getheader("connection")


def test_a_process_says_that_it_lives_and_that_it_is_ready(web):
    assert CLIENT.get(web.url + "/healthz").text == "ok\n"
    assert CLIENT.get(web.url + "/health/live").json() == {"status": "live"}
    answer = ready(web)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()["status"] == "ready"
    assert answer.json()["role"] == "api"
    found = checks(answer)
    counting = {"database", "migrations", "arbiter", "activated"}
    assert {name for name, check in found.items() if check["counts"]} == counting
    assert all(found[name]["ok"] and found[name]["milliseconds"] > 0 for name in counting)


def test_an_unknown_role_is_a_bad_request(web):
    answer = ready(web, "cook")
    assert answer.status_code == 400
    assert answer.json()["roles"] == list(readiness.ROLES)


def test_a_worker_is_ready_while_one_of_this_host_gives_signs_of_life(web, no_workers):
    assert not checks(ready(web, "worker"))["worker"]["ok"]
    Signs(WorkerKind.WORKER).give()
    time.sleep(readiness.KEPT_SECONDS)
    assert checks(ready(web, "worker"))["worker"]["ok"]
    assert not checks(ready(web, "beat"))["beat"]["ok"]


def test_without_its_broker_a_worker_is_not_ready_but_calls_and_pages_are(served):
    with started(celery_broker_url="redis://127.0.0.1:1/0") as web:
        for role, counts in (("api", False), ("worker", True)):
            broker = checks(ready(web, role))["broker"]
            assert (broker["ok"], broker["counts"]) == (False, counts)
            assert "127.0.0.1" not in broker["says"]
        assert ready(web).status_code == 200
        assert ready(web, "worker").status_code == 503


@pytest.mark.parametrize(("policy", "status"), [("refuse", 503), ("pass", 200)])
def test_while_the_database_is_silent_calls_are_served_only_where_they_pass_without_it(apart, policy, status):
    with Proxy() as proxy:
        url = database.url_of({**settings.DATABASES["default"], "HOST": "127.0.0.1", "PORT": proxy.port})
        with started(arbiter_away=policy, database_url=f"{url}&sslmode=disable") as web:
            proxy.hole.set()
            answer = ready(web)
            assert answer.status_code == status
            assert checks(answer).keys() == {"database", "broker"}
            assert "no answer" in checks(answer)["database"]["says"]
            assert ready(web, "admin").status_code == 503
            assert CLIENT.get(web.url + "/health/live").status_code == 200
            proxy.hole.clear()
            proxy.cut_all()


def test_a_process_whose_migrations_are_not_applied_is_not_ready(web):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'keys' AND name = '0001_initial' RETURNING applied")
        (applied,) = cursor.fetchone()
        try:
            time.sleep(readiness.KEPT_SECONDS)
            answer = ready(web)
        finally:
            cursor.execute(
                "INSERT INTO django_migrations (app, name, applied) VALUES ('keys', '0001_initial', %s)", [applied]
            )
    assert answer.status_code == 503
    assert "keys.0001_initial" in checks(answer)["migrations"]["says"]
    wait_until(lambda: ready(web).status_code == 200)


def test_the_command_says_the_same_for_processes_that_do_not_listen(served, no_workers, capsys):
    (settings.BROKER_DIR / "queue").mkdir(parents=True, exist_ok=True)
    with pytest.raises(SystemExit) as ended:
        call_command("ready", "worker")
    assert ended.value.code == 1
    assert "no worker of this host has given a sign of life" in capsys.readouterr().out
    Signs(WorkerKind.WORKER).give()
    call_command("ready", "worker")
    assert capsys.readouterr().out.count(" ok") == 6


def test_after_sigterm_a_process_gives_notice_goes_on_and_then_stops(served, upstream):
    alice = issue(upstream)
    with started(drain_notice=2) as web, contextlib.closing(HTTPConnection(*web.address)) as kept:
        [process] = web.processes
        assert head_of(kept, "/healthz") == (200, None)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: ready(web).status_code == 503)
        assert ready(web).json()["status"] == "draining"
        assert CLIENT.get(web.url + "/health/live").status_code == 200
        # The connection that was kept alive is answered once more, and then closed.
        assert head_of(kept, "/healthz") == (200, "close")
        upstream.answer = whole(200, message())
        answer = post(web, alice.key, ask())
        assert (answer.status_code, answer.headers["connection"]) == (200, "close")
        assert process.wait(60) == 0
    assert row().status == "completed"


def test_sigint_and_a_second_sigterm_skip_the_notice(served):
    with started(drain_notice=600) as web:
        [process] = web.processes
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    with started(drain_notice=600) as web:
        [process] = web.processes
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: ready(web).status_code == 503)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


async def test_a_connection_that_waits_to_be_accepted_when_a_process_stops_is_answered():
    async def application(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})

    config = uvicorn.Config(application, lifespan="off", log_config=None)
    config.load()
    server = WebServer(config, ready=None, notice=1)
    server.lifespan, server.servers = config.lifespan_class(config), []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        links = [socket.create_connection(listener.getsockname()) for _ in range(3)]
        stopping = asyncio.ensure_future(server.stop_accepting([listener]))
        for link in links:
            link.sendall(b"GET / HTTP/1.1\r\nhost: gateway\r\n\r\n")
        await stopping
    for link in links:
        with link:
            link.settimeout(30)
            assert link.recv(100).startswith(b"HTTP/1.1 200 ")
