"""Whose identity signs a call to Bedrock: a role that is taken, the machine's, or an access key."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from django.conf import settings as configured

from messages_api.providers.access_tokens import TokenRefused
from messages_api.providers.bedrock import CredentialKey, fetched
from messages_api.upstream.client import UpstreamError
from tests.support.authority import Authority
from tests.support.bedrock_calls import ACCESS_KEY, ANSWERED, MODEL, PAIR, SECRET_KEY, SESSION
from tests.support.bedrock_provider import is_signed
from tests.support.clouds import issue_for, says_nothing_of
from tests.support.fake_provider import Seen, Step, Upstream, pieces, whole
from tests.support.gateway import Web, ask, message, post, refused

ROLE = "arn:aws:iam::123456789012:role/gateway"
ROLE_KEY = "ASIAROLE0123456789AB"
ROLE_SECRET = "role/secret+key/0123456789abcdef"
ROLE_SESSION = "role-session-token-0123456789"
CONTAINER_KEY = "ASIACONTAINER01234567"
CONTAINER_SECRET = "container/secret+key/0123456789"
MACHINE = {"identity": "machine"}


def ends_in(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


def taken(action: str = "AssumeRole", seconds: float = 3600) -> list[bytes]:
    """What STS says to who takes a role."""
    given = {"AccessKeyId": ROLE_KEY, "SecretAccessKey": ROLE_SECRET, "SessionToken": ROLE_SESSION}
    inside = "".join(f"<{name}>{value}</{name}>" for name, value in (given | {"Expiration": ends_in(seconds)}).items())
    return whole(
        200,
        f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result>'
        f"<Credentials>{inside}</Credentials></{action}Result></{action}Response>".encode(),
        ("content-type", "text/xml"),
    )


def not_taken(status: int, code: str) -> list[bytes]:
    """What STS says to who doesn't get a role."""
    return whole(
        status,
        f'<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type><Code>{code}</Code>'
        "<Message>no</Message></Error></ErrorResponse>".encode(),
        ("content-type", "text/xml"),
    )


def of_a_container() -> list[bytes]:
    """What a container's agent says."""
    given = {"AccessKeyId": CONTAINER_KEY, "SecretAccessKey": CONTAINER_SECRET, "Token": SESSION}
    return whole(200, json.dumps(given | {"Expiration": ends_in(3600)}).encode())


@pytest.fixture
def amazon() -> Iterator[Upstream]:
    """Where AWS gives credentials: STS, or a container's agent."""
    with Upstream() as amazon:
        yield amazon


# Nothing of the machine that the tests run on.
NOTHING = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent",
}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, amazon: Upstream) -> pytest.MonkeyPatch:
    """A machine without an identity, and its environment."""
    for name, value in NOTHING.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", amazon.url)
    return monkeypatch


@pytest.fixture
def web_in_a_container(served: None, start_web: Callable[..., Web], amazon: Upstream) -> Web:
    """One whose AWS is the fake."""
    return start_web(
        aws_endpoint_url_sts=amazon.url,
        aws_container_credentials_full_uri=f"{amazon.url}/agent",
        **{name.lower(): value for name, value in NOTHING.items()},
    )


def asked_of(seen: Seen) -> dict[str, str]:
    """The form that STS got."""
    return {name: values[0] for name, values in parse_qs(seen.body.decode()).items()}


def ask_for(**members: str) -> CredentialKey:
    return CredentialKey(json.dumps(members), "eu-central-1")


def test_a_role_is_taken_once_for_all_calls_that_wait(
    web_in_a_container: Web, amazon: Upstream, upstream: Upstream
) -> None:
    role = {"role_arn": ROLE, "external_id": "outside-1", "session_name": "gate"}
    alice = issue_for("bedrock", json.dumps(json.loads(PAIR) | role), upstream.url, region="eu-central-1")
    amazon.answer = taken()
    upstream.answer = whole(200, message(model=ANSWERED))
    given: list[int] = []
    body = ask(model=MODEL)
    calls = [
        threading.Thread(target=lambda: given.append(post(web_in_a_container, alice.key, body).status_code))
        for _ in range(8)
    ]
    for call in calls:
        call.start()
    for call in calls:
        call.join()
    assert given == [200] * 8
    (asked,) = amazon.seen
    form = asked_of(asked)
    assert (form["Action"], form["RoleArn"]) == ("AssumeRole", ROLE)
    assert (form["ExternalId"], form["RoleSessionName"]) == ("outside-1", "gate")
    assert f"Credential={ACCESS_KEY}/" in asked.values("authorization")[0]
    assert asked.values("x-amz-security-token") == [SESSION]
    for seen in upstream.seen:
        assert is_signed(seen, "eu-central-1", ROLE_KEY, ROLE_SECRET)
        assert seen.values("x-amz-security-token") == [ROLE_SESSION]
    says_nothing_of(web_in_a_container, SECRET_KEY, SESSION, ROLE_SECRET, ROLE_SESSION)


