"""A model is the same model under each of its names: in lists of denied models, budgets, limits, and in SQL."""

from __future__ import annotations

import re

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from keys import model_names, patterns
from keys.directory import KnownKey, KnownProviderKey
from keys.models import ModelAlias
from messages_api.relay import routing
from messages_api.server.errors import GatewayError
from messages_api.stored import model_list

OPUS = "claude-opus-4-5"
# Names by which Claude Opus 4.5 is sold, and spellings of them.
SOLD = [
    OPUS,
    "Claude-Opus-4-5",
    "CLAUDE-OPUS-4-5-20251101",
    "claude-opus-4-5@20251101",
    "claude-opus-4-5@default",
    "claude-opus-4-5-latest",
    "anthropic.claude-opus-4-5-20251101-v1:0",
    "us.anthropic.claude-opus-4-5-20251101-v1:0",
    "global.Anthropic.Claude-Opus-4-5-20251101-v1:0:200k",
    "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-opus-4-5-20251101-v1:0",
    "arn:aws:bedrock:eu-west-1::foundation-model/anthropic.claude-opus-4-5-20251101-v1:0",
    "publishers/anthropic/models/claude-opus-4-5@20251101",
    "models/claude-opus-4-5",
    "anthropic/claude-opus-4.5",
    "anthropic/claude-opus-4.5:thinking",
    "anthropic/claude-4.5-opus-20251101",
    "openrouter/anthropic/claude-opus-4.5",
    "databricks-claude-opus-4-5",
    "system.ai.databricks-claude-opus-4-5",
    "anthropic--claude-4.5-opus",
    "claude-4-5-opus-20251101",
    "Claude-Opus-4.5",
]
OTHERS = [
    "claude-opus-4-6",
    "us.anthropic.claude-opus-4-1-20250805-v1:0",
    "claude-sonnet-4-5",
    "gpt-5",
    "claude-opus-4-55",
]
ODD = ["claude-opus-4-5/", "claude-opus-4-5 ", "claude-opus-4-5\u200b", "ｃlaude-opus-4-5", "claude-opus-4-5\u0130", ""]

PARTS = [
    *("us.", "anthropic.", "Anthropic/", "claude-", "claude", "opus", "haiku", "4", "-4", "-4-5", "4.5", "-0", "-3-7"),
    *(
        "-20251101",
        "@20251101",
        "-2025-11-01",
        "-v1",
        ":0",
        "-latest",
        "@default",
        "[1m]",
        "models/",
        "arn:",
        "a:b/",
        "--",
    ),
    *("sonnet", "-3", "-5", "-opus", "gpt-5", "openai/", ":online", "-2025-08-07", "-2024-05-13", "-v2", "system.ai."),
    *(
        "projects/",
        "databricks-",
        "/",
        ".",
        "-",
        ":",
        "@",
        "_",
        "%",
        "\\",
        " ",
        "\n",
        "A",
        "K",
        "\u212a",
        "İ",
        "ı",
        "ſ",
    ),
    *("\u200b", "Ｃ", "é", "x" * 90),
]
NAMES = st.lists(st.sampled_from(PARTS), max_size=7).map("".join) | st.sampled_from([*SOLD, *OTHERS, *ODD])
PATTERNS = st.lists(st.sampled_from([*PARTS, "*", "*"]), max_size=6).map("".join) | st.sampled_from(
    [*SOLD, "claude-*", "gpt-5", "gpt-5*", "openai/gpt-5"]
)
PAIRS = st.lists(st.tuples(PATTERNS, NAMES), min_size=40, max_size=80)

BOTH = """
SELECT usage_model_identity(name), usage_matches(ARRAY[pattern], name)
FROM unnest(%s::text[], %s::text[]) WITH ORDINALITY AS pair (pattern, name, number) ORDER BY number
"""


