"""Where an OpenAI-compatible endpoint is called, and in what it differs from the others. Pure.

The host decides what a provider takes; one that isn't named here is taken for vLLM or the like. What a model takes
beside that is in traits.py. Facts are from the providers' references, as of November 2026:
https://platform.openai.com/docs/api-reference/chat,
https://learn.microsoft.com/azure/foundry/openai/api-version-lifecycle, https://openrouter.ai/docs,
https://console.groq.com/docs/openai, https://docs.mistral.ai/api, https://api-docs.deepseek.com,
https://ai.google.dev/gemini-api/docs/openai, https://docs.ollama.com/api/openai-compatibility, https://docs.vllm.ai,
https://inference-docs.cerebras.ai/api-reference/chat-completions, https://platform.kimi.ai/docs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal
from urllib.parse import urlsplit

from messages_api import provider_paths
from messages_api.providers.openai import traits
from messages_api.providers.openai.thoughts import Tags
from messages_api.providers.openai.traits import NO_EFFORT, Words, nearest

BASE_URL = "https://api.openai.com/v1"
PREFIX = "openai/"
COMPLETIONS = "/chat/completions"
MODELS = "/models"
API_VERSION = "api-version="
AZURE_VERSION = re.compile(r"api-version=[0-9a-z-]{1,40}")

UP_TO_XHIGH = nearest("low", "medium", "high", "xhigh")
UP_TO_HIGH = nearest("low", "medium", "high")
HIGH_ONLY = nearest("high")
DEEPSEEK_EFFORT: Words = {**HIGH_ONLY, "low": "low", "max": "max"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one provider's chat completions take.

    Attributes:
        host: what traits.py calls it.
        limit: the member for the most tokens of output.
        stops: the most stop sequences, None: any number.
        asks_usage: whether a stream tells usage when asked to; Mistral always does, and refuses to be asked.
        user: the member for the caller's user, empty: there is none.
        tiers: what service tiers are called; one that isn't here is left out.
        efforts: what levels of effort are called; empty: there is no such setting, and an effort is left out.
        beside_tools: what an effort becomes where there are tools: itself, nothing, or `none`.
        thinking: how thinking is asked for: by `reasoning_effort` alone, by DeepSeek's switch beside it, or by
            OpenRouter's `reasoning`.
        thoughts: the members of an assistant's turn that its thinking goes back in, empty: it is left out. Where two
            generations of servers read one each, both get it.
        unthought: what the last of these says in a turn with tool calls that has no thinking, None: it is left out.
        images: which images a model can see: all, those that are sent along, or none.
        pdfs: the part that carries a PDF, empty: there is none; and whether it may be a URL.
        prefill: whether an assistant's last turn is gone on with: after a mark, as it is, or not at all.
        bridge: what the assistant is made to say between a tool's result and the user, empty: nothing. Mistral refuses
            the one after the other (invalid_request_message_order).
        systems: whether there may be a system message in mid-conversation.
        model_first: whether the model may have the first turn.
        caches: whether text may carry `cache_control`; `caches_all`: whether a request may.
        required: the choice of tools that leaves no way around them.
        parallel: whether `parallel_tool_calls` is obeyed.
        schemas: whether answers can be held to a JSON schema.
        strict: whether a tool may ask to be called by its schema to the letter.
        fills: whether schemas need the members that OpenAI asks for; Gemini refuses empty ones.
        ids: what the ids of tool calls have to be like; None: as they like.
        signed_calls: where Gemini 3 looks for the signature that a tool call of the past needs; empty: nowhere.
        namespaced: whether models' names begin with their vendors', like openai/gpt-oss-20b.
        tagged: whether what TAGGED models think may stand in their text; elsewhere it is known to come by itself.
    """

    host: str = "other"
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    stops: int | None = None
    asks_usage: bool = True
    top_k: bool = False
    user: str = ""
    tiers: Words = field(default_factory=dict)
    efforts: Words = field(default_factory=lambda: UP_TO_HIGH)
    beside_tools: Literal["", "nothing", "none"] = ""
    thinking: Literal["effort", "switch", "reasoning"] = "effort"
    thoughts: tuple[str, ...] = ()
    unthought: str | None = None
    images: Literal["all", "inline", ""] = "all"
    pdfs: Literal["", "file", "document_url"] = ""
    pdf_urls: bool = False
    prefill: Literal["", "prefix", "partial", "plain"] = ""
    bridge: str = ""
    systems: bool = False
    model_first: bool = False
    caches: bool = False
    caches_all: bool = False
    required: str = "required"
    parallel: bool = True
    schemas: bool = True
    strict: bool = True
    fills: bool = True
    ids: re.Pattern[str] | None = None
    signed_calls: Literal["", "extra_content", "reasoning_details"] = ""
    namespaced: bool = False
    tagged: bool = True


