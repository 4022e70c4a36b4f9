"""What budgets and limits say, in each customer's language, and the catalogues that it is said from."""

from __future__ import annotations

import io
import re
import string
from decimal import Decimal
from gettext import GNUTranslations
from pathlib import Path
from typing import Any

import pytest
from babel.messages.extract import extract_from_file
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from django.core.exceptions import ValidationError
from django.utils.translation import get_language

from keys.models import Customer, Language
from messages_api.callers import wording
from tests.support.fake_provider import whole
from tests.support.gateway import ask, message, post, refused
from usage.models import Budget, Limit, Price

WORDING = Path(wording.__file__)
CATALOGUES = sorted((WORDING.parent.parent / "locale").glob("*/LC_MESSAGES/django.po"))

BUDGET = {
    "unit": "usd",
    "owner_kind": "team",
    "owner": "Research",
    "amount": "1000",
    "needed": "1234.561",
    "left": "0.31",
    "until": "2026-11-30T23:00:00+00:00",
    "time_zone": "Europe/Berlin",
}
LIMIT = {"kind": "rpm", "rate": 1200, "burst": 1234, "owner_kind": "virtual key", "owner": "ci", "retry_after": 6}


def over_budget(language, tokens=9_900, **details):
    return wording.over_budget({**BUDGET, **details, "language": language}, tokens)


@pytest.mark.parametrize(
    ("language", "said"),
    [
        (
            "en",
            "This call needs up to $1,234.57, $0.3100 left of $1,000.00 for team Research until 1 December 00:00"
            " Europe/Berlin; lower max_tokens to about 9,900.",
        ),
        (
            "de",
            "Dieser Aufruf benötigt bis zu 1.234,57 $; Team „Research“ hat bis 1. Dezember 00:00 Europe/Berlin noch"
            " 0,3100 $ von 1.000,00 $ übrig; senken Sie max_tokens auf etwa 9.900.",
        ),
        (
            "fr",
            "Cet appel nécessite jusqu’à 1 234,57 $ ; il reste 0,3100 $ sur 1 000,00 $ pour l’équipe « Research »"
            " jusqu’au 1 décembre 00:00 Europe/Berlin ; réduisez max_tokens à environ 9 900.",
        ),
        (
            "es",
            "Esta llamada necesita hasta 1 234,57 US$; quedan 0,3100 US$ de 1 000,00 US$ para el equipo «Research»"
            " hasta el 1 de diciembre 00:00 Europe/Berlin; reduzca max_tokens a unos 9 900.",
        ),
        (
            "pl",
            "To wywołanie wymaga maksymalnie 1 234,57 USD; zespół „Research” ma do 1 grudnia 00:00 Europe/Berlin"
            " jeszcze 0,3100 USD z 1 000,00 USD; zmniejsz max_tokens do około 9 900.",
        ),
        (
            "ja",
            "この呼び出しには最大 $1,234.57 が必要ですが、チーム「Research」の残りは 12月1日 00:00 Europe/Berlin"
            " まで $0.3100 です（上限 $1,000.00）。max_tokens を約 9,900 に下げてください。",
        ),
    ],
)
def test_a_budget_speaks_the_customers_language(language, said):
    # What doesn't break at the end of a line is a space here.
    assert over_budget(language).replace("\xa0", " ") == said


@pytest.mark.parametrize("language", Language.values)
def test_every_language_says_what_matters(language):
    for details in ({}, {"until": None}, {"left": "-1"}, {"left": "0", "until": None}, {"unit": "tokens"}):
        for tokens in (0, 9_900):
            said = over_budget(language, tokens, **details)
            assert "Research" in said
            assert ("max_tokens" in said) == bool(tokens)
            assert ("Europe/Berlin" in said) == bool({**BUDGET, **details}["until"])
            assert not re.search("[{}]", said)
    for kind in ("rpm", "input_tpm", "output_tpm", "parallel"):
        said = wording.over_limit({**LIMIT, "kind": kind, "language": language})
        assert "ci" in said
        assert ("6" in said) == (kind != "parallel")
        assert bool(re.search(r"1\D?234", said)) == (kind != "parallel")
        assert not re.search("[{}]", said)
    assert get_language() == "en-gb"


def test_one_is_not_many():
    one = {**LIMIT, "kind": "parallel", "rate": 1, "language": "en"}
    assert wording.over_limit(one) == "Limit of 1 call at once for virtual key ci: wait until one has ended."
    polish = [wording.over_limit({**LIMIT, "rate": rate, "language": "pl"}) for rate in (1, 2, 5)]
    assert [text.split("(")[0] for text in polish] == [
        "Limit: 1 żądanie na minutę, naraz 1\xa0234 ",
        "Limit: 2 żądania na minutę, naraz 1\xa0234 ",
        "Limit: 5 żądań na minutę, naraz 1\xa0234 ",
    ]


