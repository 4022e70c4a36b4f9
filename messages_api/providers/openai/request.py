"""A Messages request as a chat completions request. Pure.

What can't be expressed is refused by the name of its field; what is left out changes nothing that a caller could see.
docs/providers.md has the table of both.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, NoReturn

import msgspec

from messages_api import errors
from messages_api.providers.openai.dialects import Dialect

# Members that are dealt with below, and those that change nothing: caches are the provider's own affair.
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
# Values that ask for nothing beyond what every provider does.
HARMLESS: dict[str, tuple[Any, ...]] = {
    "speed": ("standard",),
    "inference_geo": ("global",),
    "mcp_servers": ([],),
    "fallbacks": ([],),
}
# OpenAI takes no longer names of users; whoever has one is known by its digest.
USER_LENGTH = 64
# Up to so many tokens of thinking, an effort is low or medium.
LOW_BUDGET, MEDIUM_BUDGET = 4_096, 16_384
# Of a member that the caller made up, in our words about it.
NAME_LENGTH = 60
# The name that a schema has to have.
ANSWER = "answer"

_decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


def refuse(field: str, why: str) -> NoReturn:
    """Refuse what this protocol has no words for.

    Raises:
        GatewayError: 400.
    """
    raise errors.invalid_request(f"{field}: {why}", reason="not_translatable")


def read(body: bytes) -> dict[str, Any]:
    """A request that was checked (schema.py), with `?` for halves of characters, which UTF-8 doesn't have."""
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
    """Everything of a request but its model and its messages.

    Raises:
        GatewayError: 400, it can't be expressed.
    """
    check_members(request)
    asked: dict[str, Any] = {spoken.limit: limit(request)}
    for name in ("temperature", "top_p"):
        if request.get(name) is not None:
            asked[name] = request[name]
    if request.get("top_k") is not None:
        if not spoken.top_k:
            refuse("top_k", "this model's provider has no such setting")
        asked["top_k"] = request["top_k"]
    if stops := request.get("stop_sequences"):
        if spoken.stops is not None and len(stops) > spoken.stops:
            refuse("stop_sequences", f"this model's provider takes at most {spoken.stops}")
        if "" in stops:
            # Some would stop at once, others refuse it in words about `stop`.
            refuse(f"stop_sequences.{stops.index('')}", "Expected at least one character")
        asked["stop"] = stops
    if request.get("stream"):
        asked |= {"stream": True} | ({"stream_options": {"include_usage": True}} if spoken.asks_usage else {})
    user = (request.get("metadata") or {}).get("user_id")
    if user and spoken.user:
        asked[spoken.user] = user if len(user) <= USER_LENGTH else sha256(user.encode()).hexdigest()
    if (tier := spoken.tiers.get(request.get("service_tier") or "")) is not None:
        asked["service_tier"] = tier
    return asked | thinking(request, spoken) | form(request, spoken) | tools(request, spoken)


def check_members(request: dict[str, Any]) -> None:
    """Refuse members that mean something which this protocol has no words for; null is as good as left out."""
    for name, value in request.items():
        if name in TRANSLATED or value is None or value in HARMLESS.get(name, ()):
            continue
        if name == "context_management" and only_clears(value):
            continue
        refuse(name[:NAME_LENGTH], "not available with this model's provider")
    for name, value in (request.get("output_config") or {}).items():
        if name not in ("format", "effort") and value is not None:
            refuse(f"output_config.{name[:NAME_LENGTH]}", "not available with this model's provider")


def only_clears(management: Any) -> bool:
    """Whether a context is only to be made shorter where it is long, which an answer need not tell of."""
    edits = management.get("edits") if isinstance(management, dict) else None
    return all(isinstance(edit, dict) and str(edit.get("type")).startswith("clear_") for edit in edits or ())


def limit(request: dict[str, Any]) -> int:
    """The most tokens of output."""
    most: int = request["max_tokens"]
    if most == 0:
        refuse("max_tokens", "this model's provider can't be asked for nothing: at least 1")
    return most


