"""Messages requests in front of OpenAI-compatible providers, translated without a gateway."""

from __future__ import annotations

import json
from typing import Any

import pytest

from messages_api.providers import openai
from messages_api.request import schema
from messages_api.server.errors import GatewayError
from tests.support.openai_provider import ask_gpt

OPENAI = ""
AZURE = "https://acme.openai.azure.com"
OPENROUTER = "https://openrouter.ai/api/v1"
GROQ = "https://api.groq.com/openai/v1"
MISTRAL = "https://api.mistral.ai/v1"
DEEPSEEK = "https://api.deepseek.com"
GEMINI = "https://generativelanguage.googleapis.com/v1beta/openai"
OLLAMA = "http://127.0.0.1:11434/v1"
VLLM = "http://10.0.0.7:8000/v1"
CEREBRAS = "https://api.cerebras.ai/v1"
KIMI = "https://api.moonshot.ai/v1"
FOUNDRY = "https://acme.services.ai.azure.com"
EVERYBODY = (OPENAI, AZURE, OPENROUTER, GROQ, MISTRAL, DEEPSEEK, KIMI, GEMINI, OLLAMA, CEREBRAS, VLLM)

PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
PDF = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0xLjQ="}
TOOL = {"name": "weather", "description": "Tells.", "input_schema": {"type": "object", "properties": {}}}
STRICT: dict[str, Any] = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}


def sent(base_url: str = OPENAI, **members: Any) -> dict[str, Any]:
    """What the provider gets for a request that the gateway lets through."""
    body = json.dumps(ask_gpt() | members).encode()
    schema.parse(body, betas=None)
    made: dict[str, Any] = json.loads(openai.translated(body, base_url)[0])
    return made


def messages(*turns: Any, base_url: str = OPENAI, **members: Any) -> list[dict[str, Any]]:
    """What becomes of turns: contents, the user's first, in turn."""
    roles = ("user", "assistant")
    given = [{"role": roles[index % 2], "content": content} for index, content in enumerate(turns)]
    made: list[dict[str, Any]] = sent(base_url, messages=given, **members)["messages"]
    return made


def refusal(base_url: str = OPENAI, **members: Any) -> str:
    with pytest.raises(GatewayError) as refused:
        sent(base_url, **members)
    assert (refused.value.status_code, refused.value.kind) == (400, "invalid_request_error")
    return refused.value.message
