"""The translation of a Messages request to a chat completions request. Pure.

A member that can't be expressed is refused by its name. A member is left out only if the client can't see the
difference, or can't change what it sends. docs/providers.md has the table of both.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

import msgspec

from messages_api.providers.openai import schemas
from messages_api.providers.openai.dialects import Dialect
from messages_api.providers.openai.tools import forces_a_tool, tools
from messages_api.providers.openai.traits import LEVELS
from messages_api.providers.openai.words import NAME_LENGTH, NOT_HERE, kept, refuse
from messages_api.server import errors

# Members that this module translates.
TRANSLATED = frozenset(
    (
        "model",
        "max_tokens",
        "messages",
        "system",
        "stream",
        "tools",
        "tool_choice",
        "stop_sequences",
        "temperature",
        "top_p",
        "top_k",
        "metadata",
        "service_tier",
        "thinking",
        "output_config",
        "output_format",
        "cache_control",
    )
)
# Members without a visible effect on the answer. Claude Code and Anthropic's SDK set most of them by default:
# https://code.claude.com/docs/en/llm-gateway-protocol (August 2026), and for `diagnostics`
# https://platform.claude.com/docs/en/build-with-claude/cache-diagnostics. `speed` only changes how fast the answer is.
LEFT_OUT = frozenset(("diagnostics", "betas", "anthropic_beta", "anthropic_version", "speed", "fallback_credit_token"))
# Values that every provider satisfies.
HARMLESS: dict[str, tuple[Any, ...]] = {
    "inference_geo": ("global",),
    "mcp_servers": ([],),
    "fallbacks": ([],),
}
# How the next token is chosen.
SAMPLING = ("temperature", "top_p")
# The longest id of a user at OpenAI; a longer one is replaced by its digest.
USER_LENGTH = 64
# Budgets of thinking below these are a low and a medium effort.
LOW_BUDGET, MEDIUM_BUDGET = 4_096, 16_384
# OpenAI requires a name for the schema.
ANSWER = "answer"

_decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


def read(body: bytes) -> dict[str, Any]:
    """Decode a checked request (request/schema.py), with `?` for half characters, which UTF-8 can't encode."""
    try:
        request = _decode(body)
    except (ValueError, RecursionError):
        try:
            request = json.loads(json.dumps(json.loads(body), ensure_ascii=False).encode("utf-8", "replace"))
        except (ValueError, RecursionError):
            raise errors.invalid_request("The request body is not valid JSON.") from None
    if not isinstance(request, dict):
        raise errors.invalid_request("The request body is not a JSON object.")
    return request


def settings(request: dict[str, Any], spoken: Dialect) -> dict[str, Any]:
    """Translate all members of a request but its model and its messages.

    Raises:
        GatewayError: 400, a member can't be expressed.
    """
    check_members(request)
    asked: dict[str, Any] = {spoken.limit: limit(request, spoken)}
    for name in SAMPLING:
        if request.get(name) is not None:
            asked[name] = request[name]
    if request.get("top_k") is not None:
        if not spoken.top_k:
            refuse("top_k", "this model's provider has no such setting")
        asked["top_k"] = request["top_k"]
    if stops := request.get("stop_sequences"):
        if "" in stops:
            # Some providers would stop at once, others refuse it with a message about `stop`.
            refuse(f"stop_sequences.{stops.index('')}", "Expected at least one character")
        if spoken.takes_stops:
            if spoken.stops is not None and len(stops) > spoken.stops:
                refuse("stop_sequences", f"this model's provider takes at most {spoken.stops}")
            asked["stop"] = stops
    if request.get("stream"):
        asked |= {"stream": True} | ({"stream_options": {"include_usage": True}} if spoken.asks_usage else {})
    user = (request.get("metadata") or {}).get("user_id")
    if user and spoken.user:
        asked[spoken.user] = user if len(user) <= USER_LENGTH else sha256(user.encode()).hexdigest()
    if (tier := spoken.tiers.get(request.get("service_tier") or "")) is not None:
        asked["service_tier"] = tier
    if spoken.caches_all and (breakpoint := request.get("cache_control")):
        asked["cache_control"] = kept(breakpoint)
    asked |= thinking(request, spoken) | form(request, spoken) | tools(request, spoken)
    if "tools" in asked and spoken.beside_tools:
        asked.pop("reasoning_effort", None)
        asked |= {"reasoning_effort": "none"} if spoken.beside_tools == "none" else {}
    if spoken.samples is not None and asked.get("reasoning_effort", "") not in spoken.samples:
        for name in SAMPLING:
            asked.pop(name, None)
    return asked


