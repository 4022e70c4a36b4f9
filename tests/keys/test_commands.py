from __future__ import annotations

import io
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from django.conf import settings as django_settings
from django.core.management import CommandError, call_command, load_command_class
from django.db import connection

from keys import commands, credentials, keyring
from keys.errors import Unusable
from keys.models import Credential, Customer, ProviderKey, Team, VirtualKey
from tests.support.issued import SECRET, make_key, make_provider_key, opened_by
from tests.support.owner import own_secrets as own_secrets

pytestmark = pytest.mark.django_db


def run(name, *arguments):
    """What a command prints: (stdout, stderr)."""
    out, err = io.StringIO(), io.StringIO()
    call_command(name, *arguments, stdout=out, stderr=err)
    return out.getvalue(), err.getvalue()


def refusal(name, *arguments):
    """The line with which a command refuses, with exit code 2."""
    with pytest.raises(CommandError) as error:
        run(name, *arguments)
    assert error.value.returncode == 2
    assert "\n" not in str(error.value)
    return str(error.value)


def test_it_prints_nothing_but_the_key_on_stdout():
    make_provider_key()
    out, err = run("issue_virtual_key", "alice", "--customer", "Acme", "--team", "Research")
    key = out.removesuffix("\n")
    assert credentials.is_intact(key)
    assert opened_by(key).virtual_key == VirtualKey.objects.get(name="alice", team__name="Research")
    assert "every active provider key" in err
    assert key not in err


def test_it_takes_every_term_of_a_key():
    make_provider_key("main:8080")
    make_provider_key("spare")
    run(
        *("issue_virtual_key", "alice", "--customer", "Acme", "--owner", "Alice"),
        *("--provider-key", "main:8080", "spare:3"),
        *("--models", "claude-*", "echo", "--deny-models", "claude-opus-*"),
        *("--label", "project=atlas", "--expires", "2100-01-31T12:00"),
    )
    alice = VirtualKey.objects.get()
    assert sorted(alice.routes.values_list("provider_key__name", "weight")) == [("main:8080", 1), ("spare", 3)]
    assert (alice.allowed_models, alice.denied_models) == (["claude-*", "echo"], ["claude-opus-*"])
    assert (alice.labels, alice.owner) == ({"project": "atlas"}, "Alice")
    assert alice.expires_at == datetime(2100, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["alice", "--team", "Research"], "already"),
        (["bob", "--provider-key", "nobody"], "no provider key “nobody”"),
        (["bob", "--provider-key", "echo:much"], "whole number"),
        (["bob", "--provider-key", "echo:0"], "whole number from 1"),
        (["bob", "--models", "no spaces"], "pattern"),
        (["bob", "--expires", "tomorrow"], "ISO 8601"),
        (["bob", "--expires", "2020-01-01"], "past"),
        (["bob", "--label", "project"], "NAME=VALUE"),
        (["bob", "--customer", "New\nline"], "print"),
        (["a\nb"], "print"),
    ],
)
def test_it_refuses_bad_input_and_changes_nothing(arguments, complaint):
    make_key()
    assert complaint in refusal("issue_virtual_key", "--customer", "Acme", "--team", "New", *arguments)
    assert VirtualKey.objects.count() == Credential.objects.count() == Customer.objects.count() == 1
    assert not Team.objects.filter(name="New").exists()


def test_it_needs_a_provider_key():
    assert "add_provider_key" in refusal("issue_virtual_key", "alice", "--customer", "Acme")


def test_without_a_customer_the_only_one_pays():
    make_key()
    assert "“bob” belongs to the customer “Acme”" in run("issue_virtual_key", "bob")[1]
    assert VirtualKey.objects.get(name="bob").customer.name == "Acme"


def test_without_a_customer_it_must_be_clear_who_pays():
    make_provider_key()
    assert "--customer" in refusal("issue_virtual_key", "bob")
    for name in ("Acme", "Other"):
        Team.objects.create(customer=Customer.objects.create(name=name), name="Research")
    assert "--customer" in refusal("issue_virtual_key", "bob")
    assert "several customers" in refusal("issue_virtual_key", "bob", "--team", "Research")
    assert "--customer" in refusal("issue_virtual_key", "bob", "--team", "New")


