"""Requests of two sizes as clients of a coding assistant send them, and the answers of the fake provider."""

from __future__ import annotations

import json

MODEL = "claude-sonnet-4-5"
# What every answer reports.
INPUT_TOKENS, OUTPUT_TOKENS = 1_200, 56
EVENTS = 56
PIECES = EVENTS - 5

PARAGRAPH = "Please read the function below and say why its test fails in March; keep it short, and quote the line. "
SYSTEM = "You help people who write programs. Answer in one paragraph. " * 8
CODE = 'def total(rows):\n\treturn sum(row["price"] * row["count"] for row in rows)  # in €\n'
TOOL = "Looks for a pattern in all files of the project, and returns the lines that match, with their numbers. "


def short() -> dict[str, object]:
    """About 2 kB: three turns of text."""
    return {
        "model": MODEL,
        "max_tokens": 1024,
        "system": SYSTEM,
        "temperature": 0.5,
        "metadata": {"user_id": "user-17"},
        "messages": [
            {"role": "user", "content": PARAGRAPH * 5},
            {"role": "assistant", "content": "I need to see the caller, too. " * 4},
            {"role": "user", "content": [{"type": "text", "text": CODE * 8}]},
        ],
    }


def long() -> dict[str, object]:
    """About 100 kB: 20 tools, and turns that use them."""
    parameter = {"type": "string", "description": "what to look for, as a regular expression without flags"}
    schema = {"type": "object", "properties": {f"part_{n}": parameter for n in range(6)}, "required": ["part_0"]}
    tools = [{"name": f"search_{n}", "description": TOOL * 4, "input_schema": schema} for n in range(20)]
    messages: list[dict[str, object]] = [{"role": "user", "content": "Find out why the total is wrong."}]
    body = short() | {"max_tokens": 8192, "tools": tools, "messages": messages}
    while len(json.dumps(body, ensure_ascii=False)) < 99_000:
        use = {"id": f"toolu_{len(messages):024d}", "name": "search_3", "input": {"part_0": r"total\(", "limit": 20}}
        said = {"type": "text", "text": "The caller comes next. " * 6}
        found = {"type": "text", "text": CODE * 14}
        messages.append({"role": "assistant", "content": [said, {"type": "tool_use", **use}]})
        messages.append(
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": use["id"], "content": [found]}]}
        )
    return body


def encoded(body: dict[str, object], *, model: str, stream: bool) -> bytes:
    """A request's bytes, for a model by the name that a gateway knows it by."""
    return json.dumps(body | {"model": model, "stream": stream}, ensure_ascii=False).encode()


def usage(output: int) -> dict[str, object]:
    return {
        "input_tokens": INPUT_TOKENS,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": output,
        "service_tier": "standard",
    }


def message(**members: object) -> dict[str, object]:
    fixed = {"id": "msg_01XFDUDYJgAACzvnptvVoYEL", "type": "message", "role": "assistant", "model": MODEL}
    return fixed | {"content": [], "stop_reason": None, "stop_sequence": None} | members


def answer() -> bytes:
    """The JSON of a whole answer."""
    said = [{"type": "text", "text": "The price is a string in one row, so the product repeats it. " * 8}]
    return json.dumps(message(content=said, stop_reason="end_turn", usage=usage(OUTPUT_TOKENS))).encode()


def event(kind: str, **members: object) -> bytes:
    """An event as Anthropic frames it."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **members})}\n\n".encode()


def delta(text: str) -> bytes:
    return event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def beginning() -> bytes:
    """The two events before the first piece of text."""
    return event("message_start", message=message(usage=usage(1))) + event(
        "content_block_start", index=0, content_block={"type": "text", "text": ""}
    )


def end() -> bytes:
    """The three events after the last piece of text."""
    stop = {"stop_reason": "end_turn", "stop_sequence": None}
    return (
        event("content_block_stop", index=0)
        + event("message_delta", delta=stop, usage={"output_tokens": OUTPUT_TOKENS})
        + event("message_stop")
    )
