"""What resellers of models do beyond Anthropic's API. A request that asks for it is refused: no usage report says what
it costs, or it may choose a model that the key may not use. Pure.

An administrator can still ask for it: by an alias, or in the reseller's own settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from messages_api.request.body import Tool
from messages_api.request.plain import NAME, refuse

OTHER_MODEL = "name other models in fallbacks"
ANY_MODEL = "it may choose a model that the key may not use"
UNCOVERED = "no budget covers what they cost"
UNCOVERED_TIER = "no budget covers what it costs"
SEARCHES = "no budget covers what its searches cost"

# Members that choose a model or have the seller search the web, in lower case, as of November 2026:
# - OpenRouter: https://openrouter.ai/docs/guides/routing/model-fallbacks and …/guides/features/presets
# - Vercel's AI Gateway: https://vercel.com/docs/ai-gateway/models-and-providers/model-fallbacks
# - LiteLLM: https://docs.litellm.ai/docs/proxy/reliability
# - OpenAI, xAI's Live Search, Alibaba's Model Studio, Perplexity
MEMBERS = {
    "models": OTHER_MODEL,
    "context_window_fallbacks": OTHER_MODEL,
    "context_window_fallback_dict": OTHER_MODEL,
    "content_policy_fallbacks": OTHER_MODEL,
    "preset": ANY_MODEL,
    "provideroptions": ANY_MODEL,
    "plugins": UNCOVERED,
    "web_search_options": UNCOVERED,
    "search_parameters": UNCOVERED,
    "search_options": UNCOVERED,
    "enable_search": UNCOVERED,
}

# What turns OpenRouter's web plugin on (https://openrouter.ai/docs/features/web-search, November 2026).
PLUGIN = re.compile(r":online(?![a-z0-9])", re.IGNORECASE)
# Settings that are stored at OpenRouter, with models and plugins of their own. An alias may have them.
# https://openrouter.ai/docs/guides/features/presets (November 2026)
PRESET = "@preset/"
# Tools that OpenRouter runs for a fee. https://openrouter.ai/docs/guides/features/server-tools (November 2026)
OPENROUTERS = "openrouter:"
# Service tiers that cost more than the standard one and that Anthropic has no request for: its own are `auto` and
# `standard_only` (https://docs.claude.com/en/api/service-tiers). `fast` is held and billed as fast mode. OpenRouter and
# its like pass `priority` on (https://openrouter.ai/docs/guides/features/service-tiers, November 2026).
DEARER_TIERS = ("priority", "ultrafast", "ultra_fast", "ultra-fast", "turbo")


def check_members(names: Iterable[str]) -> None:
    """Check names of unknown members at the top of a request, in any case: some sellers ignore it.

    Raises:
        GatewayError: 400, one is a reseller's.
    """
    for name in names:
        if (why := MEMBERS.get(name.casefold())) is not None:
            refuse(f"{name[:NAME]}: Not allowed here: {why}")


def check_models(names: Iterable[str]) -> None:
    """Check names of models.

    Raises:
        GatewayError: 400, one has the model search the web, or stands for any model.
    """
    for name in names:
        if PLUGIN.search(name):
            refuse(f"model: `:online` is not allowed here: {SEARCHES}")
        if PRESET in name.casefold():
            refuse(f"model: `{PRESET}` is not allowed here: {ANY_MODEL}")


def check_tier(tier: str | None) -> None:
    """Check a service tier, in any case.

    Raises:
        GatewayError: 400, it is dearer than what is held.
    """
    if tier and any(word in tier.casefold() for word in DEARER_TIERS):
        refuse(f"service_tier: Not allowed here: {UNCOVERED_TIER}. Choose auto or standard_only")


def check_tools(tools: Iterable[Tool]) -> None:
    """Check tools.

    Raises:
        GatewayError: 400, a reseller runs one for a fee.
    """
    if any(str(tool.type).casefold().startswith(OPENROUTERS) for tool in tools):
        refuse(f"tools: Those of OpenRouter are not allowed here: {UNCOVERED}")
