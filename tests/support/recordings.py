"""Recorded exchanges with Anthropic, in the folder that RECORDINGS_DIR names, and what each of them used.

The oracle at the end is written from the description of the API, not from the gateway's code.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

FOLDER = os.environ.get("RECORDINGS_DIR", "")

needs_recordings = pytest.mark.skipif(
    not FOLDER or not Path(FOLDER, "anthropic").is_dir(), reason="RECORDINGS_DIR names no folder of recordings"
)


@dataclass(frozen=True)
class Recording:
    """One exchange."""

    name: str
    path: str
    request_headers: dict[str, str]
    request: dict[str, Any]
    status: int
    headers: dict[str, str]
    body: bytes
    # Some were recorded without it.
    has_request: bool = True

    @property
    def streams(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    @property
    def request_body(self) -> bytes:
        """A body as a client might send it, in a form that no encoder would write."""
        text = json.dumps(self.request, ensure_ascii=False, separators=(",  ", " : "))
        return ("\n " + text + "  \n").encode()


@cache
def recordings() -> list[Recording]:
    """Every call of /v1/messages; none where the folder is absent."""
    found = []
    for file in sorted(Path(FOLDER, "anthropic").glob("*/*.json")) if FOLDER else ():
        exchange = json.loads(file.read_text())
        path, _, query = exchange["path"].partition("?")
        if path != "/v1/messages" or exchange["method"] != "POST":
            continue
        headers = {name.lower(): value for name, value in exchange["response_headers"].items()}
        request = exchange["request_body"] or {
            "model": "claude-opus-5-5",
            "max_tokens": 1024,
            "stream": headers.get("content-type", "").startswith("text/event-stream"),
            "messages": [{"role": "user", "content": "Grüße 👋"}],
        }
        sent = {name.lower(): value for name, value in exchange["request_headers"].items()}
        found.append(
            Recording(
                f"{file.parent.name}/{file.stem}",
                path + ("?" + query if query else ""),
                sent,
                request,
                exchange["status"],
                headers,
                exchange["response_body"].encode(),
                exchange["request_body"] is not None,
            )
        )
    return found


def streams() -> list[Recording]:
    """The recorded streams."""
    return [recording for recording in recordings() if recording.streams]


# What a recording used, by the rules of the API:
# - a stream's usage is message_start's, with the non-null members of each message_delta's in their place;
# - where `iterations` is there, the entries are what was used, and the top level is not;
# - cache writes without a split, or beyond it, are of the time that the request asked for, else of five minutes.


def used(recording: Recording) -> dict[str, int]:
    """The token columns of the ledger's row."""
    if recording.status != 200:
        return dict.fromkeys(COLUMNS, 0)
    usage = final_usage(recording)
    entries = usage.get("iterations") or [usage]
    writes = [split_writes(entry, recording.request) for entry in entries]
    thinking = sum(((entry.get("output_tokens_details") or {}).get("thinking_tokens") or 0) for entry in entries)
    if usage.get("iterations"):
        thinking = max(thinking, (usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0)
    return {
        "input_tokens": sum(entry.get("input_tokens") or 0 for entry in entries),
        "output_tokens": sum(entry.get("output_tokens") or 0 for entry in entries),
        "thinking_tokens": thinking,
        "cache_read_input_tokens": sum(entry.get("cache_read_input_tokens") or 0 for entry in entries),
        "cache_creation_5m_input_tokens": sum(five for five, _ in writes),
        "cache_creation_1h_input_tokens": sum(hour for _, hour in writes),
        "web_search_requests": (usage.get("server_tool_use") or {}).get("web_search_requests") or 0,
    }


COLUMNS = (
    "input_tokens",
    "output_tokens",
    "thinking_tokens",
    "cache_read_input_tokens",
    "cache_creation_5m_input_tokens",
    "cache_creation_1h_input_tokens",
    "web_search_requests",
)


def final_usage(recording: Recording) -> dict[str, Any]:
    """The last word on what was used."""
    if not recording.streams:
        usage: dict[str, Any] = json.loads(recording.body).get("usage") or {}
        return usage
    usage = {}
    for line in recording.body.decode().split("\n"):
        if not line.startswith("data:"):
            continue
        data = json.loads(line[5:])
        reported = data["message"]["usage"] if data["type"] == "message_start" else data.get("usage")
        if data["type"] in ("message_start", "message_delta"):
            for name, value in (reported or {}).items():
                if value is not None:
                    usage[name] = value
    return usage


def split_writes(entry: dict[str, Any], request: dict[str, Any]) -> tuple[int, int]:
    """Cache writes of five minutes and of an hour."""
    split = entry.get("cache_creation") or {}
    five, hour = split.get("ephemeral_5m_input_tokens") or 0, split.get("ephemeral_1h_input_tokens") or 0
    left = max(0, (entry.get("cache_creation_input_tokens") or 0) - five - hour)
    if '"ttl": "1h"' in json.dumps(request):
        return five, hour + left
    return five + left, hour


def is_free_refusal(recording: Recording) -> bool:
    """Whether it is a refusal before any output, of a category that isn't billed (docs/pricing.md)."""
    body = recording.body.decode()
    if recording.status != 200 or '"refusal"' not in body:
        return False
    if recording.streams:
        events = [json.loads(line[5:]) for line in body.split("\n") if line.startswith("data:")]
        deltas = [event["delta"] for event in events if event["type"] == "message_delta"]
        ended = {name: value for delta in deltas for name, value in delta.items() if value is not None}
        begun = [event["content_block"] for event in events if event["type"] == "content_block_start"]
        said = any(event["type"] == "content_block_delta" for event in events)
    else:
        ended = json.loads(body)
        begun, said = ended.get("content") or [], False
    wrote = said or any(block["type"] != "text" or block["text"] for block in begun)
    category = (ended.get("stop_details") or {}).get("category")
    return ended.get("stop_reason") == "refusal" and not wrote and category not in BILLED_REFUSALS


# https://platform.claude.com/docs/en/build-with-claude/refusals-and-fallback (November 2026)
BILLED_REFUSALS = ("bio", "frontier_llm", "reasoning_extraction")


def asked_model(recording: Recording) -> str:
    """The model that the request named."""
    model: str = recording.request["model"]
    return model