# Many at a time, for asking the database takes longest: so there is no use in looking for the shortest that fails.
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.generate],
)
@given(PAIRS)
def test_the_database_knows_models_as_the_gateway_does(db, pairs):
    with connection.cursor() as cursor:
        cursor.execute(BOTH, [[pattern for pattern, _ in pairs], [name for _, name in pairs]])
        told = cursor.fetchall()
    for (pattern, name), said in zip(pairs, told, strict=True):
        assert said == (model_names.identity(name), patterns.catches(pattern, name)), (pattern, name)


def test_what_the_database_says_of_names_costs_its_planner_nothing(db):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT proname FROM pg_proc WHERE proname IN ('usage_matches', 'usage_model_identity', 'usage_same_model',"
            " 'usage_share', 'usage_like', 'usage_own_name', 'usage_matches_share', 'usage_model_names',"
            " 'usage_ending') AND (provolatile, proparallel) <> ('i', 's')"
        )
        assert cursor.fetchall() == []


@pytest.mark.parametrize(
    "pattern",
    [
        "claude-opus-*",
        "CLAUDE-opus-4-5*",
        "claude-4.5-opus*",
        "anthropic--claude-*",
        OPUS,
        "claude-4.5-opus",
        "claude-opus-4-5-20251101",
        "us.anthropic.claude-opus-4-5-20251101-v1:0",
    ],
)
def test_a_denied_model_is_denied_under_every_name_by_which_it_is_sold(pattern):
    assert [name for name in SOLD if patterns.allows([], [pattern], name)] == []
    if "*" not in pattern:
        assert all(patterns.allows([], [pattern], name) for name in OTHERS)


def test_a_claude_is_one_model_with_its_family_before_its_version_or_after_it():
    sold = ["claude-3-5-sonnet", "claude-3.5-sonnet", "claude-sonnet-3.5", "anthropic/claude-3.5-sonnet:beta"]
    sold += ["anthropic--claude-3.5-sonnet", "us.anthropic.claude-3-5-sonnet-20241022-v2:0"]
    sold += ["claude-3-5-sonnet-v2@20241022"]
    for denied in (
        *sold[:3],
        sold[4],
        "claude-3-*",
        "claude-3.5-sonnet*",
        "claude-sonnet-*",
        "claude-3-5-sonnet-20241022",
    ):
        assert [name for name in sold if patterns.allows([], [denied], name)] == [], denied
        others = ["claude-3-5-haiku", "claude-3-sonnet", "claude-sonnet-4-5", "claude-4-5-sonnet"]
        assert "*" in denied or all(patterns.allows([], [denied], name) for name in others)
    assert not patterns.allows([], ["claude-opus-4"], "claude-4-opus-20250514")
    assert patterns.allows([], ["claude-opus-4"], "claude-4-5-opus")


def test_another_vendors_model_is_one_model_with_its_vendor_its_date_and_what_is_asked_of_it_besides():
    sold = ["gpt-5", "openai/gpt-5", "openai/gpt-5:online", "gpt-5:online", "GPT-5-2025-08-07"]
    sold += ["openai/gpt-5-2025-08-07", "openrouter/openai/gpt-5-2025-08-07:online"]
    others = ["gpt-5-mini", "openai/gpt-5-mini:online", "gpt-5.1", "gpt-5-2025-08", "gpt-5-mini-2025-08-07", "o5"]
    for denied in ("gpt-5", "gpt-5-2025-08-07"):
        assert [name for name in sold if patterns.allows([], [denied], name)] == [], denied
        assert all(patterns.allows([], [denied], name) for name in others)
    assert not patterns.catches("gpt-5-2025-08-07", "gpt-5-2026-01-01")
    assert patterns.catches("*i/gpt-5", "openai/gpt-5:online")
    assert not patterns.catches("gpt-5:online", "gpt-5")
    assert not patterns.catches("openai/gpt-5", "azure/gpt-5")
    assert [name for name in sold if patterns.allows(["gpt-5"], [], name)] == ["gpt-5"]