def test_a_team_of_one_customer_says_who_pays():
    make_key()
    Customer.objects.create(name="Other")
    run("issue_virtual_key", "bob", "--team", "Research")
    assert VirtualKey.objects.get(name="bob").customer.name == "Acme"


def test_a_provider_key_is_added_with_its_secret_from_the_environment(monkeypatch):
    monkeypatch.setenv("PROVIDER_SECRET", SECRET)
    out, err = run(
        *("add_provider_key", "main", "--provider", "anthropic", "--base-url", "http://127.0.0.1:9/"),
        *("--models", "claude-*", "--secret-env", "PROVIDER_SECRET"),
    )
    main = ProviderKey.objects.get()
    assert (main.base_url, main.model_patterns) == ("http://127.0.0.1:9", ["claude-*"])
    assert keyring.decrypt(main.secret_ciphertext) == SECRET
    assert out == ""
    assert SECRET not in err


def test_a_provider_key_is_added_with_its_secret_from_stdin(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(SECRET + "\n"))
    run("add_provider_key", "main", "--provider", "anthropic", "--secret-stdin", "--no-check")
    assert keyring.decrypt(ProviderKey.objects.get().secret_ciphertext) == SECRET


def test_a_provider_key_of_a_cloud_is_added_with_its_place(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(SECRET))
    run("add_provider_key", "main", "--provider", "bedrock", "--region", "eu-central-1", "--secret-stdin", "--no-check")
    assert ProviderKey.objects.get().region == "eu-central-1"


def test_a_provider_key_may_be_given_patience_of_its_own(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(SECRET))
    patience = ("--connect-seconds", "2.5", "--total-seconds", "7200", "--retry-unanswered")
    run("add_provider_key", "main", "--provider", "anthropic", "--secret-stdin", "--no-check", *patience)
    key = ProviderKey.objects.get()
    assert (key.connect_seconds, key.first_byte_seconds, key.total_seconds) == (2.5, None, 7200)
    assert key.retry_unanswered
    for seconds in ("0", "0.05", "86401", "-1", "1e3", "soon"):
        assert "seconds" in refusal("add_provider_key", "other", "--provider", "echo", f"--total-seconds={seconds}")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--provider", "anthropic"], "secret is missing"),
        (["--provider", "echo", "--project", "p1"], "echo takes no project"),
        (["--provider", "anthropic", "--secret-env", "NOT_SET_ANYWHERE"], "NOT_SET_ANYWHERE is empty or not set"),
        (["--provider", "echo", "--models", "a b"], "pattern"),
        (["--provider", "nobody"], "invalid choice"),
        (["--provider", "openai", "--base-url", "nowhere"], "base URL"),
        ([], "required"),
    ],
)
def test_a_provider_key_that_cannot_be_called_is_refused(arguments, complaint):
    assert complaint in refusal("add_provider_key", "main", *arguments)
    assert not ProviderKey.objects.exists()


def test_a_rotation_prints_the_new_key_and_says_how_long_the_old_one_works():
    _, old = make_key()
    out, err = run("rotate_virtual_key", "alice", "--overlap", "15m")
    assert opened_by(out.strip()).expires_at is None
    assert opened_by(old).expires_at
    assert "15m" in err


def test_a_key_is_revoked_by_name():
    alice, _ = make_key()
    run("revoke_virtual_key", "alice", "--reason", "lost")
    assert "was already revoked on" in run("revoke_virtual_key", "alice")[1]
    said = refusal("revoke_virtual_key", "alice", "--reason", "leaked")
    assert "was already revoked on" in said
    assert "with the reason “lost”, which stays" in said
    assert "Its open streams end now." in run("revoke_virtual_key", "alice", "--cut-streams")[1]
    alice.refresh_from_db()
    assert alice.state == "revoked"
    assert alice.cut_streams_at
    assert alice.revoke_reason == "lost"
    assert "revoked" in refusal("rotate_virtual_key", "alice")


def test_a_gateway_token_is_printed_alone():
    make_key()
    out, _ = run("issue_gateway_token", "bob", "--virtual-key", "alice")
    assert opened_by(out.removesuffix("\n")).name == "bob"
    assert "already" in refusal("issue_gateway_token", "bob", "--virtual-key", "alice")