# Models that write what they think between <think> and </think>, which their server leaves in the text unless it was
# started with the right parser, asked for `reasoning_format` (Groq, Cerebras) or `reasoning_split` (MiniMax), or never
# takes it out (Perplexity, Hugging Face). By their cards at https://huggingface.co, the list of
# https://docs.vllm.ai/en/latest/features/reasoning_outputs/, https://docs.sglang.io/advanced_features/separate_reasoning,
# https://docs.perplexity.ai and https://platform.minimax.io/docs, as of November 2026.
TAGGED = re.compile(
    r"deepseek.*(?:r1|v3[.p][12])|(?:^|[/_:-])r1(?:$|[_:-])|qwq|qwen-?3(?!.*(?:coder|instruct|embed))|minimax-?m[12]"
    r"|glm-?(?:4\.[1567]|5|z1)|magistral|sonar-(?:reasoning|deep)|phi-?4.*reasoning|smollm3|hunyuan|ernie.*thinking"
    r"|nemotron|olmo-?3.*think|mimo|skywork-or1|openthinker|thinking"
)
# Of them, those whose templates write <think> into the prompt, so that their text has </think> only: Perplexity's,
# https://github.com/deepseek-ai/DeepSeek-R1/issues/352, https://huggingface.co/Qwen/Qwen3-235B-A22B-Thinking-2507.
BEGUN = re.compile(r"(?:^|[^a-z])r1(?:$|[^a-z0-9])|qwq|qwen.*thinking|minimax-?m[12]|sonar-reasoning|olmo-?3.*think")

OPENAI = Dialect(
    host="openai",
    limit="max_completion_tokens",
    stops=4,
    user="safety_identifier",
    tiers={"auto": "auto", "standard_only": "default"},
    efforts=UP_TO_XHIGH,
    pdfs="file",
    systems=True,
    model_first=True,
    ids=re.compile(r".{1,40}", re.DOTALL),
    tagged=False,
)
# Deployments have any name: those whose model can't be known get no effort that only some models know.
AZURE = replace(OPENAI, host="azure", user="user", efforts=UP_TO_HIGH, tagged=True)
OPENROUTER = Dialect(
    host="openrouter",
    stops=4,
    top_k=True,
    user="user",
    efforts=UP_TO_XHIGH,
    thinking="reasoning",
    thoughts=("reasoning",),
    pdfs="file",
    pdf_urls=True,
    signed_calls="reasoning_details",
    prefill="plain",
    namespaced=True,
    tagged=False,
)
# Refuses an effort where a model has none, and `reasoning_content` in messages.
GROQ = Dialect(
    host="groq",
    limit="max_completion_tokens",
    stops=4,
    user="user",
    tiers={"auto": "auto", "standard_only": "on_demand"},
    efforts=NO_EFFORT,
    namespaced=True,
)
MISTRAL = Dialect(
    host="mistral",
    asks_usage=False,
    efforts=HIGH_ONLY,
    pdfs="document_url",
    pdf_urls=True,
    prefill="prefix",
    bridge="OK",
    required="any",
    ids=re.compile(r"[A-Za-z0-9]{9}"),
    tagged=False,
)
# Refuses a turn with tool calls that has no member for its thoughts, be they none; it has no eyes but in some models:
# https://api-docs.deepseek.com/guides/thinking_mode, https://github.com/vercel/ai/issues/9179 (July 2026).
DEEPSEEK = Dialect(
    host="deepseek",
    stops=16,
    efforts=DEEPSEEK_EFFORT,
    thinking="switch",
    thoughts=("reasoning_content",),
    unthought="",
    images="",
    parallel=False,
    schemas=False,
    tagged=False,
)
# Takes an empty text for none: https://github.com/theopenco/llmgateway/pull/2093 (April 2026). Images by URL aren't
# fetched: https://platform.kimi.ai/docs/guide/use-kimi-vision-model.
KIMI = Dialect(
    host="kimi",
    limit="max_completion_tokens",
    stops=5,
    efforts=NO_EFFORT,
    thoughts=("reasoning_content",),
    unthought=" ",
    images="inline",
    prefill="partial",
    strict=False,
    tagged=False,
)
# Refuses members that it doesn't know, in messages too.
CEREBRAS = Dialect(host="cerebras", limit="max_completion_tokens", stops=4, user="user", thoughts=("reasoning",))
GEMINI = Dialect(host="gemini", stops=5, parallel=False, fills=False, signed_calls="extra_content", tagged=False)
# Refuses an effort where a model doesn't think (https://github.com/ollama/ollama/issues/12561, October 2025), and
# fetches no images: https://docs.ollama.com/api/openai-compatibility.
OLLAMA = Dialect(host="ollama", efforts=NO_EFFORT, images="inline", parallel=False, namespaced=True)
# vLLM reads `reasoning` since 0.12 and ignores the older name (https://github.com/vllm-project/vllm/issues/38488, March
# 2026), which others read: SGLang, llama.cpp, LiteLLM.
OTHER = Dialect(top_k=True, user="user", thoughts=("reasoning", "reasoning_content"), namespaced=True)

