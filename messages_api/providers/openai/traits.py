"""What single models accept, in addition to their host's dialect, by their names. Data.

An entry applies to all spellings of a name (`gpt-5-mini-2025-08-07`, `openai/gpt-5-mini`, `ft:gpt-4.1-mini:acme`). If
several entries change the same member, the first one counts. An unknown name changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Anthropic's levels of effort; `Words` are a provider's names for them.
LEVELS = ("low", "medium", "high", "xhigh", "max")
Words = Mapping[str, str]


def nearest(*known: str) -> Words:
    """For each level the nearest known one, or the higher one of two equally near."""
    places = [LEVELS.index(level) for level in known]
    return {level: LEVELS[min(places, key=lambda place: (abs(place - at), -place))] for at, level in enumerate(LEVELS)}


NO_EFFORT: Words = {}
LOW_TO_HIGH = nearest("low", "medium", "high")


@dataclass(frozen=True, slots=True)
class Trait:
    """How some models differ from their host's dialect.

    Attributes:
        models: the beginning of their names, after a vendor's prefix.
        hosts: the dialects that it applies to; empty: all.
        changes: members of a dialect.
    """

    models: re.Pattern[str]
    hosts: frozenset[str]
    changes: Mapping[str, Any]


def trait(models: str, hosts: str = "", **changes: Any) -> Trait:
    """A trait of models whose names begin with a pattern.

    Args:
        hosts: separated by spaces.
    """
    return Trait(re.compile(rf"(?:^(?:ft:)?|/)(?:{models})"), frozenset(hosts.split()), changes)


# Hosts that pass `reasoning_effort` to the model unchanged.
PLAIN = "openai azure other alibaba"

TRAITS = (
    # Efforts: https://developers.openai.com/api/docs/guides/reasoning and the models' own pages (November 2026); chat
    # models and those before GPT-5 refuse any. Azure refuses levels beyond xhigh (GPT-5.6, September 2026).
    trait(r"gpt-[34]|chatgpt-|o1-(?:mini|preview)|gpt-5(?:\.\d+)?-chat", PLAIN, efforts=NO_EFFORT, beside_tools=""),
    trait(r"gpt-5-pro", PLAIN, efforts=nearest("high")),
    trait(r"gpt-5\.\d+-pro", PLAIN, efforts=nearest("medium", "high", "xhigh")),
    trait(r"gpt-oss|gpt-5(?![.\d])|gpt-5\.1(?!\d|-codex-max)|o\d|codex-mini", PLAIN, efforts=LOW_TO_HIGH),
    trait(r"gpt-\d", PLAIN, efforts=nearest("low", "medium", "high", "xhigh")),
    # https://docs.x.ai/docs/guides/reasoning (July 2026).
    trait(r"grok-3-mini", "other", efforts=nearest("low", "high")),
    trait(r"grok-(?:[23]|code|4(?!\.[3-9]))", "other", efforts=NO_EFFORT),
    # https://console.groq.com/docs/reasoning: Qwen knows two words, other models refuse the member.
    trait(r"gpt-oss", "groq", efforts=LOW_TO_HIGH),
    trait(r"qwen-?3", "groq", efforts=dict.fromkeys(LEVELS, "default")),
    # https://docs.ollama.com/capabilities/thinking: only this family has levels.
    trait(r"gpt-oss", "ollama", efforts=LOW_TO_HIGH),
    # https://ai.google.dev/gemini-api/docs/openai: models from 2.5 on think.
    trait(r"gemini-(?:1|2\.0)|gemma", "gemini", efforts=NO_EFFORT),
    # From GPT-5.4 on, chat completions refuse tools together with an effort. GPT-5.4 has no effort by default; later
    # models do, and need an explicit `none`: https://github.com/openai/openai-openapi/issues/541 (May 2026),
    # https://github.com/BerriAI/litellm/pull/34569 (July 2026).
    trait(r"gpt-5\.4(?!\d)", PLAIN, beside_tools="nothing"),
    trait(r"gpt-(?:5\.(?:[5-9]|\d\d)|[6-9]|\d\d)(?![a-z])", PLAIN, beside_tools="none"),
    # While they think, OpenAI's models refuse any `temperature` and `top_p` but 1, and Claude Code sends others:
    # https://github.com/musistudio/claude-code-router/issues/849 (September 2025),
    # https://github.com/finch-xu/cc-router/issues/32 (August 2026). From GPT-5.1 on they accept them with the effort
    # `none`, which is the default up to GPT-5.4: https://developers.openai.com/api/docs/guides/latest-model.
    trait(r"gpt-5(?:\.\d+)?-chat", PLAIN, samples=None),
    trait(r"o\d|codex-mini|gpt-5(?![.\d])|gpt-\d[\d.]*-(?:pro|codex)", PLAIN, samples=()),
    trait(r"gpt-5\.[1-4](?!\d)", PLAIN, samples=("", "none")),
    trait(r"gpt-(?:5\.\d|[6-9]|\d\d)", PLAIN, samples=("none",)),
    # OpenAI's models that think, before GPT-5, use one tool at a time, and refuse the member that asks for it:
    # https://github.com/run-llama/llama_index/issues/20865 (March 2026).
    trait(r"o\d|codex-mini", f"{PLAIN} openrouter", serial=True),
    # OpenAI's models that think refuse `max_tokens`, also behind other hosts: https://github.com/musistudio/claude-code-router/issues/644
    # (August 2025), https://github.com/ericc-ch/copilot-api/issues/222 (April 2026).
    trait(r"o\d|codex-mini|gpt-(?:[5-9]|\d\d)", "other", limit="max_completion_tokens"),
    # They refuse stop sequences, too (stops.py).
    trait(r"gpt-5(?:\.\d+)?-chat", PLAIN, takes_stops=True),
    trait(r"o\d|codex-mini|gpt-(?:[5-9]|\d\d)", PLAIN, takes_stops=False),
    # So do Grok's that think: https://docs.x.ai/docs/guides/reasoning, https://github.com/langchain-ai/langchain/pull/38335
    # (June 2026).
    trait(r"grok-(?![12])(?!.*non-reasoning)", "other", takes_stops=False),
    # The most tokens that a model writes, by its page at https://developers.openai.com/api/docs/models (November 2026).
    # Claude Code asks for 32,000 and more: https://github.com/Gitlawb/openclaude/issues/331 (April 2026).
    trait(r"gpt-4o-2024-05-13|gpt-4-(?:turbo|1106|0125)|gpt-3\.5", PLAIN, most=4_096),
    trait(r"(?:chat)?gpt-4(?:o|\.5)|gpt-5(?:\.\d+)?-chat", PLAIN, most=16_384),
    trait(r"gpt-4\.1|o1-preview", PLAIN, most=32_768),
    trait(r"o1-mini", PLAIN, most=65_536),
    trait(r"o\d|codex-mini", PLAIN, most=100_000),
    trait(r"gpt-5(?!-pro)", PLAIN, most=128_000),
    # Other vendors' models at Azure: https://github.com/pydantic/pydantic-ai/issues/6593 (July 2026) for the limit,
    # https://github.com/BerriAI/litellm/issues/11696 (June 2025) for usage in Mistral's streams.
    trait(
        r"(?:mistral|ministral|codestral|magistral|mixtral|pixtral|devstral)",
        "azure",
        limit="max_tokens",
        asks_usage=False,
        user="",
        tiers={},
        efforts=NO_EFFORT,
        pdfs="",
        systems=False,
        model_first=False,
        bridge="OK",
        required="any",
        ids=re.compile(r"[A-Za-z0-9]{9}"),
    ),
    trait(
        r"(?:meta-)?llama|deepseek|grok|phi|kimi|cohere|command|qwen|glm|jamba|ai21|minimax|gpt-oss|mai-|nemotron|fw-",
        "azure",
        limit="max_tokens",
        user="",
        tiers={},
        efforts=NO_EFFORT,
        pdfs="",
        systems=False,
        model_first=False,
    ),
    # https://platform.kimi.ai/docs/guide/use-kimi-k2-thinking-model (July 2026): K3 has levels, K2.5 and K2.6 a switch
    # (and refuse both at once), the others always think. A model that thinks can't be forced to use a tool.
    trait(r"kimi-k3", "kimi", efforts=nearest("low", "high", "max")),
    trait(r"kimi-k2\.[56]", "kimi", thinking="switch"),
    # Models that think accept one temperature only, their default: https://github.com/NousResearch/hermes-agent/issues/12404
    # (April 2026).
    trait(r"kimi-k2\.[5-9]|(?:kimi-)?k[3-9](?!\d)|kimi-(?:k2-)?thinking|kimi-for-coding", "kimi", samples=()),
    trait(r"moonshot-v1", "kimi", thoughts=(), unthought=None),
    # Behind another host, these models need their thinking back as at their own vendor's.
    trait(r"kimi|moonshot", "other alibaba", unthought=" "),
    trait(r"deepseek", "other alibaba", unthought=""),
    # Before Qwen 4, `max_tokens` may bound the answer without the thinking before it, whose length is then up to the
    # model: https://www.alibabacloud.com/help/en/model-studio/api-compatibility-upgrade-notice (November 2026).
    trait(r"qwen|qwq|qvq", "alibaba", limit="max_completion_tokens"),
    # DeepSeek's models that see images: https://api-docs.deepseek.com (August 2026).
    trait(r"deepseek.*(?:vl|ocr|vision|v4\.[1-9]|v[5-9])", "deepseek", images="inline"),
    # Models that can't see images, by their cards (November 2026): they answer an image with a 400.
    trait(
        r"deepseek(?!.*(?:vl|ocr|vision|janus|v4\.[1-9]|v[5-9]))"
        r"|gpt-oss|gpt-3|gpt-4(?:$|-0|-32k)|o1-(?:mini|preview)|o3-mini"
        r"|kimi-k2(?![.p]\d)|glm-4\.[5-7](?!v)|minimax-m[12]"
        r"|qwen-?(?:2\.5|3)-coder|qwen3-coder|qwq"
        r"|(?:meta-)?llama-?3(?:\.[013])?(?=[-:]|$)(?!.*(?:vision|vl))"
        r"|mixtral|codestral|mistral-7b",
        images="",
    ),
    # https://openrouter.ai/docs/guides/best-practices/prompt-caching (November 2026): both accept breakpoints in text,
    # Anthropic's models also one for the whole request; other models cache automatically.
    trait(r"~?anthropic/", "openrouter", caches=True, caches_all=True),
    trait(r"~?google/", "openrouter", caches=True),
)


def of(model: str, host: str) -> dict[str, Any]:
    """The changes to a host's dialect for a model."""
    name = model.lower()
    changes: dict[str, Any] = {}
    for known in TRAITS:
        if (not known.hosts or host in known.hosts) and known.models.search(name):
            changes = {**known.changes, **changes}
    return changes
