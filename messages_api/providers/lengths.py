"""Providers' words for a request that doesn't fit into a model's context, in Anthropic's words. Pure.

Clients act on Anthropic's words only: they compact a conversation whose prompt is too long, and ask for less output
where the prompt alone would fit. https://platform.claude.com/docs/en/build-with-claude/context-windows,
https://github.com/musistudio/claude-code-router/issues/1292, https://github.com/jundot/omlx/issues/26 (2026)
"""

from __future__ import annotations

import re

PROMPT = "prompt is too long"
# Wordings of vLLM, SGLang, llama.cpp, LM Studio, Ollama, Text Generation Inference, DeepSeek, OpenRouter, Mistral, xAI,
# Google, Kimi, Z.ai, MiniMax, Model Studio, GitHub, Bedrock and LiteLLM, as of November 2026.
TOO_LONG = re.compile(
    r"maximum (?:context|prompt) length"
    r"|context (?:length|size|window)\b.{0,40}\b(?:only|exceed(?:s|ed)?)\b"
    r"|\b(?:exceed(?:s|ed)?|longer than|greater than|larger than)\b.{0,40}\bcontext (?:length|size|window)"
    r"|\binput (?:token count|length)\b.{0,80}\bexceeds"
    r"|\bprompt (?:exceeds|too long)|token count of \d+ exceeds|exceeded model token limit"
    r"|\binput is too long|range of input length|`inputs` tokens \+ `max_new_tokens` must be"
    r"|contextwindowexceedederror",
    re.IGNORECASE | re.DOTALL,
)
# Where the numbers are in these wordings: what the prompt has, what the request asks for, and what fits.
READ, ASKED, MOST = r"(?P<read>\d{1,12})", r"(?P<asked>\d{1,12})", r"(?P<most>\d{1,12})"
NUMBERS = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        rf"context length is {MOST} tokens.{{0,80}}\({READ} (?:in the messages|of text input)[^()]{{0,80}},"
        rf" {ASKED} in the (?:completion|output)\)",
        rf"too large: {ASKED}\..{{0,40}}context length is {MOST} tokens and your request has {READ} input tokens",
        rf"passed {READ} input tokens and requested {ASKED} output tokens.{{0,80}}context length is only {MOST} tokens",
        rf"context length of {MOST} tokens.{{0,80}}: {READ} tokens from the input messages and {ASKED} tokens for the",
        rf"must be <= {MOST}\. Given: {READ} `inputs` tokens and {ASKED} `max_new_tokens`",
    )
)
# The least room for output for which clients ask for less. With less room they must compact: Claude Code leaves 1,000
# tokens free and asks for at least 3,000.
ROOM = 4_000


def reworded(message: str, *, known: bool = False) -> str:
    """The message of an error, after Anthropic's words for it if it says that the request doesn't fit.

    Args:
        known: the error's code says so.
    """
    if PROMPT in message.lower() or not (known or TOO_LONG.search(message)):
        return message
    found = next((match for pattern in NUMBERS if (match := pattern.search(message))), None)
    if found is not None and int(found["most"]) - int(found["read"]) >= ROOM:
        return (
            f"input length and `max_tokens` exceed context limit: {found['read']} + {found['asked']} >"
            f" {found['most']}, decrease input length or `max_tokens` and try again ({message})"
        )
    return f"{PROMPT}: {message}"
