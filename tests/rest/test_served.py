"""The REST API of a running gateway: its bounds, its page, and the examples of docs/rest.md as they are printed."""

from __future__ import annotations

import os
import re
import subprocess
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from administration.rest import tokens
from keys.models import VirtualKey
from tests.support.gateway import CLIENT, ROOT, post, talk, wait_until

DOCS = (ROOT / "docs" / "rest.md").read_text()


@pytest.fixture
def token(served):
    """A token of an owner."""
    boss = User.objects.create_superuser("boss")
    return tokens.issue(boss, "terraform", ["all:write"], timezone.now() + timedelta(days=1))[1]


def ask(web, token, method, path, body=None, **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return CLIENT.request(
        method, f"{web.url}/api/v1/{path}", json=body, headers={"authorization": f"Bearer {token}"} | named
    )


def test_the_examples_work_as_they_are_printed(web, token, tmp_path):
    script = "set -euo pipefail\n" + "\n".join(re.findall(r"```sh\n(.*?)```", DOCS, re.S))
    path = tmp_path / "examples.sh"
    path.write_text(script)
    environment = os.environ | {"BURSAR": web.url, "TOKEN": token}
    run = subprocess.run(["bash", path], env=environment, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    key = VirtualKey.objects.get(name="ci")
    assert (key.owner, key.state, key.cut_streams_at is not None) == ("alice", "revoked", True)
    assert '"email": "' not in run.stdout
    assert '"action":"changed"' in run.stdout


def test_a_key_that_was_issued_calls_and_its_call_is_listed(web, token, echo_alice):
    body = {"name": "ci", "customer_id": echo_alice.virtual_key.customer_id, "budgets": [{"amount": "5"}]}
    issued = ask(web, token, "POST", "virtual-keys", body)
    assert issued.status_code == 201, issued.text
    key, secret = issued.json()["id"], issued.json()["secret"]
    answer = post(web, secret, {"model": "echo-1", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]})
    assert answer.status_code == 200, answer.text
    path = f"calls/{answer.headers['x-bf-request-id']}"
    call = wait_until(lambda: (found := ask(web, token, "GET", path)).status_code == 200 and found.json())
    assert (call["virtual_key_id"], call["status"]) == (key, "completed")
    revoked = ask(web, token, "POST", f"virtual-keys/{key}/revoke", {"reason": "leaked"})
    assert revoked.json()["state"] == "revoked"
    assert post(web, secret).status_code == 401
    refusals = wait_until(lambda: ask(web, token, "GET", f"refusals?virtual_key_id={key}").json()["data"])
    assert [row["reason"] for row in refusals] == ["revoked"]


def test_a_change_by_patch_and_a_removal_have_bodies(web, token, served):
    alias = ask(web, token, "POST", "aliases", {"name": "fast", "target": "claude-haiku-4-5"})
    changed = ask(
        web,
        token,
        "PATCH",
        f"aliases/{alias.json()['id']}",
        {"target": "claude-haiku-4-6"},
        if_match=alias.headers["etag"],
    )
    assert changed.json()["target"] == "claude-haiku-4-6"
    removed = ask(web, token, "DELETE", f"aliases/{alias.json()['id']}", {})
    assert removed.status_code == 204


def test_what_is_refused_before_django_has_the_same_shape(web, token):
    head = f"POST /api/v1/customers HTTP/1.1\r\nHost: gateway\r\nContent-Length: {300 << 20}\r\n\r\n"
    status, headers, body = talk(web, head.encode())
    assert (status, headers["content-type"]) == (413, "application/json")
    assert b'"code": "too_large"' in body


def test_other_paths_below_api_are_the_messages_apis(web, served):
    answer = CLIENT.get(f"{web.url}/api/v2/customers")
    assert answer.json()["type"] == "error"


@pytest.mark.parametrize("path", ["docs/rest/", "docs/rest/openapi.json", "docs/"])
def test_the_reference_is_there_without_signing_in(web, served, path):
    answer = CLIENT.get(f"{web.url}/{path}")
    assert answer.status_code == 200
    assert "unsafe" not in answer.headers["content-security-policy"]


def test_a_process_without_the_role_serves_no_rest(served, start_web):
    web = start_web(roles="api")
    assert CLIENT.get(f"{web.url}/api/v1/me").json()["type"] == "error"


def test_guesses_of_tokens_are_slowed(web, token):
    wrong = token[:-1] + ("a" if token[-1] != "a" else "b")
    statuses = [ask(web, wrong, "GET", "me").status_code for _ in range(31)]
    assert statuses == [401] * 30 + [429]
    refused = ask(web, wrong, "GET", "me")
    assert refused.json()["error"]["code"] == "too_many_failures"
    assert ask(web, token, "GET", "me").status_code == 200
