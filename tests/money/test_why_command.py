"""`manage.py why`: whether a key may call, from the shell."""

from __future__ import annotations

import io
import sys

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from keys import issuing
from keys.models import Customer, ProviderKey, VirtualKey
from usage.models import Budget

pytestmark = pytest.mark.django_db


@pytest.fixture
def issued():
    """A key that may call, and its secret."""
    key = VirtualKey(name="ci", customer=Customer.objects.create(name="Acme"))
    plain = issuing.issue(key, [(ProviderKey.objects.create(name="echo", provider="echo"), 1)])
    return key, plain


def said(*words):
    """What the command prints, and its exit code."""
    out = io.StringIO()
    try:
        call_command("why", *words, stdout=out)
    except SystemExit as end:
        return out.getvalue(), end.code
    return out.getvalue(), 0


def test_it_says_that_a_key_may_call(issued):
    text, code = said("Acme/ci", "claude-opus-5-5")
    assert code == 0
    assert "The call may be made." in text


def test_it_says_why_a_key_may_not_call_and_what_would_change_it(issued):
    key, _ = issued
    Budget.objects.create(virtual_key=key, amount="0.0001")
    text, code = said("ci", "claude-opus-5-5", "--input-tokens", "9000", "--max-tokens", "100")
    assert code == 1
    assert "NO   Budget of $0.0001 a month for virtual key ci" in text
    assert "raise it" in text.lower()


def test_a_key_is_named_by_the_end_of_its_secret_or_by_its_secret_on_stdin(issued, monkeypatch):
    _, plain = issued
    assert said(plain[-4:], "claude-opus-5-5")[1] == 0
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{plain}\n"))
    text, code = said("-", "claude-opus-5-5")
    assert code == 0
    assert plain not in text


def test_a_whole_secret_on_the_command_line_is_refused_without_repeating_it(issued):
    _, plain = issued
    with pytest.raises(CommandError) as refused:
        said(plain, "claude-opus-5-5")
    assert refused.value.returncode == 2
    assert plain not in str(refused.value)


@pytest.mark.parametrize(
    "words", [("other", "m"), ("ci", "m", "--max-tokens", "x"), ("ci", "m", "--max-tokens", "999999999")]
)
def test_bad_input_is_refused_in_one_line(issued, words):
    with pytest.raises(CommandError) as refused:
        said(*words)
    assert refused.value.returncode == 2
    assert "\n" not in str(refused.value)
