"""The addresses of OpenAI-compatible endpoints, and how they differ from each other. Pure.

The host decides what a provider accepts; an unknown host is treated like vLLM. traits.py has what single models accept.
Facts are from the providers' references, as of November 2026:
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

from messages_api.providers import paths
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
    """What one provider's chat completions accept.

    Attributes:
        host: its name in traits.py.
        limit: the member for the most tokens of output.
        most: the most tokens that the model can write; None: unknown. A provider refuses a request for more.
        stops: the most stop sequences; None: any number.
        takes_stops: the model accepts stop sequences; otherwise the gateway ends its text at them.
        asks_usage: a stream reports usage only if the request asks for it. Mistral's streams always do, and Mistral
            refuses the question.
        user: the member for the client's user; empty: unsupported.
        tiers: the provider's names of service tiers; other tiers are left out.
        efforts: the provider's names of levels of effort; other levels are left out.
        samples: the efforts at which the model accepts `temperature` and `top_p` (empty: without one); None: any.
        beside_tools: what an effort becomes in a request with tools: itself (empty), nothing, or `none`.
        thinking: how a request asks for thinking: by `reasoning_effort` alone, by DeepSeek's switch in addition, or by
            OpenRouter's `reasoning`.
        thoughts: the members of an assistant's turn that carry its thinking; empty: it is left out. If two generations
            of servers read different members, both are set.
        unthought: the value of the last of these in a turn with tool calls and no thinking; None: it is left out.
        images: the images that a model can see: all, those in the request itself, or none.
        pdfs: the part that carries a PDF; empty: unsupported. `pdf_urls`: it may be a URL.
        prefill: how the model continues an assistant's last turn: with this mark, without one (`plain`), or not at all.
        bridge: an assistant's text that is inserted between a tool's result and a user's turn; empty: nothing. Mistral
            refuses a user's turn after a result (invalid_request_message_order).
        systems: system messages may occur in the middle of the conversation.
        model_first: the assistant may have the first turn.
        caches: text may have `cache_control`; `caches_all`: the request may.
        required: the `tool_choice` that forces a tool.
        parallel: the provider obeys `parallel_tool_calls`.
        serial: the model uses one tool at a time, and refuses `parallel_tool_calls`.
        schemas: answers can be required to follow a JSON schema.
        strict: tools may require that calls follow their schema strictly.
        flat: tools' schemas can't have alternatives at the top.
        fills: schemas need the members that OpenAI requires; Gemini refuses empty ones.
        grammars: the server may be one that makes grammars of tools' schemas, and can't make one of every schema.
        ids: the form of ids of tool calls; None: any.
        signed_calls: the member in which Gemini 3 expects the signature of a past tool call; empty: none.
        namespaced: names of models begin with their vendors', like openai/gpt-oss-20b.
        tagged: the thinking of TAGGED models may be in their text; elsewhere the provider always separates it.
    """

    host: str = "other"
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    most: int | None = None
    stops: int | None = None
    takes_stops: bool = True
    asks_usage: bool = True
    top_k: bool = False
    user: str = ""
    tiers: Words = field(default_factory=dict)
    efforts: Words = field(default_factory=lambda: UP_TO_HIGH)
    samples: tuple[str, ...] | None = None
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
    serial: bool = False
    schemas: bool = True
    strict: bool = True
    flat: bool = False
    fills: bool = True
    grammars: bool = False
    ids: re.Pattern[str] | None = None
    signed_calls: Literal["", "extra_content", "reasoning_details"] = ""
    namespaced: bool = False
    tagged: bool = True


# Models that write their thinking between <think> and </think>. Their server leaves it in the text unless it runs with
# the right parser, or the request sets `reasoning_format` (Groq, Cerebras) or `reasoning_split` (MiniMax); Perplexity
# and Hugging Face always leave it. By their cards at https://huggingface.co, the list of
# https://docs.vllm.ai/en/latest/features/reasoning_outputs/, https://docs.sglang.io/advanced_features/separate_reasoning,
# https://docs.perplexity.ai and https://platform.minimax.io/docs, as of November 2026.
TAGGED = re.compile(
    r"deepseek.*(?:r1|v3[.p][12])|(?:^|[/_:-])r1(?:$|[_:-])|qwq|qwen-?3(?!.*(?:coder|instruct|embed))|minimax-?m[12]"
    r"|glm-?(?:4\.[1567]|5|z1)|magistral|sonar-(?:reasoning|deep)|phi-?4.*reasoning|smollm3|hunyuan|ernie.*thinking"
    r"|nemotron|olmo-?3.*think|mimo|skywork-or1|openthinker|thinking"
)
# Those of them whose templates write <think> into the prompt, so that their text has only </think>: Perplexity's,
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
    flat=True,
    systems=True,
    model_first=True,
    ids=re.compile(r".{1,40}", re.DOTALL),
    tagged=False,
)
# A deployment can have any name: if the model is unknown, it gets no effort that only some models know.
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
# Refuses an effort for models that have none, and `reasoning_content` in messages.
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
# Refuses a turn with tool calls that lacks the member for thinking, even an empty one. Only some models see images:
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
# Treats an empty text as missing: https://github.com/theopenco/llmgateway/pull/2093 (April 2026). Doesn't fetch images
# by URL: https://platform.kimi.ai/docs/guide/use-kimi-vision-model.
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
# Refuses unknown members, in messages too.
CEREBRAS = Dialect(host="cerebras", limit="max_completion_tokens", stops=4, user="user", thoughts=("reasoning",))
GEMINI = Dialect(host="gemini", stops=5, parallel=False, fills=False, signed_calls="extra_content", tagged=False)
# Refuses an effort for models that don't think (https://github.com/ollama/ollama/issues/12561, October 2025), and
# fetches no images: https://docs.ollama.com/api/openai-compatibility.
OLLAMA = Dialect(host="ollama", efforts=NO_EFFORT, images="inline", parallel=False, namespaced=True)
# vLLM reads `reasoning` since 0.12 and ignores the older name (https://github.com/vllm-project/vllm/issues/38488, March
# 2026). SGLang, llama.cpp and LiteLLM read the older one.
OTHER = Dialect(top_k=True, user="user", thoughts=("reasoning", "reasoning_content"), namespaced=True, grammars=True)
ALIBABA = replace(OTHER, host="alibaba", grammars=False)

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
    "aliyuncs.com": ALIBABA,
}

OLLAMA_PORT = 11434


@lru_cache(maxsize=1024)
def dialect(base_url: str, model: str = "") -> Dialect:
    """The dialect at an address (empty: OpenAI's own), adapted to a model."""
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
    """The URL of chat completions. If the base URL has an `api-version`, it is that of the deployment at Azure."""
    parts = urlsplit(base_url or BASE_URL)
    if API_VERSION in parts.query:
        path = parts.path.rstrip("/")
        if "/deployments/" not in path:
            path = f"{path or '/openai'}/deployments/{paths.model(model)}"
        return f"{parts.scheme}://{parts.netloc}{path}{COMPLETIONS}?{parts.query}"
    return root(base_url) + COMPLETIONS


def models_address(base_url: str) -> str:
    """The URL of the list of models; empty at Azure, where calls name deployments, which the list doesn't have."""
    return "" if dialect(base_url) is AZURE else root(base_url) + MODELS


def root(base_url: str) -> str:
    """The root of the API. A base URL without a path gets `/v1`, at Azure `/openai/v1`, at DeepSeek nothing."""
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
    """How the text of a model at an address may contain its thinking."""
    name = model.lower()
    if not dialect(base_url).tagged or not TAGGED.search(name):
        return ""
    return "begun" if BEGUN.search(name) else "written"


def own_name(model: str, base_url: str = "") -> str:
    """The provider's name of a model: `openai/gpt-5-mini` is `gpt-5-mini` at OpenAI. If the names there begin with a
    vendor's, `openai/gpt-oss-20b` stays, and `openai/openai/gpt-oss-20b` is the same with the provider before it."""
    plain = model.removeprefix(PREFIX)
    if dialect(base_url).namespaced and not plain.startswith(PREFIX):
        return model
    return plain
