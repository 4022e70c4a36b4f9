"""The ends of a secret that a provider shows are compared only where they show enough."""

from __future__ import annotations

import pytest

from reconciliation import key_hints
from tests.support.reported import SECRET


@pytest.mark.parametrize(
    ("hint", "secret", "expected"),
    [
        ("sk-ant-api03-R2D...igAA", SECRET, True),
        ("sk-ant-api03-R2D…igAA", SECRET, True),
        ("sk-abc***wxyz", "sk-abc" + "0" * 40 + "wxyz", True),
        ("sk-ant-api03-R2D...igAB", SECRET, False),
        ("sk-ant-api03-R2E...igAA", SECRET, False),
        # What all keys have in common shows nothing.
        ("sk-ant-api03-...AA", SECRET, False),
        ("...", SECRET, False),
        ("", SECRET, False),
        # The ends may not overlap.
        ("sk-ant-api03-R2D...R2D", "sk-ant-api03-R2D", False),
    ],
)
def test_a_hint_fits_a_secret_with_its_ends(hint: str, secret: str, expected: bool) -> None:
    assert key_hints.fits(hint, secret) is expected
