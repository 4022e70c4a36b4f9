"""Patterns of model names, against a regular expression that means the same."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys import patterns

names = st.text(st.sampled_from("ab-"), max_size=8)


@given(st.text(st.sampled_from("ab-*"), max_size=8), names)
def test_a_star_stands_for_any_characters_and_everything_else_for_itself(pattern, name):
    meant = ".*".join(re.escape(part) for part in pattern.split("*"))
    assert patterns.stands_for(pattern, name) == bool(re.fullmatch(meant, name))


@pytest.mark.parametrize("stars", [5, 50, 99])
def test_many_stars_and_a_long_name_end_at_once(stars):
    assert not patterns.stands_for("*-" * stars + "x", "-" * 200)
    assert patterns.stands_for("*-" * stars + "*", "-" * 200)
