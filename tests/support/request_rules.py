"""The rules of docs/validation.md in code of their own: written from that page, not from the gateway's code."""

from __future__ import annotations

import re

# Neither searches nor stored settings of a reseller.
MODEL_NAME = r"(?!.*:(?i:online)(?![A-Za-z0-9]))(?!.*(?i:@preset/))[!-~]{1,200}"


def a(kind, value, optional=True):
    """Whether it is of this kind; a boolean is no number."""
    if value is None:
        return optional
    if kind in (int, (int, float)) and isinstance(value, bool):
        return False
    return isinstance(value, kind)


def is_model(value):
    return isinstance(value, str) and re.fullmatch(MODEL_NAME, value) is not None


def is_cache_control(value):
    return value is None or (
        isinstance(value, dict) and value.get("type") == "ephemeral" and value.get("ttl") in (None, "5m", "1h")
    )


STRINGS = {
    "text": ["text"],
    "tool_use": ["id", "name"],
    "server_tool_use": ["id", "name"],
    "tool_result": ["tool_use_id"],
    "thinking": ["thinking", "signature"],
    "redacted_thinking": ["data"],
    "search_result": ["source", "title"],
    "container_upload": ["file_id"],
}
CACHEABLE = [*STRINGS.keys() - {"thinking", "redacted_thinking"}, "image", "document"]
SOURCES = {"base64": ["media_type", "data"], "text": ["media_type", "data"], "url": ["url"], "file": ["file_id"]}


def typed(value):
    return isinstance(value, dict) and isinstance(value.get("type"), str)


def is_block(block):
    if not typed(block):
        return False
    kind = block["type"]
    if not all(isinstance(block.get(name), str) for name in STRINGS.get(kind, [])):
        return False
    if kind in CACHEABLE and not is_cache_control(block.get("cache_control")):
        return False
    if kind in ("thinking", "redacted_thinking", "fallback") and block.get("cache_control") is not None:
        return False
    if kind == "text" and not all_of(lambda each: isinstance(each, dict), block.get("citations")):
        return False
    if kind in ("document", "search_result") and not a(dict, block.get("citations")):
        return False
    if kind == "search_result" and not (isinstance(block.get("content"), list) and all(map(typed, block["content"]))):
        return False
    if kind in ("image", "document"):
        source = block.get("source")
        if not typed(source) or not all(isinstance(source.get(name), str) for name in SOURCES.get(source["type"], [])):
            return False
    if kind == "document" and not (a(str, block.get("title")) and a(str, block.get("context"))):
        return False
    if kind in ("tool_use", "server_tool_use") and not isinstance(block.get("input"), dict):
        return False
    if kind == "tool_result":
        content = block.get("content")
        inner = all(typed(each) for each in content) if isinstance(content, list) else a(str, content)
        return inner and a(bool, block.get("is_error"))
    return True


def is_content(content):
    return isinstance(content, str) or (isinstance(content, list) and all(is_block(block) for block in content))


def is_turn(turn):
    if not isinstance(turn, dict) or turn.get("role") not in ("user", "assistant", "system"):
        return False
    return is_content(turn["content"]) if "content" in turn else turn["role"] == "system"


def is_tool(tool):
    if not isinstance(tool, dict) or not a(str, tool.get("type")) or not is_cache_control(tool.get("cache_control")):
        return False
    kind = tool.get("type")
    if tool.get("defer_loading") is True and tool.get("cache_control") is not None:
        return False
    if kind in SEARCHES and tool.get("allowed_domains") and tool.get("blocked_domains"):
        return False
    if kind == "advisor_20260301":
        return is_model(tool.get("model"))
    return kind not in (None, "custom") or (
        isinstance(tool.get("name"), str) and isinstance(tool.get("input_schema"), dict)
    )


SEARCHES = ["web_search_20250305", "web_search_20260209", "web_search_20260318"]


def is_choice(choice):
    if choice is None:
        return True
    if not isinstance(choice, dict) or choice.get("type") not in ("auto", "any", "tool", "none"):
        return False
    if choice["type"] == "tool" and not isinstance(choice.get("name"), str):
        return False
    return choice["type"] == "none" or a(bool, choice.get("disable_parallel_tool_use"))


def is_thinking(thinking):
    if thinking is None:
        return True
    if not typed(thinking):
        return False
    budget = thinking.get("budget_tokens")
    return thinking["type"] != "enabled" or (a(int, budget, optional=False) and budget >= 1024)