def test_no_name_of_an_owner_breaks_a_sentence():
    assert "{left} 100 %s {" in over_budget("de", owner="{left} 100 %s {")


@pytest.mark.parametrize("language", ["", "xx", "tlh-klingon"])
def test_an_unsupported_language_is_refused_and_read_as_english(language):
    with pytest.raises(ValidationError) as caught:
        Customer(name="Acme", language=language).clean_fields()
    assert set(caught.value.message_dict) == {"language"}
    assert over_budget(language or "xx").startswith("This call needs up to $1,234.57")


def test_refusals_are_in_the_customers_language(web, alice, upstream):
    Customer.objects.update(language="de", time_zone="Europe/Berlin")
    Price.objects.create(model="claude-opus-5-5", input=1, output=10, cache_read=0, cache_write_5m=1, cache_write_1h=1)
    budget = Budget.objects.create(team=alice.team, amount=Decimal("0.1"))
    try:
        text = refused(post(web, alice.key, ask(max_tokens=20_000)), 429, "billing_error")
    finally:
        Price.objects.filter(model="claude-opus-5-5").delete()
    assert text.startswith("Dieser Aufruf benötigt bis zu 0,2001\xa0$; Team „Research“ hat bis 1. ")
    assert text.endswith(
        " 00:00 Europe/Berlin noch 0,1000\xa0$ von 0,1000\xa0$ übrig; senken Sie max_tokens auf etwa 9.900."
    )
    budget.delete_softly()
    for owner in ({"virtual_key": alice.virtual_key}, {"team": alice.team}):
        limit = Limit.objects.create(kind="rpm", rate=10, burst=1, **owner)
        upstream.answer = whole(200, message())
        assert post(web, alice.key).status_code == 200
        text = refused(post(web, alice.key), 429, "rate_limit_error")
        assert text.startswith("Grenze von 10 Anfragen pro Minute, davon 1 auf einmal, für ")
        limit.delete_softly()


@pytest.mark.parametrize("path", CATALOGUES, ids=lambda path: path.parts[-3])
def test_catalogues_are_complete_and_compiled(path):
    with path.open("rb") as file:
        catalogue = read_po(file)
    written = {message for _, message, _, _ in extract_from_file("python", str(WORDING))}
    assert {entry.id if isinstance(entry.id, str) else tuple(entry.id) for entry in catalogue if entry.id} == written
    for entry in catalogue:
        if not entry.id:
            continue
        ids: Any
        strings: Any
        ids, strings = (entry.id, entry.string) if entry.pluralizable else ([entry.id], [entry.string])
        assert not entry.fuzzy
        assert len(strings) == (catalogue.num_plurals if entry.pluralizable else 1)
        assert {fields(text) for text in strings} == {fields(ids[0])}
    compiled = io.BytesIO()
    write_mo(compiled, catalogue)
    compiled.seek(0)
    with path.with_suffix(".mo").open("rb") as file:
        assert messages(file) == messages(compiled), "say make translations"


def messages(compiled):
    return {name: text for name, text in GNUTranslations(compiled)._catalog.items() if name}  # type: ignore[attr-defined]


def test_every_language_has_its_catalogue():
    folders = {path.parts[-3].lower().replace("_", "-") for path in CATALOGUES}
    assert folders | {"en"} == set(Language.values)


def fields(text):
    assert text
    return frozenset(name for _, name, _, _ in string.Formatter().parse(text) if name)


def test_moments_are_said_as_the_customers_calendar_has_them():
    with wording.spoken("en"):
        assert wording.wall_clock("2026-11-30T23:00:00+00:00", "Europe/Berlin") == "1 December 00:00 Europe/Berlin"


def test_amounts_are_shown_to_the_cent_or_finer():
    with wording.spoken("en"):
        assert wording.amount(Decimal("1234.567"), "usd", "ROUND_UP") == "$1,234.57"
        assert wording.amount(Decimal("0.00001"), "usd", "ROUND_UP") == "$0.0001"
        assert wording.amount(Decimal("12345.5"), "tokens", "ROUND_DOWN") == "12,345 tokens"


@pytest.mark.parametrize(
    ("kind", "one", "many"),
    [
        ("rpm", "1 request a minute", "60 requests a minute"),
        ("input_tpm", "1 input token a minute", "60 input tokens a minute"),
        ("output_tpm", "1 output token a minute", "60 output tokens a minute"),
        ("parallel", "1 call at once", "60 calls at once"),
    ],
)
def test_lists_of_limits_count_one_as_one(kind, one, many):
    assert [Limit(kind=kind, rate=rate).terms() for rate in (1, 60)] == [one, many]
