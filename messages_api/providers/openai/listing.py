"""The list of models of an OpenAI-compatible provider, in Anthropic's format. Pure.

https://platform.openai.com/docs/api-reference/models/list has the fewest members. What others have in addition:
https://openrouter.ai/docs/models, https://console.groq.com/docs/models, https://docs.mistral.ai/api/#tag/models,
https://docs.together.ai/reference/models-1, https://docs.fireworks.ai, https://docs.vllm.ai.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from messages_api.json_text.lenient import is_count, mapping
from messages_api.providers.base import EPOCH, Get, model_info
from messages_api.providers.openai import dialects

# The prefix of names in Google's list, which calls don't need.
RESOURCE = "models/"
# Models without chat completions: by words in their names, and by their types at Together and LM Studio.
NO_CHAT = re.compile(
    r"(?<![a-z])(embed|(whisper|tts|dall-e|moderation|transcribe|realtime|(chat)?gpt-image|imagen|sora|veo)(?![a-z]))",
    re.IGNORECASE,
)
NO_CHAT_TYPES = frozenset(("embedding", "embeddings", "image", "audio", "video", "moderation", "rerank", "transcribe"))
# The end of the year 9999: later dates have more than four digits.
LAST_MOMENT = 253_402_300_799


def models(base_url: str, secret: str, get: Get) -> Iterator[dict[str, Any]]:
    """The models with chat completions, the newest first, in Anthropic's format. Empty at Azure: calls there name
    deployments, which Azure's list doesn't have.

    Raises:
        ValueError: the answer is no list.
    """
    if not (url := dialects.models_address(base_url)):
        return
    answer = get(url, [dialects.credential(base_url, secret)], {})
    # Together's answer is the list itself.
    listed = answer if isinstance(answer, list) else mapping(answer).get("data")
    if not isinstance(listed, list):
        raise ValueError("not a list")
    found = [mapping(model) for model in listed]
    found.sort(key=lambda model: (-seconds(model), str(model.get("id"))))
    for model in found:
        if isinstance(name := model.get("id"), str) and talks(model, name):
            yield described(model, name.removeprefix(RESOURCE))


def talks(model: dict[str, Any], name: str) -> bool:
    """Whether a model answers chat completions, unless its provider (OpenRouter, Mistral, Groq, Fireworks, Together) or
    its name says otherwise."""
    writes = mapping(model.get("architecture")).get("output_modalities")
    return not (
        (isinstance(writes, list) and "text" not in writes)
        or mapping(model.get("capabilities")).get("completion_chat") is False
        or model.get("supports_chat") is False
        or model.get("active") is False
        or str(model.get("type")).lower() in NO_CHAT_TYPES
        or NO_CHAT.search(name)
    )


def described(model: dict[str, Any], name: str) -> dict[str, Any]:
    """A model in Anthropic's format."""
    top = mapping(model.get("top_provider"))
    windows = ("context_length", "context_window", "max_context_length", "max_model_len")
    shown = (model.get("display_name"), model.get("name"))
    return model_info(
        name,
        display_name=next((each for each in shown if isinstance(each, str) and each), name),
        created_at=moment(seconds(model)),
        max_input_tokens=first_count(*(model.get(each) for each in windows), top.get("context_length")),
        max_tokens=first_count(model.get("max_completion_tokens"), top.get("max_completion_tokens")),
    )


def seconds(model: dict[str, Any]) -> int:
    """When a model was created, in Unix time; 0: unknown."""
    created = model.get("created")
    return created if is_count(created) and created <= LAST_MOMENT else 0


def moment(created: int) -> str:
    return datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if created else EPOCH


def first_count(*values: Any) -> int | None:
    """The first value that is a positive number of tokens."""
    return next((value for value in values if is_count(value) and value), None)