@pytest.mark.parametrize(
    "command",
    [
        ("rotate_virtual_key", "nobody"),
        ("revoke_virtual_key", "nobody"),
        ("issue_gateway_token", "t", "--virtual-key", "nobody"),
    ],
)
def test_a_key_that_does_not_exist_is_named(command):
    assert "there is no virtual key “nobody”" in refusal(*command)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("0", timedelta(0)),
        ("90s", timedelta(seconds=90)),
        ("15m", timedelta(minutes=15)),
        ("24h", timedelta(days=1)),
        ("7d", timedelta(days=7)),
    ],
)
def test_it_reads_durations(text, length):
    assert commands.duration(text) == length


@pytest.mark.parametrize("text", ["", "24", "-1h", "1w", "1.5h", "h", "1h1m", "٣h"])
def test_it_refuses_a_text_that_is_not_a_duration(text):
    with pytest.raises(Unusable, match="duration"):
        commands.duration(text)


def test_a_pepper_from_the_environment_is_left_to_people(settings):
    settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update={"peppers": ["given"]})
    make_key()
    _, err = run("rotate_pepper")
    assert "PEPPERS comes from the environment" in err
    assert "Working credentials that use older peppers: 0." in err


def test_a_pepper_is_added_and_the_credentials_on_older_ones_counted():
    make_key()
    _, err = run("rotate_pepper")
    assert "Working credentials that use older peppers: 1." in err
    assert len(keyring.peppers()) == 2


def test_master_keys_from_the_environment_take_over_every_secret(settings):
    make_provider_key("main", provider="anthropic", secret=SECRET)
    old = (settings.VAR_DIR / "secrets" / "master_keys").read_text().strip()
    new = "A" * 43 + "="
    settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update={"master_keys": [new, old]})
    assert "MASTER_KEYS comes from the environment" in run("rotate_master_key")[1]
    settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update={"master_keys": [new]})
    assert keyring.decrypt(ProviderKey.objects.get().secret_ciphertext) == SECRET


def test_a_master_key_is_added():
    make_provider_key("main", provider="anthropic", secret=SECRET)
    out, err = run("rotate_master_key")
    assert "Secrets encrypted under it: 1." in err
    assert SECRET not in out + err
    assert keyring.decrypt(ProviderKey.objects.get().secret_ciphertext) == SECRET


@pytest.mark.parametrize(
    ("app", "name"),
    [
        ("keys", "add_provider_key"),
        ("usage", "issue_virtual_key"),
        ("keys", "rotate_virtual_key"),
        ("keys", "revoke_virtual_key"),
        ("keys", "issue_gateway_token"),
        ("keys", "rotate_master_key"),
        ("keys", "rotate_pepper"),
    ],
)
def test_every_command_has_help(app, name):
    assert len(load_command_class(app, name).help) > 40


def database_url():
    database = connection.settings_dict
    user = quote(f"{database['USER']}:{database['PASSWORD']}" if database["PASSWORD"] else database["USER"], safe=":")
    host = quote(str(database["HOST"]), safe="")
    return f"postgresql://{user}@/{database['NAME']}?host={host}&port={database['PORT'] or 5432}"


def run_in_shell(*arguments):
    environment = os.environ | {"DATABASE_URL": database_url(), "VAR_DIR": str(django_settings.VAR_DIR)}
    command = [sys.executable, "-W", "error", str(django_settings.BASE_DIR / "manage.py"), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.django_db(transaction=True)
def test_in_a_shell_it_exits_with_0_and_the_key_or_with_2_and_one_line():
    make_provider_key()
    done = run_in_shell("issue_virtual_key", "alice", "--customer", "Acme", "--provider-key", "echo")
    assert (done.returncode, done.stderr) == (0, "")
    assert opened_by(done.stdout.removesuffix("\n"))
    for arguments in (["alice", "--customer", "Acme"], ["--no-such-flag"]):
        refused = run_in_shell("issue_virtual_key", *arguments)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert len(refused.stderr.splitlines()) == 1
