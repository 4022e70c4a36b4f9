"""What an OpenAI-compatible provider answers, and whose key leads to one."""

from __future__ import annotations

import json
from typing import Any

from keys import provider_keys
from keys.models import ProviderKey
from tests.support.fake_provider import Upstream
from tests.support.gateway import Caller, issue

GPT = "gpt-4o-mini"
OPENAI_SECRET = "sk-proj-the-providers-own-5678"
USAGE = {
    "prompt_tokens": 100,
    "completion_tokens": 7,
    "total_tokens": 107,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


def issue_openai(upstream: Upstream, name: str = "alice", path: str = "/v1", **terms: Any) -> Caller:
    """A virtual key that leads to this OpenAI-compatible upstream only."""
    provider_key = ProviderKey.objects.filter(name="compatible").first() or provider_keys.add_provider_key(
        name="compatible", provider="openai", base_url=upstream.url + path, secret=OPENAI_SECRET
    )
    return issue(None, name, **({"provider_keys": [(provider_key, 1)]} | terms))


def ask_gpt(text: str = "Hello", **members: Any) -> dict[str, Any]:
    """A small Messages request."""
    return {"model": GPT, "max_tokens": 64, "messages": [{"role": "user", "content": text}]} | members


def completion(text: str | None = "Hi", finish: str = "stop", **members: Any) -> bytes:
    """A whole chat completion; what isn't one of its members is one of its message's."""
    own = {name: members.pop(name) for name in ("usage", "model", "service_tier", "error") if name in members}
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "model": GPT,
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": text, **members}, "finish_reason": finish}
        ],
        "usage": USAGE,
    }
    return json.dumps(answer | own, ensure_ascii=False).encode()


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **members: Any) -> bytes:
    """One chunk of a stream; without a delta, one without choices."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    said = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": GPT, "choices": choices} | members
    return b"data: " + json.dumps(said, ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"


def chunks(*texts: str, finish: str = "stop", usage: Any = USAGE) -> list[bytes]:
    """The chunks of a small stream."""
    return [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": text}) for text in texts),
        chunk({}, finish),
        chunk(usage=usage),
        DONE,
    ]


def tool_call(index: int | None, arguments: str, name: str | None = None, id: str | None = None) -> dict[str, Any]:
    """A delta with a part of a tool call."""
    function = {"arguments": arguments} | ({"name": name} if name else {})
    call: dict[str, Any] = {"function": function}
    if index is not None:
        call["index"] = index
    if id is not None:
        call |= {"id": id, "type": "function"}
    return {"tool_calls": [call]}