def check_members(request: dict[str, Any]) -> None:
    """Refuse members that this protocol can't express. A null counts as left out."""
    for name, value in request.items():
        if name in TRANSLATED or name in LEFT_OUT or value is None or value in HARMLESS.get(name, ()):
            continue
        if name == "context_management":
            check_edits(value)
        elif name != "container" or not is_left_over(value, request):
            refuse(name[:NAME_LENGTH], NOT_HERE)
    for name, value in (request.get("output_config") or {}).items():
        # `task_budget` is left out: it only hints to the model how much a loop of calls may use.
        if name not in ("format", "effort", "task_budget") and value is not None:
            refuse(f"output_config.{name[:NAME_LENGTH]}", NOT_HERE)


def check_edits(management: dict[str, Any]) -> None:
    """Refuse edits of the context that show in the answer, as a compaction does with its block. Edits that only clear
    parts of a long context are left out."""
    for index, edit in enumerate(management.get("edits") or ()):
        if not edit["type"].startswith("clear_"):
            refuse(f"context_management.edits.{index}.type", NOT_HERE)
    for name, value in management.items():
        if name != "edits" and value is not None:
            refuse(f"context_management.{name[:NAME_LENGTH]}", NOT_HERE)


def is_left_over(container: Any, request: dict[str, Any]) -> bool:
    """Whether a request names a container only because Claude ran code in it in earlier turns."""
    name = container if isinstance(container, str) else container.get("id")
    skills = not isinstance(container, str) and container.get("skills")
    blocks = (block for message in request["messages"] for block in message.get("content") or ())
    kinds = (str(block.get("type")) for block in blocks if isinstance(block, dict))
    return bool(name) and not skills and any(kind.endswith("code_execution_tool_result") for kind in kinds)


def limit(request: dict[str, Any], spoken: Dialect) -> int:
    """The most tokens of output: no more than the model can write, because a provider would refuse a request for more.
    Clients ask for what Claude can write."""
    most: int = request["max_tokens"]
    if most == 0:
        refuse("max_tokens", "this model's provider needs at least 1")
    return most if spoken.most is None else min(most, spoken.most)


def thinking(request: dict[str, Any], spoken: Dialect) -> dict[str, Any]:
    """Whether the model thinks, and how much. Without a setting it decides itself. `disabled` is passed on only if the
    provider has a switch: elsewhere a model that always thinks would refuse the request."""
    wanted = request.get("thinking") or {}
    kind, budget = wanted.get("type"), wanted.get("budget_tokens")
    effort = effort_asked(request)
    if kind not in (None, "enabled", "adaptive", "disabled"):
        refuse("thinking.type", NOT_HERE)
    if effort is None and kind == "enabled" and (spoken.thinking != "reasoning" or budget is None):
        effort = effort_of(budget)
    word = spoken.efforts.get(effort) if effort is not None else None
    level = {"reasoning_effort": word} if word is not None else {}
    if kind == "disabled":
        return {"switch": {"thinking": {"type": kind}}, "reasoning": {"reasoning": {"enabled": False}}}.get(
            spoken.thinking, {}
        )
    if spoken.thinking == "switch":
        if kind is None and forces_a_tool(request):
            return {"thinking": {"type": "disabled"}}
        return level | ({"thinking": {"type": "enabled"}} if kind else {})
    if spoken.thinking == "reasoning":
        if word is not None:
            return {"reasoning": {"effort": word}}
        if kind == "enabled":
            return {"reasoning": {"max_tokens": budget}}
        return {"reasoning": {"enabled": True}} if kind else {}
    return level


def effort_asked(request: dict[str, Any]) -> str | None:
    """The level of effort. One in a system message in the middle of the conversation applies to that turn."""
    where, config = "output_config", request.get("output_config")
    for index, message in enumerate(request["messages"]):
        if message["role"] == "assistant":
            where, config = "output_config", request.get("output_config")
        elif message["role"] == "system" and isinstance(own := message.get("output_config"), dict) and own:
            where, config = f"messages.{index}.output_config", own
    effort = (config or {}).get("effort")
    if effort is not None and effort not in LEVELS:
        refuse(f"{where}.effort", f"Expected one of {', '.join(LEVELS)}")
    return effort


def effort_of(budget: Any) -> str:
    """The level of effort for a budget of tokens."""
    tokens = budget if isinstance(budget, int) else 0
    return "low" if tokens < LOW_BUDGET else "medium" if tokens < MEDIUM_BUDGET else "high"


def form(request: dict[str, Any], spoken: Dialect) -> dict[str, Any]:
    """The schema of the answer. If strict mode doesn't support the schema, the model follows it as well as it can."""
    configured = (request.get("output_config") or {}).get("format")
    field, wanted = (
        ("output_config.format", configured) if configured else ("output_format", request.get("output_format"))
    )
    if not wanted:
        return {}
    if wanted.get("type") != "json_schema":
        refuse(f"{field}.type", "Expected 'json_schema'")
    if not spoken.schemas:
        refuse(field, "this model's provider can't hold answers to a schema")
    schema = schemas.filled(wanted["schema"]) if spoken.fills else wanted["schema"]
    described = {"name": ANSWER, "schema": schema, "strict": schemas.strictly(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": described}}
