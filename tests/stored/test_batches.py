"""Message batches: theirs who made them, held as a whole, settled line by line at half the price."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import anthropic
import pytest

from keys import provider_keys
from messages_api.models import Batch, File
from tests.support.batch_provider import BatchProvider, message
from tests.support.fake_provider import End, whole
from tests.support.gateway import CLIENT, MODEL, ask, credentials, free_calls, issue, post, refused, rows, wait_until
from usage.models import Budget, Hold, LedgerEntry

BATCHES = "/v1/messages/batches"
NAME = "msgbatch_0001"
# claude-opus-5-5 costs $4 for a million input tokens and $20 for output; batches half of it.
EACH = (Decimal(4) * 100 + Decimal(20) * 20).scaleb(-6) / 2


@pytest.fixture
def provider(upstream):
    upstream.answer = provider = BatchProvider()
    return provider


def batch(*custom_ids, **members):
    return {"requests": [{"custom_id": each, "params": ask(**members)} for each in custom_ids]}


def create(web, key, *custom_ids, **members):
    return post(web, key, batch(*(custom_ids or ("a", "b")), **members), BATCHES)


def get(web, key, path="", **query):
    return CLIENT.get(web.url + BATCHES + path, headers=credentials(key), params=query)


def held():
    """What is held for batches; reading about one is held, too, for a moment."""
    return Hold.objects.filter(process__isnull=True)


def the_batch():
    return Batch.objects.get()


def lines():
    return list(LedgerEntry.objects.filter(endpoint="batches.request").order_by("client_labels__custom_id"))


def test_a_batch_reaches_the_provider_byte_for_byte_and_its_answer_comes_back(web, upstream, alice, provider):
    body = json.dumps(batch("a", "b"), indent=3).encode()
    answer = post(web, alice.key, body, BATCHES)
    assert answer.status_code == 200
    assert answer.json() == provider.batches[NAME]
    assert upstream.last.body == body
    assert upstream.last.values("x-api-key") == ["sk-ant-the-providers-own-1234"]


def test_the_ceiling_of_a_batch_is_held_until_its_results_are_read(web, alice, provider):
    create(web, alice.key, "a", "b", "c")
    hold = held().get()
    assert hold.process is None
    assert hold.expires_at is not None
    assert hold.ceiling > 3 * 64 * Decimal(20).scaleb(-6) / 2
    assert the_batch().ceiling == hold.ceiling
    row = LedgerEntry.objects.get()
    assert (row.endpoint, row.status, row.model) == ("batches.create", "completed", MODEL)
    assert row.cost == 0


def test_it_is_held_at_the_dearest_model_that_a_request_may_mean(web, alice, provider):
    create(web, alice.key, "a", model="claude-haiku-4-5", fallbacks=[{"model": "claude-fable-5-1"}])
    assert held().get().ceiling > 64 * Decimal(50).scaleb(-6) / 2


def test_one_of_several_models_is_held_and_spent_by_budgets_of_some_models(web, alice, provider):
    haiku = "claude-haiku-4-5"
    of_some = Budget.objects.create(amount=10, team=alice.team, model_patterns=[haiku])
    of_others = Budget.objects.create(amount=10, team=alice.team, model_patterns=["claude-opus-*"])
    requests = batch("a", "b")["requests"]
    requests[1]["params"]["model"] = haiku
    assert post(web, alice.key, {"requests": requests}, BATCHES).status_code == 200
    ceiling = held().get().ceiling
    first, second = of_some.windows.get().held, of_others.windows.get().held
    assert first > 0 < second
    assert first + second == ceiling
    provider.results = {"b": {"type": "succeeded", "message": message() | {"model": f"{haiku}-20251001"}}}
    provider.end()
    get(web, alice.key, f"/{NAME}/results")
    spent = [line.cost for line in lines()]
    rows(3)
    assert [of_others.windows.get().spent, of_some.windows.get().spent] == spent
    assert spent[0] != spent[1]


def test_its_results_settle_it_line_by_line_at_batch_prices(web, alice, provider):
    create(web, alice.key, "a", "b", "c", "d")
    provider.results = {
        "b": {"type": "errored", "error": {"type": "error", "error": {"type": "overloaded_error", "message": "no"}}},
        "c": {"type": "canceled"},
        "d": {"type": "succeeded", "message": message(10, 5, cache_read_input_tokens=1000)},
    }
    provider.end()
    answer = get(web, alice.key, f"/{NAME}/results")
    assert answer.status_code == 200
    assert answer.content == b"".join(provider.line(each) for each in "abcd")
    assert answer.headers["content-type"] == "application/x-jsonl"
    first, second, third, fourth = lines()
    assert (first.status, first.cost, first.input_tokens, first.output_tokens) == ("completed", EACH, 100, 20)
    assert (first.service_tier, first.team_id, first.virtual_key_id) == ("batch", alice.team.id, alice.virtual_key.id)
    assert first.client_labels == {"batch": NAME, "custom_id": "a"}
    assert (second.status, second.error_type, second.model) == ("refused_by_provider", "overloaded_error", MODEL)
    assert (third.status, third.error_type) == ("failed", "canceled")
    assert second.cost == third.cost == 0
    assert fourth.cost == (Decimal(4) * 10 + Decimal(20) * 5 + Decimal("0.2") * 1000).scaleb(-6) / 2
    rows(5)
    assert (the_batch().state, the_batch().settled_requests) == ("settled", 4)


def test_a_line_that_cannot_be_true_costs_its_share_of_what_was_held(web, alice, provider):
    create(web, alice.key, "a", "b", "c")
    reserved = held().get().ceiling
    provider.results = {
        "b": {"type": "succeeded", "message": message(10**13, 5)},
        "c": {"type": "succeeded", "message": message(10, 10**13)},
    }
    provider.end()
    get(web, alice.key, f"/{NAME}/results")
    first, *wrong = lines()
    assert (first.cost, first.estimated) == (EACH, False)
    for line in wrong:
        assert (line.estimated, line.price_flag, line.input_tokens) == (True, "doubtful_usage", 0)
        assert line.cost == (reserved / 3).quantize(line.cost)


def test_reading_its_results_again_costs_nothing_more(web, alice, provider):
    create(web, alice.key)
    provider.end()
    for _ in range(2):
        get(web, alice.key, f"/{NAME}/results")
    assert [row.cost for row in lines()] == [EACH, EACH]
    assert free_calls(alice.virtual_key, 2) == {("batches.results", "completed"): 2}


def test_its_results_are_at_our_place(web, alice, provider):
    create(web, alice.key)
    provider.end()
    for prefix in ("", "/anthropic", "/pydanticai/anthropic"):
        url = web.url + prefix + BATCHES
        answer = CLIENT.get(f"{url}/{NAME}", headers=credentials(alice.key))
        assert answer.json() == provider.batches[NAME] | {"results_url": f"{url}/{NAME}/results"}
    [listed] = get(web, alice.key).json()["data"]
    assert listed["results_url"] == f"{web.url}{BATCHES}/{NAME}/results"


def test_no_other_key_sees_it(web, upstream, alice, provider):
    create(web, alice.key)
    bob = issue(upstream, "bob")
    before = len(upstream.seen)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/results")):
        url = f"{web.url}{BATCHES}/{NAME}{path}"
        refused(CLIENT.request(method, url, headers=credentials(bob.key)), 404, "not_found_error")
    assert get(web, bob.key).json() == {"data": [], "has_more": False, "first_id": None, "last_id": None}
    assert len(upstream.seen) == before


def test_the_list_comes_from_our_own_tables_a_page_at_a_time(web, upstream, alice, provider):
    for _ in range(5):
        create(web, alice.key)
    asked = len(upstream.seen)
    names = [f"msgbatch_{at:04}" for at in (5, 4, 3, 2, 1)]
    first = get(web, alice.key, limit=2).json()
    assert [each["id"] for each in first["data"]] == names[:2]
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, names[0], names[1])
    second = get(web, alice.key, limit=2, after_id=names[1]).json()
    assert [each["id"] for each in second["data"]] == names[2:4]
    back = get(web, alice.key, limit=2, before_id=names[3]).json()
    assert ([each["id"] for each in back["data"]], back["has_more"]) == (names[1:3], True)
    assert len(upstream.seen) == asked
    assert "after_id" in refused(get(web, alice.key, after_id="msgbatch_9"), 400, "invalid_request_error")
    assert "limit" in refused(get(web, alice.key, limit=0), 400, "invalid_request_error")


def test_a_word_without_measure_is_passed_on_and_kept_by_no_list(web, upstream, alice, provider):
    create(web, alice.key)
    short = get(web, alice.key, f"/{NAME}").json()
    provider.batches[NAME]["more"] = "x" * 1_000_000
    long = get(web, alice.key, f"/{NAME}").json()
    assert long == short | {"more": "x" * 1_000_000}
    assert get(web, alice.key).json()["data"] == [short]
    # One that was made so: its id is what there is.
    Batch.objects.update(described="")
    assert get(web, alice.key).json()["data"] == [{"id": NAME, "type": "message_batch"}]


def test_it_can_be_cancelled(web, alice, provider):
    create(web, alice.key)
    answer = CLIENT.post(f"{web.url}{BATCHES}/{NAME}/cancel", headers=credentials(alice.key))
    assert answer.json()["processing_status"] == "canceling"
    assert get(web, alice.key).json()["data"][0]["processing_status"] == "canceling"
    assert held().exists()


def test_deleting_it_settles_it_first(web, alice, provider):
    create(web, alice.key)
    provider.end()
    answer = CLIENT.delete(f"{web.url}{BATCHES}/{NAME}", headers=credentials(alice.key))
    assert answer.json() == {"id": NAME, "type": "message_batch_deleted"}
    assert [row.cost for row in lines()] == [EACH, EACH]
    assert {row.endpoint for row in rows(3)} == {"batches.create", "batches.request"}
    asked = ("batches.get", "batches.results", "batches.delete")
    assert free_calls(alice.virtual_key, 3) == {(name, "completed"): 1 for name in asked}
    refused(get(web, alice.key, f"/{NAME}"), 404, "not_found_error")
    assert get(web, alice.key).json()["data"] == []


def test_a_running_batch_is_not_deleted_if_the_provider_refuses_it(web, alice, provider):
    create(web, alice.key)
    answer = CLIENT.delete(f"{web.url}{BATCHES}/{NAME}", headers=credentials(alice.key))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "as the provider says"
    assert held().exists()
    assert get(web, alice.key).json()["data"]


@pytest.mark.parametrize("status", [200, 404, 429, 500])
def test_one_whose_results_cannot_be_read_is_not_deleted(web, upstream, alice, provider, status):
    create(web, alice.key, "a", "b", "c")
    provider.end()
    # Of a 200, one line and no more.
    provider.instead[NAME] = list(whole(status, provider.line("a") if status == 200 else b"{}"))
    answer = CLIENT.delete(f"{web.url}{BATCHES}/{NAME}", headers=credentials(alice.key))
    assert "not deleted" in refused(answer, 503, "api_error")
    assert NAME in provider.batches
    assert held().exists()
    del provider.instead[NAME]
    assert CLIENT.delete(f"{web.url}{BATCHES}/{NAME}", headers=credentials(alice.key)).status_code == 200
    assert [row.cost for row in lines()] == [EACH] * 3
    wait_until(lambda: not held().exists())


@pytest.mark.parametrize("few", [b"", b"<html>\n</html>\n", b'{"custom_id":"b"'])
def test_results_that_end_too_early_leave_the_rest_held(web, alice, provider, few):
    create(web, alice.key, "a", "b", "c")
    provider.end()
    provider.instead[NAME] = list(whole(200, provider.line("a") + few))
    assert get(web, alice.key, f"/{NAME}/results").status_code == 200
    assert [row.cost for row in lines()] == [EACH]
    assert held().get().ceiling == the_batch().ceiling - EACH
    del provider.instead[NAME]
    get(web, alice.key, f"/{NAME}/results")
    assert [row.cost for row in lines()] == [EACH] * 3
    wait_until(lambda: not held().exists())


def test_what_its_results_bind_goes_back_to_its_account(web, upstream, served, provider):
    bob = issue(upstream, "bob")
    other = provider_keys.add_provider_key(
        name="other", provider="anthropic", base_url=upstream.url, secret="sk-ant-the-other-account-99"
    )
    alice = issue(upstream, provider_keys=[(bob.provider_key, 1), (other, 1)])
    create(web, alice.key, "a")
    [home] = upstream.last.values("x-api-key")
    provider.results["a"] = {
        "type": "succeeded",
        "message": message() | {"container": {"id": "container_made", "expires_at": "2099-01-01T00:00:00Z"}},
    }
    provider.end()
    get(web, alice.key, f"/{NAME}/results")
    upstream.answer = whole(200, json.dumps(message()).encode())
    for turn in range(8):
        assert post(web, alice.key, ask(f"words {turn}", container="container_made")).status_code == 200
        assert upstream.last.values("x-api-key") == [home]
    carol = issue(upstream, "carol", team=None)
    refused(post(web, carol.key, ask(container="container_made")), 404, "not_found_error")


@pytest.mark.parametrize("status", [204, 307, 999])
def test_what_is_no_answer_to_making_one_is_not_passed_on(web, upstream, alice, status):
    upstream.answer = whole(status, b"", ("location", "http://elsewhere/v1/messages/batches"))
    answer = create(web, alice.key)
    refused(answer, 502, "api_error")
    assert "location" not in answer.headers
    assert held().exists(), "it may have been made"


def test_a_place_in_the_list_that_cannot_be_is_refused(web, alice):
    assert "after_id" in refused(get(web, alice.key, after_id="a\x00"), 400, "invalid_request_error")


WRONG = [
    ({}, "requests: Field required"),
    ({"requests": []}, "requests"),
    ({"requests": [7]}, "requests.0"),
    ({"requests": [{"params": ask()}]}, "requests.0.custom_id: Field required"),
    ({"requests": [{"custom_id": "a"}]}, "requests.0.params: Field required"),
    (batch("a", "b", "a"), "requests.2.custom_id: Requests 0 and 2 have the same one"),
    (batch("a\x00"), "requests.0.custom_id: It contains"),
    (batch("a" * 65), "requests.0.custom_id: Expected"),
    ({"requests": [{"custom_id": "a", "params": 7}]}, "requests.0.params: The request body must be a JSON object"),
    (batch("a", max_tokens=-1), "requests.0.params.max_tokens"),
    (batch("a", temperature=2), "requests.0.params.temperature"),
    (batch("a", fallbacks=["claude-haiku-4-5"]), "requests.0.params.fallbacks"),
]


@pytest.mark.parametrize(("body", "said"), WRONG)
def test_a_wrong_one_is_refused_by_the_field_before_anything_is_held(web, upstream, alice, provider, body, said):
    assert refused(post(web, alice.key, body, BATCHES), 400, "invalid_request_error").startswith(said)
    assert not upstream.seen
    wait_until(lambda: not held().exists())
    assert not Batch.objects.exists()


def test_a_long_one_is_read_by_a_process_of_its_own(web, upstream, alice, provider):
    custom_ids = [f"request-{at}" for at in range(3000)]
    body = json.dumps(batch(*custom_ids, text="words " * 100)).encode()
    assert len(body) > 1 << 20
    assert post(web, alice.key, body, BATCHES).status_code == 200
    assert upstream.last.body == body
    assert the_batch().requests == 3000
    wrong = body[:-4] + b", 7]}"
    refused(post(web, alice.key, wrong, BATCHES), 400, "invalid_request_error")
    provider.end()
    get(web, alice.key, f"/{NAME}/results")
    assert len(lines()) == 3000
    assert sum(row.cost for row in lines()) == 3000 * EACH
    wait_until(lambda: not held().exists())


def test_it_goes_to_the_account_that_has_what_its_requests_carry(web, upstream, served, provider):
    """A long one, so that its reader is a process of its own; and to the same account ever after."""
    other = provider_keys.add_provider_key(
        name="other", provider="anthropic", base_url=upstream.url, secret="sk-ant-the-other-account-99"
    )
    bob = issue(upstream, "bob")
    alice = issue(upstream, provider_keys=[(bob.provider_key, 1000), (other, 1)])
    File.objects.create(id="file_other", virtual_key=alice.virtual_key, team=alice.team, provider_key=other)
    source = {"type": "file", "file_id": "file_other"}
    content = [{"type": "document", "source": source}, {"type": "text", "text": "words " * 200_000}]
    create(web, alice.key, messages=[{"role": "user", "content": content}])
    for path in ("", f"/{NAME}"):
        get(web, alice.key, path)
        assert upstream.last.values("x-api-key") == ["sk-ant-the-other-account-99"]
    provider.end()
    assert get(web, alice.key, f"/{NAME}/results").status_code == 200
    assert upstream.last.values("x-api-key") == ["sk-ant-the-other-account-99"]


def test_it_may_not_carry_another_teams_file(web, upstream, alice, provider):
    bob = issue(upstream, "bob", team=None)
    File.objects.create(id="file_bob", virtual_key=bob.virtual_key, provider_key=bob.provider_key)
    content = [{"type": "document", "source": {"type": "file", "file_id": "file_bob"}}]
    answer = create(web, alice.key, messages=[{"role": "user", "content": content}])
    assert "file_bob" in refused(answer, 404, "not_found_error")
    assert not upstream.seen


def test_models_are_scoped_as_for_messages(web, upstream, served, provider):
    alice = issue(upstream, allowed_models=["claude-haiku-*"])
    assert MODEL in refused(create(web, alice.key), 403, "permission_error")
    named = create(web, alice.key, model="claude-haiku-4-5", fallbacks=[{"model": MODEL}])
    assert MODEL in refused(named, 403, "permission_error")
    echo = issue(None, "echo")
    assert "batches" in refused(create(web, echo.key), 404, "not_found_error")


def test_a_batch_that_the_provider_refuses_costs_nothing(web, upstream, alice):
    error = b'{"type":"error","error":{"type":"invalid_request_error","message":"too many"},"request_id":"req_x"}'
    upstream.answer = whole(400, error)
    answer = create(web, alice.key)
    assert (answer.status_code, answer.content) == (400, error)
    [row] = rows(1)
    assert row.status == "refused_by_provider"
    assert not row.cost
    wait_until(lambda: not Batch.objects.exists())


def test_a_provider_that_cannot_be_reached_costs_nothing(web, upstream, alice):
    alice.provider_key.base_url = "http://127.0.0.1:9"
    alice.provider_key.save()
    refused(create(web, alice.key), 502, "api_error")
    [row] = rows(1)
    assert row.status == "failed"
    assert not row.cost
    wait_until(lambda: not Batch.objects.exists())


def test_a_batch_that_may_have_been_created_stays_held(web, upstream, alice):
    upstream.answer = [End.CLOSE]
    refused(create(web, alice.key), 502, "api_error")
    batch = wait_until(lambda: Batch.objects.filter(process=None).first())
    assert batch.state == "creating"
    assert held().get().id == batch.id
    assert not LedgerEntry.objects.exists()


@pytest.mark.wire(16)
@pytest.mark.parametrize("prefix", ["", "/pydanticai/anthropic"])
def test_the_sdk_makes_lists_reads_and_deletes_one_without_leaving_the_gateway(web, upstream, alice, provider, prefix):
    requests: Any = batch("a", "b")["requests"]
    hosts = set()

    def note(request):
        hosts.add(request.url.host)
        assert request.url.port == web.address[1]

    http = anthropic.DefaultHttpxClient(event_hooks={"request": [note]})
    with anthropic.Anthropic(base_url=web.url + prefix, api_key=alice.key, max_retries=0, http_client=http) as sdk:
        made = sdk.messages.batches.create(requests=requests)
        assert made.processing_status == "in_progress"
        assert [each.id for each in sdk.messages.batches.list(limit=1)] == [made.id]
        provider.end()
        assert sdk.messages.batches.retrieve(made.id).request_counts.processing == 2
        results = {each.custom_id: each.result for each in sdk.messages.batches.results(made.id)}
        assert {custom_id: result.type for custom_id, result in results.items()} == {"a": "succeeded", "b": "succeeded"}
        assert [each.custom_id for each in sdk.beta.messages.batches.results(made.id)] == ["a", "b"]
        assert sdk.messages.batches.delete(made.id).type == "message_batch_deleted"
        with pytest.raises(anthropic.NotFoundError):
            sdk.messages.batches.retrieve(made.id)
    assert hosts == {"127.0.0.1"}
    assert [row.cost for row in lines()] == [EACH, EACH]