HOSTS: Mapping[str, Dialect] = {
    "openai.com": OPENAI,
    "openai.azure.com": AZURE,
    "cognitiveservices.azure.com": AZURE,
    "services.ai.azure.com": AZURE,
    "openrouter.ai": OPENROUTER,
    "groq.com": GROQ,
    "mistral.ai": MISTRAL,
    "deepseek.com": DEEPSEEK,
    "moonshot.ai": KIMI,
    "moonshot.cn": KIMI,
    "kimi.com": KIMI,
    "kimi.ai": KIMI,
    "generativelanguage.googleapis.com": GEMINI,
    "cerebras.ai": CEREBRAS,
    "ollama.com": OLLAMA,
}

OLLAMA_PORT = 11434


@lru_cache(maxsize=1024)
def dialect(base_url: str, model: str = "") -> Dialect:
    """The dialect that is spoken at an address (empty is OpenAI's own), with what is known of a model there."""
    spoken = host_dialect(base_url)
    changes = traits.of(model, spoken.host) if model else {}
    return replace(spoken, **changes) if changes else spoken


def host_dialect(base_url: str) -> Dialect:
    parts = urlsplit(base_url or BASE_URL)
    if API_VERSION in parts.query:
        return AZURE
    host = f".{parts.hostname or ''}"
    known = next((spoken for name, spoken in HOSTS.items() if host.endswith(f".{name}")), None)
    return known or (OLLAMA if parts.port == OLLAMA_PORT else OTHER)


def address(base_url: str, model: str) -> str:
    """The URL of chat completions. With an `api-version`, it is that of Azure's deployment of this name."""
    parts = urlsplit(base_url or BASE_URL)
    if API_VERSION in parts.query:
        path = parts.path.rstrip("/")
        if "/deployments/" not in path:
            path = f"{path or '/openai'}/deployments/{provider_paths.model(model)}"
        return f"{parts.scheme}://{parts.netloc}{path}{COMPLETIONS}?{parts.query}"
    return root(base_url) + COMPLETIONS


def models_address(base_url: str) -> str:
    """The URL of the list of models; empty at Azure, whose list lacks deployments, by which models are called there."""
    return "" if dialect(base_url) is AZURE else root(base_url) + MODELS


def root(base_url: str) -> str:
    """Where an API begins. A host alone stands for it: with `/v1`, `/openai/v1` at Azure, nothing at DeepSeek."""
    parts = urlsplit(base_url or BASE_URL)
    path, spoken = parts.path.rstrip("/"), dialect(base_url)
    if spoken is AZURE and path in ("", "/openai"):
        path = "/openai/v1"
    elif not path and spoken is not DEEPSEEK:
        path = "/v1"
    return f"{parts.scheme}://{parts.netloc}{path}"


def credential(base_url: str, secret: str) -> tuple[bytes, bytes]:
    """The header that carries a provider key's secret."""
    if dialect(base_url) is AZURE:
        return b"api-key", secret.encode()
    return b"authorization", b"Bearer " + secret.encode()


def tags(base_url: str, model: str) -> Tags:
    """How a model's thinking may stand in its text at an address."""
    name = model.lower()
    if not dialect(base_url).tagged or not TAGGED.search(name):
        return ""
    return "begun" if BEGUN.search(name) else "written"


def own_name(model: str, base_url: str = "") -> str:
    """A model's name as its provider knows it: `openai/gpt-5-mini` is `gpt-5-mini` at OpenAI. Where names begin with
    their vendors', `openai/gpt-oss-20b` is one, and `openai/openai/gpt-oss-20b` is the same with its provider."""
    plain = model.removeprefix(PREFIX)
    if dialect(base_url).namespaced and not plain.startswith(PREFIX):
        return model
    return plain
