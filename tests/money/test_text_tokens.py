"""A text is never held as fewer tokens than tokenisers make of it, whatever its letters are."""

from __future__ import annotations

import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from messages_api.request import text_tokens
from messages_api.request.text_tokens import tokens_of_text

TIMES = 2000
RANDOM = random.Random(1)


def letters(among: str) -> str:
    return "".join(RANDOM.choices(among, k=TIMES))


# Tokens for each character, as Anthropic's tokeniser for Claude 2 counts them (`tokenizer.json` of its SDK 0.34).
DENSE = {
    "single letters": (" ".join(letters(string.ascii_lowercase)), 0.5),
    "letters that stand together in no language": ("qgqkqo" * TIMES, 1.0),
    "rare letters": ("vqxzkj " * TIMES, 0.66),
    "an Arabic ligature of eighteen letters": ("\ufdfa" * TIMES, 15.0),
    "another one": ("\ufdfb" * TIMES, 7.0),
    "a square of six katakana": ("\u334a" * TIMES, 7.0),
    "four integrals in one": ("\u2a0c" * TIMES, 8.0),
    "Tibetan vowels": ("\u0f79" * TIMES, 9.0),
    "notes": ("\U0001d160" * TIMES, 9.0),
}


@pytest.mark.parametrize(("text", "tokens"), DENSE.values(), ids=DENSE)
def test_text_that_is_no_language_is_held_as_what_tokenisers_make_of_it(text: str, tokens: float) -> None:
    assert tokens_of_text(text.encode()) >= tokens * len(text) * 0.95


def test_language_weighs_what_its_kinds_of_bytes_weigh() -> None:
    said = "Somebody asks how much a call costs, and finds the answer in the table of prices (2026). " * 40
    code = "    def price(self, model: str) -> Decimal:\n        return self.known[model]\n" * 40
    for text in (said, code, "これはとても長い日本語の文章です。" * 40):
        assert tokens_of_text(text.encode()) <= -(-weight(text.encode()) // 1000) * 1.02


@given(st.text() | st.sampled_from(["9", "a", "Z ", "é{", "q", " "]), st.integers(0, 4000))
def test_each_byte_of_a_text_weighs_at_least_what_its_kind_weighs(text: str, times: int) -> None:
    data = (text * times)[: 3 * text_tokens.SUMMED].encode()
    assert tokens_of_text(data) >= -(-weight(data) // 1000)


@given(st.text(string.ascii_letters + string.digits + ' .,-{}":\\\n', max_size=3000))
def test_no_ascii_weighs_more_than_a_token_for_each_byte(text: str) -> None:
    assert tokens_of_text(text.encode()) <= len(text)


def weight(data: bytes) -> int:
    """Thousandths of a token, by the kinds of bytes alone."""
    return sum(
        text_tokens.SMALL
        if chr(byte) in "abcdefghijklmnopqrstuvwxyz "
        else text_tokens.CAPITAL
        if chr(byte) in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
        else text_tokens.DIGIT
        if chr(byte) in "0123456789"
        else text_tokens.SIGN
        if byte < 128
        else text_tokens.BEYOND
        for byte in data
    )


@given(st.lists(st.sampled_from("aé…″‴⁗∬∭∯∰㌀㍿﷐ﷺ\ufdff𝅘𝆒གྷདྷཱིྒྷྐྵ文"), max_size=300).map("".join))
def test_characters_that_are_taken_apart_weigh_the_same_however_many_they_are(text: str) -> None:
    written = text.encode()
    few = text_tokens.expanded(written)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_tokens, "FOR_FINDING", -1)
        assert text_tokens.expanded(written) == few
