"""A request with something in it changed is refused exactly if it breaks a rule of docs/validation.md."""

from __future__ import annotations

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.fake_provider import whole
from tests.support.gateway import CLIENT, ask, credentials, message, refused
from tests.support.recordings import FOLDER
from tests.support.request_bodies import BETAS, EXAMPLES, RICH, recorded
from tests.support.request_rules import keeps_every_rule

WORDS = [
    "",
    "text",
    "image",
    "user",
    "tool",
    "enabled",
    "auto",
    "ephemeral",
    "1h",
    "base64",
    "default",
    "claude x",
    "é",
]
anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 5000),
    # Those without a fraction are integers.
    st.floats(-2, 2, allow_nan=False).filter(lambda number: not number.is_integer()),
    st.sampled_from(WORDS),
    st.text(max_size=4),
    st.just([]),
    st.just({}),
    st.fixed_dictionaries({"type": st.sampled_from(WORDS)}),
    st.lists(st.sampled_from([*WORDS, {"type": "text"}]), max_size=2),
)


def places(value, path=()):
    """Every member and element below it."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*path, key)
        yield from places(inner, (*path, key))


def mutate(request, data):
    """One change somewhere: a member replaced, taken away, put in, or moved."""
    path = data.draw(st.sampled_from(list(places(request))))
    at = request
    for key in path[:-1]:
        at = at[key]
    kind = data.draw(st.sampled_from(["replace", "replace", "remove", "insert", "wrap"]))
    if kind == "replace":
        at[path[-1]] = copy.deepcopy(data.draw(anything))
    elif kind == "remove":
        del at[path[-1]]
    elif kind == "wrap":
        at[path[-1]] = [at[path[-1]]]
    elif isinstance(at, list):
        at.insert(path[-1], copy.deepcopy(data.draw(anything)))
    else:
        name = data.draw(st.sampled_from(["type", "name", "cache_control", "source", "content", "x"]))
        at[name] = copy.deepcopy(data.draw(anything))


def requests():
    """Requests that are right: ours, and the recorded ones of a few kilobytes where they are there."""
    found = [request for _, counting, request, _ in recorded() if not counting] if FOLDER else []
    return RICH + [request for request in found if len(json.dumps(request)) < 4000]


REQUESTS = requests()


def test_the_oracle_knows_what_is_right_and_what_is_wrong():
    assert all(keeps_every_rule(request) for request in REQUESTS)
    headers = {"mcp_servers", "output_format"}
    for members, said in EXAMPLES:
        if not (said.split(":")[0] in headers and "Requires" in said) and "tool.definition" not in said:
            assert not keeps_every_rule(ask() | members), members


def check_mutations(web, alice, upstream, data, requests):
    request = copy.deepcopy(data.draw(st.sampled_from(requests)))
    for _ in range(data.draw(st.integers(1, 3))):
        if list(places(request)):
            mutate(request, data)
    upstream.seen.clear()
    sent = json.dumps(request).encode()
    headers = credentials(alice.key) | {"anthropic-beta": BETAS}
    answer = CLIENT.post(web.url + "/v1/messages", content=sent, headers=headers)
    if keeps_every_rule(request):
        assert answer.status_code == 200, answer.text
        fallbacks = request.get("fallbacks")
        ours = isinstance(fallbacks, list) and any(isinstance(each, str) for each in fallbacks)
        relayed = {name: value for name, value in request.items() if name != "fallbacks" or not ours}
        assert upstream.last.body == json.dumps(relayed).encode()
    else:
        refused(answer, 400, "invalid_request_error")
        assert not upstream.seen


FIXTURES = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@settings(max_examples=500, database=None, derandomize=True, suppress_health_check=FIXTURES)
@given(data=st.data())
def test_a_mutated_request_is_refused_exactly_if_it_breaks_a_rule(web, alice, upstream, data):
    upstream.answer = whole(200, message())
    check_mutations(web, alice, upstream, data, RICH)


@pytest.mark.slow
@settings(max_examples=20_000, suppress_health_check=FIXTURES)
@given(data=st.data())
def test_of_twenty_thousand_mutated_requests_none_that_breaks_a_rule_passes(web, alice, upstream, data):
    upstream.answer = whole(200, message())
    check_mutations(web, alice, upstream, data, REQUESTS)