def test_a_name_that_could_be_taken_for_another_one_is_compared_as_it_is():
    for name in ODD:
        assert patterns.allows([], [OPUS], name), name
        assert model_names.identity(name) == name


def test_a_version_with_two_dates_is_two_models():
    assert patterns.catches("claude-3-5-sonnet-20240620", "anthropic.claude-3-5-sonnet-20240620-v1:0")
    assert not patterns.catches("claude-3-5-sonnet-20240620", "anthropic.claude-3-5-sonnet-20241022-v2:0")
    assert patterns.catches("claude-3-5-sonnet", "anthropic.claude-3-5-sonnet-20241022-v2:0")


def test_a_pattern_with_a_region_or_a_provider_means_that_alone():
    assert not patterns.catches("us.anthropic.claude-*", "eu.anthropic.claude-opus-4-5-20251101-v1:0")
    assert patterns.catches("anthropic.claude-opus-*", "us.anthropic.claude-opus-4-5-20251101-v1:0")
    assert not patterns.catches("bedrock/claude-opus-*", "vertex/claude-opus-4-5@20251101")
    assert patterns.catches("bedrock/claude-opus-*", "bedrock/us.anthropic.claude-opus-4-5-20251101-v1:0")


@given(PATTERNS, NAMES)
def test_a_list_of_allowed_models_admits_what_it_did_and_nothing_but_case_makes_it_longer(pattern, name):
    def stood_for(pattern, name):
        return bool(re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL))

    before = stood_for(pattern, name)
    now = patterns.allows([pattern], [], name)
    assert now or not before
    assert now == stood_for(model_names.fold(pattern), model_names.fold(name))


# Where calls go


def provider_key(provider="anthropic", models=(), number=1):
    return KnownProviderKey(number, provider, provider, "", "", tuple(models))


def key(*routes, **members):
    given = {"allowed": (), "denied": ()} | members
    return KnownKey(1, 1, "alice", 1, 1, passthrough=False, routes=tuple((route, 1) for route in routes), **given)


def test_case_makes_no_difference_to_where_a_call_goes():
    alice = key(
        provider_key(models=["claude-opus-*"]),
        provider_key("vertex", number=2),
        aliases={"fast": "Vertex/claude-opus-4-5"},
    )
    spoken = {"anthropic", "vertex"}
    for name in ("FAST", "fast", "VERTEX/claude-opus-4-5"):
        [[target]] = routing.plan(alice, [name], spoken, str)
        assert (target.provider_key.provider, target.model) == ("vertex", OPUS)
    [targets] = routing.plan(alice, ["Claude-OPUS-4-5"], spoken, str)
    assert {(each.provider_key.provider, each.model) for each in targets} == {
        ("anthropic", "Claude-OPUS-4-5"),
        ("vertex", "Claude-OPUS-4-5"),
    }


def test_a_model_is_denied_by_the_name_that_its_provider_gets():
    alice = key(provider_key("bedrock"), aliases={"smart": SOLD[9]}, denied=("claude-opus-*",))
    for name in ("Smart", f"bedrock/{SOLD[7]}"):
        with pytest.raises(GatewayError, match="may not use"):
            routing.plan(alice, [name], {"bedrock"}, str)


def test_a_model_is_found_in_the_list_in_any_case():
    alice, spoken = key(provider_key()), {"anthropic"}
    assert model_list.find(alice, {}, spoken, "Claude-OPUS-4-6").id == "claude-opus-4-6"


def test_an_alias_that_differs_from_another_one_by_case_is_refused(db):
    ModelAlias.objects.create(name="fast", target="claude-haiku-4-5")
    for name, target in (("Fast", "claude-opus-4-5"), ("quick", "FAST"), ("Claude-Haiku-4-5", "x")):
        with pytest.raises(ValidationError):
            ModelAlias(name=name, target=target).full_clean()
    ModelAlias.objects.get().full_clean()