def is_server(server):
    return typed(server) and (
        server["type"] != "url" or (isinstance(server.get("name"), str) and isinstance(server.get("url"), str))
    )


def are_fallbacks(value):
    if value is None or value == "default":
        return True
    return isinstance(value, list) and (all(map(is_model, value)) or all(map(is_fallback, value)))


def is_fallback(value):
    return (
        isinstance(value, dict)
        and is_model(value.get("model"))
        and is_max_tokens(value.get("max_tokens"))
        and a(str, value.get("speed"))
        and is_thinking(value.get("thinking"))
        and is_output_config(value.get("output_config"))
    )


def is_max_tokens(value):
    return a(int, value) and 0 <= (value or 0) <= 10_000_000


def is_tier(value):
    dearer = ("priority", "ultrafast", "ultra_fast", "ultra-fast", "turbo")
    return a(str, value) and not any(word in (value or "").casefold() for word in dearer)


def is_format(value):
    return value is None or (typed(value) and (value["type"] != "json_schema" or isinstance(value.get("schema"), dict)))


def is_output_config(value):
    return value is None or (
        isinstance(value, dict)
        and is_format(value.get("format"))
        and a(str, value.get("effort"))
        and a(dict, value.get("task_budget"))
    )


def leaves_room_to_speak(request):
    """The mistakes of a request with BETAS, which has no beta for thinking between uses of tools."""
    thinking, limit = request.get("thinking"), request["max_tokens"]
    return (
        thinking is None
        or thinking["type"] != "enabled"
        or bool(request.get("tools") or request.get("mcp_servers"))
        or request.get("thread") is not None
        or limit == 0
        or thinking["budget_tokens"] < limit
    )


def go_together(request):
    get = request.get
    theirs = get("fallbacks") == "default" or any(isinstance(each, dict) for each in get("fallbacks") or ())
    return not (theirs and get("fallback_credit_token") is not None) and not (
        get("compaction") is not None and get("context_management") is not None
    )


RESELLERS = {
    *("models", "context_window_fallbacks", "context_window_fallback_dict", "content_policy_fallbacks"),
    *("preset", "provideroptions"),
    *("plugins", "web_search_options", "search_parameters", "search_options", "enable_search"),
}


def is_in_lower_case(request):
    """Stricter than the page: nothing here has a name in upper case that isn't a known one."""
    within = [request[name] for name in ("thinking", "cache_control") if request.get(name)]
    within += [each for name in ("tools", "fallbacks", "mcp_servers") for each in request.get(name) or ()]
    objects = [request, *(each for each in within if isinstance(each, dict))]
    resold = any(str(each.get("type")).casefold().startswith("openrouter:") for each in objects)
    return (
        not resold
        and not RESELLERS & {name.lower() for name in request}
        and all(name == name.lower() for each in objects for name in each)
    )


def all_of(check, value):
    return value is None or (isinstance(value, list) and all(map(check, value)))


def within(low, high, value):
    return value is None or (a((int, float), value) and low <= value <= high)


def keeps_every_rule(request):
    """What the page says, in plain words."""
    get = request.get
    return (
        is_model(get("model"))
        and get("max_tokens") is not None
        and is_max_tokens(get("max_tokens"))
        and bool(get("messages"))
        and all_of(is_turn, get("messages"))
        and (get("system") is None or is_content(get("system")))
        and a(bool, get("stream"))
        and within(0, 1, get("temperature"))
        and within(0, 1, get("top_p"))
        and a(int, get("top_k"))
        and (get("top_k") or 0) >= 0
        and all_of(lambda each: isinstance(each, str), get("stop_sequences"))
        and a(dict, get("metadata"))
        and a(str, (get("metadata") or {}).get("user_id"))
        and all_of(is_tool, get("tools"))
        and is_choice(get("tool_choice"))
        and is_thinking(get("thinking"))
        and is_cache_control(get("cache_control"))
        and all_of(is_server, get("mcp_servers"))
        and are_fallbacks(get("fallbacks"))
        and is_tier(get("service_tier"))
        and a(str, get("inference_geo"))
        and a(str, get("speed"))
        and all(a((str, dict), get(name)) for name in ("container", "fallback_credit_token"))
        and is_format(get("output_format"))
        and is_output_config(get("output_config"))
        and all(
            a(dict, get(name))
            for name in ("context_management", "diagnostics", "compaction", "thread", "billing_policy")
        )
        and all_of(typed, (get("context_management") or {}).get("edits"))
        and leaves_room_to_speak(request)
        and go_together(request)
        and is_in_lower_case(request)
    )
