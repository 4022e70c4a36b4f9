"""The translation of a request's tools and `tool_choice` to functions. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from messages_api.providers.openai import schemas
from messages_api.providers.openai.dialects import Dialect
from messages_api.providers.openai.words import refuse, string

# Anthropic's tools to search for tools: they are useless here, because all tools are offered from the beginning.
NEEDLESS = "tool_search_tool_"

# A tool with its place in the request.
PlacedTool = tuple[str, dict[str, Any]]


def tools(request: dict[str, Any], spoken: Dialect) -> dict[str, Any]:
    """The members of a chat completions request about tools."""
    functions = [function(tool, where, spoken) for where, tool in offered(request)]
    choice = request.get("tool_choice") or {}
    if not functions:
        if forces_a_tool(request):
            refuse("tool_choice", "the request has no tools to use")
        return {}
    asked: dict[str, Any] = {"tools": functions}
    match choice.get("type"):
        case "auto" | "none" as plain:
            asked["tool_choice"] = plain
        case "any":
            asked["tool_choice"] = spoken.required
        case "tool":
            asked["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    if choice.get("disable_parallel_tool_use") and not spoken.serial:
        if not spoken.parallel:
            refuse(
                "tool_choice.disable_parallel_tool_use", "this model's provider may always use several tools at once"
            )
        asked["parallel_tool_calls"] = False
    return asked


def forces_a_tool(request: dict[str, Any]) -> bool:
    """Whether the model must use a tool. A model that thinks can't be forced, neither at Anthropic nor at DeepSeek,
    where models think by default: https://api-docs.deepseek.com/guides/thinking_mode."""
    return (request.get("tool_choice") or {}).get("type") in ("any", "tool")


def offered(request: dict[str, Any]) -> list[PlacedTool]:
    """The tools at the end of the conversation: those of the request, with later additions and removals applied."""
    known = [(f"tools.{index}", tool) for index, tool in enumerate(request.get("tools") or ())]
    gone: set[str] = set()
    for where, change in changes(request):
        tool = change.get("tool")
        if not isinstance(tool, dict):
            refuse(f"{where}.tool", "Expected object")
        if isinstance(definition := tool.get("definition"), dict):
            known = [each for each in known if each[1].get("name") != definition.get("name")]
            known.append((f"{where}.tool.definition", definition))
        name = str((definition or tool).get("name"))
        gone = gone | {name} if change["type"] == "tool_removal" else gone - {name}
    return [
        (where, tool)
        for where, tool in known
        if tool.get("name") not in gone and not str(tool.get("type")).startswith(NEEDLESS)
    ]


def changes(request: dict[str, Any]) -> Iterator[PlacedTool]:
    """The blocks that add or remove tools, with their places."""
    for index, message in enumerate(request["messages"]):
        content = message.get("content")
        for at, block in enumerate(content if isinstance(content, list) else ()):
            where = f"messages.{index}.content.{at}"
            if not isinstance(block, dict):
                continue
            if block.get("type") in ("tool_addition", "tool_removal"):
                yield where, block
            elif block.get("type") == "compaction" and isinstance(inner := block.get("tool_changes"), list):
                yield from (
                    (f"{where}.tool_changes.{number}", each)
                    for number, each in enumerate(inner)
                    if isinstance(each, dict) and each.get("type") in ("tool_addition", "tool_removal")
                )


def function(tool: dict[str, Any], where: str, spoken: Dialect) -> dict[str, Any]:
    """A client's own tool as a function. The others are Anthropic's, and no other model can use them."""
    if tool.get("type") not in (None, "custom"):
        refuse(f"{where}.type", "this model's provider supports custom tools only")
    schema = tool.get("input_schema")
    if not isinstance(schema, dict):
        refuse(f"{where}.input_schema", "Expected object")
    parameters = schemas.parameters(schema, flat=spoken.flat) if spoken.fills else schema
    if spoken.grammars:
        parameters = schemas.loosened(parameters)
    described: dict[str, Any] = {"name": string(tool, "name", where), "parameters": parameters}
    if tool.get("description"):
        described["description"] = tool["description"]
    if tool.get("strict") and spoken.strict and schemas.strictly(parameters):
        described["strict"] = True
    return {"type": "function", "function": described}