def thinking(request: dict[str, Any], spoken: Dialect) -> dict[str, Any]:
    """Whether to think, and how hard. What says nothing leaves it to the model; a stop to it, too, where a model that
    always thinks would refuse."""
    wanted = request.get("thinking") or {}
    kind, budget = wanted.get("type"), wanted.get("budget_tokens")
    effort = (request.get("output_config") or {}).get("effort")
    if effort is not None and effort not in spoken.efforts:
        refuse("output_config.effort", f"Expected one of {', '.join(spoken.efforts)}")
    if kind not in (None, "enabled", "adaptive", "disabled"):
        refuse("thinking.type", "not available with this model's provider")
    if effort is None and kind == "enabled" and (spoken.thinking != "reasoning" or budget is None):
        effort = effort_of(budget)
    level = {"reasoning_effort": spoken.efforts[effort]} if effort is not None else {}
    if kind == "disabled":
        return {"switch": {"thinking": {"type": kind}}, "reasoning": {"reasoning": {"enabled": False}}}.get(
            spoken.thinking, {}
        )
    if spoken.thinking == "switch":
        if kind is None and forces_a_tool(request):
            return {"thinking": {"type": "disabled"}}
        return level | ({"thinking": {"type": "enabled"}} if kind else {})
    if spoken.thinking == "reasoning":
        if effort is not None:
            return {"reasoning": {"effort": spoken.efforts[effort]}}
        if kind == "enabled":
            return {"reasoning": {"max_tokens": budget}}
        return {"reasoning": {"enabled": True}} if kind else {}
    return level


def forces_a_tool(request: dict[str, Any]) -> bool:
    """Whether the model must use a tool. Who thinks may not be forced, at Anthropic as at DeepSeek, where models think
    unless they are told not to: https://api-docs.deepseek.com/guides/thinking_mode."""
    return (request.get("tool_choice") or {}).get("type") in ("any", "tool")


def effort_of(budget: Any) -> str:
    """The effort that a budget of tokens amounts to."""
    tokens = budget if isinstance(budget, int) else 0
    return "low" if tokens < LOW_BUDGET else "medium" if tokens < MEDIUM_BUDGET else "high"


def form(request: dict[str, Any], spoken: Dialect) -> dict[str, Any]:
    """The schema that an answer is held to. Without a way to leave members out, only one that requires all of its
    members can be kept to strictly; others are kept to as well as the model can."""
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
    schema = wanted["schema"]
    described = {"name": ANSWER, "schema": schema, "strict": requires_all(schema)}
    return {"response_format": {"type": "json_schema", "json_schema": described}}


def requires_all(schema: Any) -> bool:
    """Whether every object in a schema requires every member that it may have."""
    if isinstance(schema, list):
        return all(map(requires_all, schema))
    if not isinstance(schema, dict):
        return True
    members, required = schema.get("properties"), schema.get("required")
    if isinstance(members, dict):
        if not isinstance(required, list) or not set(members) <= set(map(str, required)):
            return False
        if schema.get("additionalProperties") is not False or not all(map(requires_all, members.values())):
            return False
    elif schema.get("type") == "object" and schema.get("additionalProperties") is not False:
        return False
    return all(requires_all(value) for name, value in schema.items() if name not in ("properties", "enum", "const"))


def tools(request: dict[str, Any], spoken: Dialect) -> dict[str, Any]:
    """The tools, and whether they are to be used."""
    offered = [function(tool, f"tools.{index}", spoken) for index, tool in enumerate(request.get("tools") or ())]
    choice = request.get("tool_choice") or {}
    if not offered:
        if forces_a_tool(request):
            refuse("tool_choice", "there are no tools to use")
        return {}
    asked: dict[str, Any] = {"tools": offered}
    match choice.get("type"):
        case "auto" | "none" as plain:
            asked["tool_choice"] = plain
        case "any":
            asked["tool_choice"] = spoken.required
        case "tool":
            asked["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    if choice.get("disable_parallel_tool_use"):
        if not spoken.parallel:
            refuse(
                "tool_choice.disable_parallel_tool_use", "this model's provider may always use several tools at once"
            )
        asked["parallel_tool_calls"] = False
    return asked


def function(tool: dict[str, Any], where: str, spoken: Dialect) -> dict[str, Any]:
    """A tool of the caller's own. Others are Anthropic's, and no other model knows how to use them."""
    if tool.get("type") not in (None, "custom"):
        refuse(f"{where}.type", "this model's provider knows custom tools only")
    name = tool["name"]
    if spoken.name_length is not None and len(name) > spoken.name_length:
        refuse(f"{where}.name", f"this model's provider takes at most {spoken.name_length} characters")
    described: dict[str, Any] = {"name": name, "parameters": tool["input_schema"]}
    if tool.get("description"):
        described["description"] = tool["description"]
    if tool.get("strict"):
        described["strict"] = True
    return {"type": "function", "function": described}
