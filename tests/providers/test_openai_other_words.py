"""Hosts behind the chat completions protocol that have words of their own, as people have reported them elsewhere."""

from __future__ import annotations

import json

import pytest

from messages_api.providers.openai import answer, completion, faults
from tests.support.fake_provider import pieces, whole
from tests.support.gateway import post, row
from tests.support.gpt import check_counted
from tests.support.gpt import gpt_alice as gpt_alice
from tests.support.openai_events import PLAIN, blocks, last, translated
from tests.support.openai_provider import DONE, USAGE, ask_gpt, chunk
from tests.support.openai_provider import completion as said_whole
from tests.support.translation import AZURE, OPENAI, OPENROUTER, TOOL, sent


def both(delta, finish="stop", usage=USAGE):
    """The answer in one piece, and what its stream says of the same: content, stop reason and usage."""
    made = json.loads(
        answer.message(completion.read(said_whole(finish=finish, usage=usage, **{"text": None} | delta)), PLAIN)
    )
    content = {"content": delta.get("text")} | {name: value for name, value in delta.items() if name != "text"}
    events = translated([chunk({"role": "assistant"}), chunk(content), chunk({}, finish, usage=usage), DONE])
    end = last(events)
    streamed = [{name: each[name] for name in each if name != "signature"} for each in blocks(events)]
    plain = [{name: each[name] for name in each if name != "signature"} for each in made["content"]]
    assert streamed == plain
    assert end["delta"]["stop_reason"] == made["stop_reason"]
    assert {**made["usage"], **end["usage"]} == made["usage"]
    return made


@pytest.mark.parametrize(
    ("finish", "reason"),
    [
        ("content_filter: PROHIBITED_CONTENT", "refusal"),
        ("RECITATION", "refusal"),
        ("blocklist", "refusal"),
        ("SPII", "refusal"),
        ("guardrail_intervened", "refusal"),
        ("content_filter: something_new", "refusal"),
        ("max_output_tokens", "max_tokens"),
        ("token_limit", "max_tokens"),
        ("context_length_exceeded", "model_context_window_exceeded"),
        ("STOP", "end_turn"),
        ("a word of tomorrow", "end_turn"),
    ],
)
def test_an_end_in_a_hosts_own_words_has_its_stop_reason(finish, reason):
    assert both({"text": "So far"}, finish)["stop_reason"] == reason


@pytest.mark.parametrize("finish", ["function_call_filter: MALFORMED_FUNCTION_CALL", "time_limit", "cancelled"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_failed_answer_is_no_success(web_once, gpt_alice, upstream, finish, stream):
    parts = [chunk({"role": "assistant", "content": "I will"}), chunk({}, finish, usage=USAGE), DONE]
    upstream.answer = pieces(200, parts) if stream else whole(200, said_whole("I will", finish))
    said = post(web_once, gpt_alice.key, ask_gpt(stream=stream))
    if stream:
        assert "event: error" in said.text
        assert "message_stop" not in said.text
    else:
        assert said.status_code >= 500


OTHERS = {
    "input_tokens": 100,
    "output_tokens": 7,
    "total_tokens": 107,
    "input_tokens_details": {"cached_tokens": 64},
    "output_tokens_details": {"reasoning_tokens": 3},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("usage", [OTHERS, OTHERS | {"prompt_tokens": 0, "completion_tokens": 0}])
def test_usage_in_the_words_of_another_api_is_billed_as_reported(
    web_once,
    gpt_alice,
    upstream,
    usage,
    stream,
):
    parts = [chunk({"content": "Hi"}), chunk({}, "stop"), chunk(usage=usage), DONE]
    upstream.answer = pieces(200, parts) if stream else whole(200, said_whole("Hi", usage=usage))
    assert post(web_once, gpt_alice.key, ask_gpt(stream=stream)).status_code == 200
    check_counted(row())


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        # Anthropic's own words: what was cached is beside the input.
        ({"input_tokens": 40, "output_tokens": 7, "cache_read_input_tokens": 60}, (40, 60, 0, 7)),
        (
            {"input_tokens": 4, "output_tokens": 7, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 36},
            (4, 60, 36, 7),
        ),
        # A total that includes it says that it is a part of the input.
        ({"input_tokens": 100, "output_tokens": 7, "total_tokens": 107, "cache_read_input_tokens": 60}, (40, 60, 0, 7)),
        # The prompt is what the total leaves.
        ({"prompt_tokens": None, "completion_tokens": 7, "total_tokens": 107}, (100, 0, 0, 7)),
        # More thinking than output can't be a part of it; a total says what is.
        (
            {"prompt_tokens": 100, "completion_tokens": 7, "completion_tokens_details": {"reasoning_tokens": 60}},
            (100, 0, 0, 67),
        ),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 7,
                "total_tokens": 107,
                "completion_tokens_details": {"reasoning_tokens": 60},
            },
            (100, 0, 0, 7),
        ),
        # A positive count counts, whichever name has it.
        ({"prompt_tokens": 0, "input_tokens": 100, "completion_tokens": 7, "output_tokens": 0}, (100, 0, 0, 7)),
    ],
)
def test_counts_are_read_by_what_they_can_mean(usage, counts):
    used = both({"text": "Hi"}, usage=usage)["usage"]
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")
    assert tuple(used[name] for name in names) == counts
    assert "estimated" not in used


