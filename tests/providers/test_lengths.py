"""A request that doesn't fit a model is refused in the words that clients act on, at every provider."""

from __future__ import annotations

import json

import pytest

from messages_api.providers import lengths
from messages_api.providers.openai import faults
from tests.support.fake_provider import whole
from tests.support.gateway import post
from tests.support.openai_provider import ask_gpt, issue_openai

# As these providers write, in 2026: llama.cpp (twice), Kimi, Z.ai, MiniMax, Model Studio, SGLang (twice), Text
# Generation Inference, vLLM (three times), LiteLLM, LM Studio (twice), Ollama (twice), oMLX, GitHub, Bedrock, Google.
TOO_LONG = [
    "request (124071 tokens) exceeds the available context size (123904 tokens), try increasing it",
    "Context size has been exceeded.",
    "Invalid request: Your request exceeded model token limit: 131072 (requested: 140000)",
    "Prompt exceeds max length",
    "invalid params, context window exceeds limit (2013)",
    "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 129024]",
    "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
    "Input length 9000 exceeds the maximum allowed length (8192 tokens). Use a shorter input.",
    "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 5000 `inputs` tokens and 100 `max_new_tokens`",
    "You passed 9001 input tokens and requested 1024 output tokens. However, the model's context length is only 8192 "
    "tokens, resulting in a maximum input length of 7168 tokens.",
    "This model's maximum context length is 128000 tokens. However, you requested 65535 output tokens and your prompt "
    "contains at least 62466 input tokens, for a total of at least 128001 tokens.",
    "This model's maximum context length is 102400 tokens. However, you requested 107837 tokens (99645 in the messages,"
    " 8192 in the completion). Please reduce the length of the messages or completion.",
    "litellm.ContextWindowExceededError: too much",
    "The number of tokens to keep from the initial prompt is greater than the context length.",
    "Trying to keep the first 9000 tokens, but the model is loaded with context length of only 4096 tokens.",
    "prompt too long; exceeded max context length by 4 tokens",
    "the input length exceeds the context length",
    "Prompt too long: 32799 tokens exceeds max context window of 32768 tokens",
    "prompt token count of 134529 exceeds the limit of 128000",
    "Input is too long for requested model.",
    "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
]
# Prompts that fit, with what the request asks for and what fits in all.
ASKS_TOO_MUCH = [
    (
        "This model's maximum context length is 32768 tokens. However, you requested 33000 tokens (1000 in the messages"
        ", 32000 in the completion). Please reduce the length of the messages or completion.",
        "1000 + 32000 > 32768",
    ),
    (
        "This endpoint's maximum context length is 131072 tokens. However, you requested about 140000 tokens (70000 of "
        "text input, 6000 of tool input, 64000 in the output).",
        "70000 + 64000 > 131072",
    ),
    (
        "'max_tokens' or 'max_completion_tokens' is too large: 64000. This model's maximum context length is 64001 "
        "tokens and your request has 24235 input tokens (64000 > 64001 - 24235).",
        "24235 + 64000 > 64001",
    ),
    (
        "You passed 101 input tokens and requested 32000 output tokens. However, the model's context length is only "
        "8192 tokens, resulting in a maximum input length of 0 tokens.",
        "101 + 32000 > 8192",
    ),
    (
        "Requested token count exceeds the model's maximum context length of 8192 tokens. You requested a total of 9000"
        " tokens: 1000 tokens from the input messages and 8000 tokens for the completion.",
        "1000 + 8000 > 8192",
    ),
    (
        "`inputs` tokens + `max_new_tokens` must be <= 8192. Given: 50 `inputs` tokens and 32000 `max_new_tokens`",
        "50 + 32000 > 8192",
    ),
]


@pytest.mark.parametrize("said", TOO_LONG)
def test_a_prompt_that_is_too_long_is_reported_in_anthropics_words(said):
    assert lengths.reworded(said) == f"prompt is too long: {said}"
    assert faults.understood({"error": {"message": said, "code": 400}}, "m").message == f"prompt is too long: {said}"


@pytest.mark.parametrize(("said", "numbers"), ASKS_TOO_MUCH)
def test_a_client_learns_by_how_much_it_asks_for_too_much_output(said, numbers):
    """Claude Code reads the numbers and asks for less; it would compact a short conversation in vain."""
    told = faults.understood({"error": {"message": said, "code": "context_length_exceeded"}}, "m").message
    assert told.startswith(f"input length and `max_tokens` exceed context limit: {numbers}, ")
    assert said in told


@pytest.mark.parametrize(
    "said",
    [
        "prompt is too long: 200251 tokens > 200000 maximum",
        "The model returned the following errors: Prompt is too long: 208310 tokens > 200000 maximum",
        "max_tokens is too large: 32000. This model supports at most 16384 completion tokens",
        "input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease input length or "
        "`max_tokens` and try again",
        "max_tokens: 200000 > 64000, which is the maximum allowed number of output tokens for claude-opus-4-5",
        "messages.0.content: text is longer than 5",
        "context_management: unknown field",
    ],
)
def test_other_words_stay(said):
    assert lengths.reworded(said) == said


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_of_a_short_context_gets_these_words(web, upstream, served, stream):
    alice = issue_openai(upstream)
    error = {"code": 400, "message": TOO_LONG[0], "type": "exceed_context_size_error", "n_ctx": 123904}
    upstream.answer = whole(400, json.dumps({"error": error}).encode())
    answer = post(web, alice.key, ask_gpt(stream=stream))
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "type": "invalid_request_error",
        "message": f"prompt is too long: {TOO_LONG[0]}",
    }
