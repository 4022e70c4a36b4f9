"""Why a provider says that an answer ended, in Anthropic's terms. Pure.

Providers behind one protocol have words of their own: Gemini's (https://github.com/mozilla-ai/any-llm/pull/1202, July
2026), which Google also puts behind a family (`content_filter: PROHIBITED_CONTENT`), watsonx's
(https://cloud.ibm.com/apidocs/watsonx-ai), and Bedrock's guardrails. An unknown word is an end like any other.
"""

from __future__ import annotations

WORDS = {
    "end_turn": "stop eos end_turn",
    "stop_sequence": "stop_sequence",
    "max_tokens": "length max_tokens max_output_tokens max_length token_limit",
    "model_context_window_exceeded": "model_length model_context_window_exceeded context_length_exceeded",
    "refusal": "content_filter content_filtered refusal safety sensitive recitation blocklist prohibited_content spii "
    "language model_armor guardrail_intervened image_safety image_recitation image_prohibited_content",
}
REASONS = {word: reason for reason, words in WORDS.items() for word in words.split()}
# Words by which a provider says that its answer failed (OpenRouter, DeepSeek, Z.ai, vLLM, watsonx). Gemini says
# `malformed_function_call` where its model wrote a tool call that can't be read: what is there of the call is not one
# (https://github.com/NousResearch/hermes-agent/pull/83886, August 2026).
BROKEN = frozenset(
    (
        *("error", "insufficient_system_resource", "network_error", "abort", "time_limit", "timeout"),
        *("cancelled", "canceled", "malformed_function_call", "malformed_response", "unexpected_tool_call"),
        *("too_many_tool_calls", "missing_thought_signature"),
    )
)


def word(given: object) -> str:
    """The reason in small letters, without its family if the reason itself is known; empty: the provider gives none."""
    if not isinstance(given, str):
        return ""
    parts = [part.strip() for part in given.lower().split(":")]
    return next((part for part in reversed(parts) if part in REASONS or part in BROKEN), given.lower())