@pytest.mark.parametrize(
    "thought",
    [
        {"reasoning": {"content": "Hm."}},
        {"reasoning": {"text": "Hm."}},
        {"thinking": "Hm."},
        {"thinking_blocks": [{"type": "thinking", "thinking": "Hm.", "signature": "theirs"}]},
        {"reasoning_content": ["Hm."]},
    ],
)
def test_thinking_is_found_under_any_name_and_in_any_shape(thought):
    content = both({"text": "Yes."} | thought)["content"]
    assert [each["type"] for each in content] == ["thinking", "text"]
    assert (content[0]["thinking"], content[1]["text"]) == ("Hm.", "Yes.")


@pytest.mark.parametrize(
    "content", [{"type": "text", "text": "Yes."}, ["Ye", "s."], [{"type": "output_text", "text": "Yes."}]]
)
def test_text_is_found_in_any_shape(content):
    assert both({"text": content})["content"] == [{"type": "text", "text": "Yes."}]


def test_a_whole_message_at_the_end_of_a_stream_does_not_repeat_it():
    end = {"choices": [{"index": 0, "message": {"content": "Hello"}, "finish_reason": "stop"}], "usage": USAGE}
    parts = [chunk({"content": "Hel"}), chunk({"content": "lo"}), b"data: " + json.dumps(end).encode() + b"\n\n", DONE]
    assert blocks(translated(parts)) == [{"type": "text", "text": "Hello"}]


def test_a_stream_of_messages_is_read_as_one_of_deltas():
    parts = [chunk({"content": text}).replace(b'"delta"', b'"message"') for text in ("Hel", "lo")]
    assert blocks(translated([*parts, DONE])) == [{"type": "text", "text": "Hello"}]


@pytest.mark.parametrize("alive", [b"data: null\n\n", b"data: ping\n\n", b"event: ping\ndata: {}\n\n", b'data: ""\n\n'])
def test_data_that_only_keeps_a_connection_alive_is_no_fault(alive):
    parts = [alive, chunk({"content": "Hel"}), alive, chunk({"content": "lo"}, "stop"), alive, DONE]
    assert blocks(translated(parts)) == [{"type": "text", "text": "Hello"}]


@pytest.mark.parametrize("done", [b'data: "[DONE]"\n\n', b"data:[done]\n\n"])
def test_the_end_of_a_stream_may_be_spelled_otherwise(done):
    assert blocks(translated([chunk({"content": "Hello"}, "stop"), done])) == [{"type": "text", "text": "Hello"}]


def test_an_error_in_plain_words_reaches_the_client():
    events = translated([chunk({"content": "Hel"}), b"event: error\ndata: the engine is gone\n\n"])
    assert events[-1][0] == "error"
    assert events[-1][1]["error"]["message"] == "the engine is gone"


@pytest.mark.parametrize(
    "error",
    [
        {"error": {"message": "Error code: 400 - {'error': {'message': 'Filtered', 'code': 'content_filter'}}"}},
        {"error": {"message": "HTTP 400: Filtered"}},
        {"error": {"message": "Filtered", "innererror": {"code": "ResponsibleAIPolicyViolation"}}},
        {"error": {"message": "Filtered", "code": "ResponsibleAIPolicyViolation"}},
    ],
)
def test_a_mistake_of_the_client_is_one_though_a_proxy_says_it_in_words(error):
    status, body = faults.of_answer(500, json.dumps(error).encode(), "m", "")
    assert (status, json.loads(body)["error"]["type"]) == (400, "invalid_request_error")
    assert "Filtered" in json.loads(body)["error"]["message"]
    assert b'"invalid_request_error"' in faults.of_stream(error["error"], "m")


def test_words_about_a_status_within_a_message_are_no_status():
    error = {"error": {"message": "The tool said: Error code: 400"}}
    assert faults.of_answer(500, json.dumps(error).encode(), "m", "")[0] == 500


@pytest.mark.parametrize("host", [OPENAI, AZURE, OPENROUTER])
@pytest.mark.parametrize("model", ["o1", "o3-mini-2025-01-31", "openai/o4-mini", "gpt-4.1"])
def test_a_model_that_uses_one_tool_at_a_time_is_not_asked_to(host, model):
    made = sent(host, model=model, tools=[TOOL], tool_choice={"type": "auto", "disable_parallel_tool_use": True})
    assert made.get("parallel_tool_calls") is (False if model == "gpt-4.1" else None)
    assert made["tool_choice"] == "auto"


def test_the_reason_for_the_end_may_be_spelled_as_google_does():
    end = b'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": null, "finishReason": "MAX_TOKENS"}]}\n\n'
    assert last(translated([chunk({"content": "Hi"}), end]))["delta"]["stop_reason"] == "max_tokens"


CALL = {"index": 0, "id": "call_1", "function": {"name": "weather", "arguments": '{"city": '}}
REST = {"index": 0, "function": {"arguments": '"Vienna"}'}}


def test_a_stream_of_whole_tool_calls_may_end_without_a_word():
    events = translated([chunk({"tool_calls": [CALL]}), chunk({"tool_calls": [REST]})])
    assert blocks(events)[0]["input"] == {"city": "Vienna"}
    assert last(events)["delta"]["stop_reason"] == "tool_use"


@pytest.mark.parametrize("parts", [[chunk({"tool_calls": [CALL]})], [chunk({"content": "Let me"})]])
def test_a_stream_that_ends_in_the_middle_is_no_success(parts):
    assert "message_stop" not in [kind for kind, _ in translated(parts)]
