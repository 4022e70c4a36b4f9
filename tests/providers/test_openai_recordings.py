"""Recorded chat completions of many providers, through the gateway and read by Anthropic's SDK.

The oracle reads the recordings by OpenAI's and the providers' descriptions, not by the gateway's code.
"""

from __future__ import annotations

import json
import os
import random
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic

from messages_api.providers.openai.events import EventTranslation
from messages_api.providers.openai.expected import Expected
from tests.support.fake_provider import cut, pieces, whole
from tests.support.gateway import rows
from tests.support.openai_provider import GPT, issue_openai

FOLDER = Path(os.environ.get("RECORDINGS_DIR", "") or "/nonexistent", "openai_chat")
needs_recordings = pytest.mark.skipif(not FOLDER.is_dir(), reason="RECORDINGS_DIR names no folder of recordings")
ASKED: Any = {"model": GPT, "max_tokens": 64, "messages": [{"role": "user", "content": "Grüße 👋"}]}


@dataclass(frozen=True)
class Recording:
    """One exchange."""

    name: str
    status: int
    streams: bool
    body: bytes

    @property
    def said(self) -> list[dict[str, Any]]:
        """The completion, or the chunks of the stream."""
        if not self.streams:
            return [json.loads(self.body)]
        lines = (line[5:].strip() for line in self.body.split(b"\n") if line.startswith(b"data:"))
        return [json.loads(line) for line in lines if line != b"[DONE]"]


@cache
def recordings() -> list[Recording]:
    """Every chat completion, in order."""
    found = []
    for file in sorted(FOLDER.glob("*.json")) if FOLDER.is_dir() else ():
        exchange = json.loads(file.read_text())
        body = (exchange["response_body"] or "").encode()
        streams = body.startswith((b"data:", b":"))
        if streams or body.lstrip().startswith(b"{"):
            found.append(Recording(f"{exchange['host']}/{file.stem}", exchange["status"], streams, body))
    return found


# What a recording says


def text_of(value: Any) -> str:
    """The text of a content."""
    if isinstance(value, list):
        return "".join(part.get("text") or "" for part in value if part.get("type") == "text")
    return value or ""


def expected(recording: Recording) -> tuple[str, list[tuple[str, Any]], int | None]:
    """The text, the tools that were used, and the tokens of output."""
    calls: dict[Any, dict[str, str]] = {}
    text, output = "", None
    for said in recording.said:
        for choice in said.get("choices") or []:
            part = choice.get("delta") or choice.get("message") or {}
            text += text_of(part.get("content"))
            for number, call in enumerate(part.get("tool_calls") or []):
                made = calls.setdefault(call.get("index", number), {"name": "", "arguments": ""})
                made["name"] = made["name"] or call["function"].get("name") or ""
                made["arguments"] += call["function"].get("arguments") or ""
        if usage := said.get("usage") or (said.get("x_groq") or {}).get("usage"):
            output = max(usage["completion_tokens"], usage["total_tokens"] - usage["prompt_tokens"])
    return text, [(call["name"], json.loads(call["arguments"] or "{}")) for call in calls.values()], output


def answered(recording: Recording, seed: int) -> list[Any]:
    """How the upstream answers with it: a stream is cut anywhere."""
    if recording.streams:
        return pieces(200, cut(recording.body, random.Random(seed), 20), pause=0.002)
    return whole(recording.status, recording.body)


def broke(recording: Recording) -> bool:
    """Whether it is an error, or a stream with one in it."""
    return recording.status != 200 or any(said.get("error") for said in recording.said)


@needs_recordings
@pytest.mark.parametrize("part", range(4))
def test_every_recorded_answer_reads_as_the_same(web, upstream, served, part):
    caller = issue_openai(upstream)
    chosen = [recording for recording in recordings() if not broke(recording)][part::4]
    assert chosen
    with Anthropic(base_url=web.url, api_key=caller.key, max_retries=0) as client:
        for seed, recording in enumerate(chosen):
            upstream.answer = answered(recording, seed)
            if recording.streams:
                with client.messages.stream(**ASKED) as stream:
                    message = stream.get_final_message()
            else:
                message = client.messages.create(**ASKED)
            text, calls, output = expected(recording)
            content = message.content
            assert "".join(block.text for block in content if block.type == "text") == text, recording.name
            used = [(block.name, block.input) for block in content if block.type == "tool_use"]
            assert used == calls, recording.name
            assert message.stop_reason in ("end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal")
            assert not used or message.stop_reason in ("tool_use", "max_tokens"), recording.name
            assert output is None or message.usage.output_tokens == output, recording.name
    entries = rows(len(chosen), seconds=30)
    assert {entry.status for entry in entries} == {"completed"}
    outputs = [expected(recording)[2] for recording in chosen]
    assert [entry.estimated for entry in entries] == [output is None for output in outputs]
    assert all(entry.cost > 0 for entry in entries)
    assert all(output in (None, entry.output_tokens) for entry, output in zip(entries, outputs, strict=True))


@needs_recordings
def test_the_events_of_a_recorded_stream_are_the_same_at_any_cut():
    source = random.Random(0)
    for recording in recordings():
        if recording.streams:
            whole_stream = events_of([recording.body])
            for _ in range(5):
                assert events_of(cut(recording.body, source, 400)) == whole_stream, recording.name


def events_of(parts: list[bytes]) -> bytes:
    """What a stream becomes, but for the ids that are made up."""
    events = EventTranslation(Expected(GPT, stream=True))
    return re.sub(rb"(unsigned|toolu|msg)_[0-9a-f]{24}", b"", b"".join([*map(events.feed, parts), events.finish()]))


@needs_recordings
def test_every_recorded_error_is_one_of_the_sdks(web, upstream, served):
    caller = issue_openai(upstream)
    chosen = [recording for recording in recordings() if broke(recording)]
    assert {recording.status for recording in chosen} >= {200, 400, 404, 429}
    with Anthropic(base_url=web.url, api_key=caller.key, max_retries=0) as client:
        for seed, recording in enumerate(chosen):
            upstream.answer = answered(recording, seed)
            with pytest.raises(anthropic.APIStatusError) as caught:
                list(client.messages.create(**ASKED, stream=True))
            assert caught.value.status_code == recording.status, recording.name
            assert caught.value.type, recording.name
    assert {entry.status for entry in rows(len(chosen), seconds=30)} == {"failed", "refused_by_provider"}
