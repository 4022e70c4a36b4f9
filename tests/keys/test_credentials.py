from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys import credentials
from keys.credentials import ALPHABET, LENGTH
from keys.models import CredentialKind

PLACES = st.integers(0, LENGTH - 1)
KEY = credentials.make(CredentialKind.VIRTUAL_KEY)


@st.composite
def keys(draw):
    return credentials.make(draw(st.sampled_from([CredentialKind.VIRTUAL_KEY, CredentialKind.GATEWAY_TOKEN])))


@given(keys())
def test_a_new_credential_is_intact(key):
    assert credentials.is_intact(key)
    assert credentials.is_ours(key)


@given(keys(), PLACES, st.characters())
def test_it_detects_one_changed_character(key, place, character):
    typo = key[:place] + character + key[place + 1 :]
    assert credentials.is_intact(typo) == (typo == key)


@given(keys(), PLACES)
def test_it_detects_a_dropped_character(key, place):
    assert not credentials.is_intact(key[:place] + key[place + 1 :])


@given(keys(), st.integers(0, LENGTH), st.sampled_from(ALPHABET))
def test_it_detects_an_added_character(key, place, character):
    assert not credentials.is_intact(key[:place] + character + key[place:])


@given(keys(), st.integers(0, LENGTH - 2))
def test_it_detects_swapped_neighbours(key, place):
    swapped = key[:place] + key[place + 1] + key[place] + key[place + 2 :]
    assert credentials.is_intact(swapped) == (swapped == key)


@pytest.mark.parametrize(
    "mangled",
    [
        pytest.param("", id="empty"),
        pytest.param(KEY.upper(), id="upper case"),
        pytest.param(KEY.lower(), id="lower case"),
        pytest.param(" " + KEY, id="leading space"),
        pytest.param(KEY + "\n", id="trailing line break"),
        pytest.param(KEY + KEY, id="twice"),
        pytest.param(KEY[::-1], id="backwards"),
        pytest.param("gt-bf-" + KEY[6:], id="the other prefix"),
        pytest.param("sk-ant-" + KEY[7:], id="a provider's prefix"),
        pytest.param(KEY[:6] + "é" * 43 + KEY[-6:], id="not ascii"),
        pytest.param(KEY[:6] + KEY[-6:], id="nothing random"),
        pytest.param(KEY[:-1] + "\0", id="null byte"),
    ],
)
def test_a_mangled_key_is_not_intact(mangled):
    assert not credentials.is_intact(mangled)


def test_a_double_click_selects_all_that_follows_the_prefix():
    assert KEY[6:].isalnum()


def test_its_ends_give_away_too_little_to_guess_the_rest():
    first, last = credentials.ends(KEY)
    assert KEY.startswith(first)
    assert KEY.endswith(last)
    assert LENGTH - len(first) - len(last) >= 42