def test_the_machines_identity_signs_and_what_ends_soon_is_renewed_beside_the_calls(
    web_in_a_container: Web, amazon: Upstream, upstream: Upstream
) -> None:
    secret = json.dumps(MACHINE | {"role_arn": ROLE})
    alice = issue_for("bedrock", secret, upstream.url, region="eu-central-1")
    asked: list[str] = []

    def answer(seen: Seen) -> Sequence[Step]:
        asked.append("agent" if seen.target == "/agent" else asked_of(seen)["RoleSessionName"])
        # The first lasts for less than five minutes.
        return of_a_container() if seen.target == "/agent" else taken(seconds=200 if len(asked) == 2 else 3600)

    amazon.answer = answer
    upstream.answer = whole(200, message(model=ANSWERED))
    for _ in range(2):
        assert post(web_in_a_container, alice.key, ask(model=MODEL)).status_code == 200
        assert is_signed(upstream.last, "eu-central-1", ROLE_KEY, ROLE_SECRET)
    amazon.wait_for(4)
    assert post(web_in_a_container, alice.key, ask(model=MODEL)).status_code == 200
    assert asked == ["agent", "claude-gateway"] * 2
    says_nothing_of(web_in_a_container, CONTAINER_SECRET, ROLE_SECRET, ROLE_SESSION)


def test_a_role_that_is_refused_is_our_trouble_and_a_lost_sts_an_outage(
    web_in_a_container: Web, amazon: Upstream, upstream: Upstream
) -> None:
    secret = json.dumps(json.loads(PAIR) | {"role_arn": ROLE + "-2"})
    alice = issue_for("bedrock", secret, upstream.url, region="eu-central-1")
    amazon.answer = not_taken(500, "InternalFailure")
    refused(post(web_in_a_container, alice.key, ask(model=MODEL)), 502, "api_error")
    amazon.answer = not_taken(403, "AccessDenied")
    assert "administrator" in refused(post(web_in_a_container, alice.key, ask(model=MODEL)), 503, "api_error")
    assert not upstream.seen
    says_nothing_of(web_in_a_container, SECRET_KEY, SESSION)


def test_an_access_key_needs_no_request_for_credentials(
    web_in_a_container: Web, amazon: Upstream, upstream: Upstream
) -> None:
    alice = issue_for("bedrock", PAIR, upstream.url, region="eu-central-1")
    upstream.answer = whole(200, message(model=ANSWERED))
    assert post(web_in_a_container, alice.key, ask(model=MODEL)).status_code == 200
    assert is_signed(upstream.last, "eu-central-1", ACCESS_KEY, SECRET_KEY)
    assert not amazon.seen


def test_the_machine_may_have_a_web_identity(machine: pytest.MonkeyPatch, amazon: Upstream, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a-web-identity")
    machine.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    machine.setenv("AWS_ROLE_ARN", ROLE)
    amazon.answer = taken("AssumeRoleWithWebIdentity")
    token = fetched(ask_for(identity="machine"))
    assert asked_of(amazon.last)["WebIdentityToken"] == "a-web-identity"
    assert token.value.access_key == ROLE_KEY
    assert 3500 < token.expires - time.time() < 3700
    assert ROLE_SECRET not in repr(token)


def test_the_machine_may_have_an_access_key_that_is_looked_up_again(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    machine.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    token = fetched(ask_for(identity="machine"))
    assert token.value.secret_key == SECRET_KEY
    assert 3500 < token.expires - time.time() < 3700


def test_a_machine_without_an_identity_is_an_outage(machine: pytest.MonkeyPatch) -> None:
    with pytest.raises(UpstreamError, match="no_token"):
        fetched(ask_for(identity="machine"))


def test_half_an_access_key_in_the_environment_is_refused(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    with pytest.raises(TokenRefused):
        fetched(ask_for(identity="machine"))


@pytest.mark.parametrize(
    "answer", [not_taken(400, "Throttling"), not_taken(429, "Busy"), whole(200, b"<no"), pieces(200, [b"<"])]
)
def test_an_sts_that_is_busy_or_talks_nonsense_is_an_outage(
    machine: pytest.MonkeyPatch, amazon: Upstream, answer: Sequence[Step]
) -> None:
    amazon.answer = answer
    with pytest.raises(UpstreamError, match="no_token"):
        fetched(ask_for(access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY, role_arn=ROLE))


def test_an_sts_out_of_reach_is_an_outage(machine: pytest.MonkeyPatch) -> None:
    machine.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:1")
    with pytest.raises(UpstreamError, match="no_token"):
        fetched(ask_for(access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY, role_arn=ROLE))


def test_sts_is_reached_by_the_deployments_proxy_and_its_own_authorities(
    machine: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    asked = ask_for(access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY, role_arn=ROLE)
    with Upstream(authority.server("127.0.0.1")) as sts:
        sts.answer = taken()
        machine.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        with pytest.raises(UpstreamError, match="no_token"):
            fetched(asked)
        machine.setattr(configured.CONFIGURATION, "ca_bundle", authority.bundle)
        assert fetched(asked).value.access_key == ROLE_KEY
        # No server answers.
        machine.setattr(configured.CONFIGURATION, "outbound_proxy", "http://127.0.0.1:1")
        with pytest.raises(UpstreamError, match="no_token"):
            fetched(asked)
