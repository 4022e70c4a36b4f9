"""Where an OpenAI-compatible endpoint is called, and in what it differs from the others. Pure.

What a provider takes is told by its host; one that isn't named here is taken for vLLM or the like. Facts are from the
providers' references: https://platform.openai.com/docs/api-reference/chat,
https://learn.microsoft.com/azure/foundry/openai/api-version-lifecycle, https://openrouter.ai/docs,
https://console.groq.com/docs/openai, https://docs.mistral.ai/api, https://api-docs.deepseek.com,
https://ai.google.dev/gemini-api/docs/openai, https://docs.ollama.com/api/openai-compatibility, https://docs.vllm.ai,
https://inference-docs.cerebras.ai/api-reference/chat-completions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal
from urllib.parse import quote, urlsplit

from messages_api.providers.openai.thoughts import Tags

BASE_URL = "https://api.openai.com/v1"
PREFIX = "openai/"
COMPLETIONS = "/chat/completions"
MODELS = "/models"
API_VERSION = "api-version="
AZURE_VERSION = re.compile(r"api-version=[0-9a-z-]{1,40}")

Words = Mapping[str, str]

# What Anthropic's levels of effort are called: where the highest two are known, where they aren't, and elsewhere.
UP_TO_XHIGH: Words = {"low": "low", "medium": "medium", "high": "high", "xhigh": "xhigh", "max": "xhigh"}

UP_TO_HIGH: Words = {**UP_TO_XHIGH, "xhigh": "high", "max": "high"}
HIGH_ONLY: Words = dict.fromkeys(UP_TO_XHIGH, "high")
DEEPSEEK_EFFORT: Words = {**HIGH_ONLY, "low": "low", "max": "max"}


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one provider's chat completions take.

    Attributes:
        limit: the member for the most tokens of output.
        stops: the most stop sequences, None: any number.
        asks_usage: whether a stream tells usage when asked to; Mistral always does, and refuses to be asked.
        user: the member for the caller's user, empty: there is none.
        tiers: what service tiers are called; one that isn't here is left out.
        efforts: what levels of effort are called.
        thinking: how thinking is asked for: by `reasoning_effort` alone, by DeepSeek's switch beside it, or by
            OpenRouter's `reasoning`.
        thoughts: the member of an assistant's turn that its thinking goes back in, empty: it is left out.
        pdfs: the part that carries a PDF, empty: there is none; and whether it may be a URL.
        prefill: whether an assistant's last turn is gone on with: after a mark, as it is, or not at all.
        bridge: what the assistant is made to say between a tool's result and the user, empty: nothing. Mistral refuses
            the one after the other (invalid_request_message_order).
        required: the choice of tools that leaves no way around them.
        parallel: whether `parallel_tool_calls` is obeyed.
        schemas: whether answers can be held to a JSON schema.
        name_length: of a tool's name, at most; None: as long as it likes.
        ids: what the ids of tool calls have to be like; None: as they like.
        signed_calls: where Gemini 3 looks for the signature that a tool call of the past needs; empty: nowhere.
        namespaced: whether models' names begin with their vendors', like openai/gpt-oss-20b.
        tagged: whether what TAGGED models think may stand in their text; elsewhere it is known to come by itself.
    """

    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    stops: int | None = None
    asks_usage: bool = True
    top_k: bool = False
    user: str = ""
    tiers: Words = field(default_factory=dict)
    efforts: Words = field(default_factory=lambda: UP_TO_HIGH)
    thinking: Literal["effort", "switch", "reasoning"] = "effort"
    thoughts: str = ""
    pdfs: Literal["", "file", "document_url"] = ""
    pdf_urls: bool = False
    prefill: Literal["", "prefix", "plain"] = ""
    bridge: str = ""
    required: str = "required"
    parallel: bool = True
    schemas: bool = True
    name_length: int | None = None
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
    limit="max_completion_tokens",
    stops=4,
    user="safety_identifier",
    tiers={"auto": "auto", "standard_only": "default"},
    efforts=UP_TO_XHIGH,
    pdfs="file",
    name_length=64,
    ids=re.compile(r".{1,40}", re.DOTALL),
    tagged=False,
)
AZURE = replace(OPENAI, user="user", tagged=True)
OPENROUTER = Dialect(
    stops=4,
    top_k=True,
    user="user",
    efforts=UP_TO_XHIGH,
    thinking="reasoning",
    thoughts="reasoning",
    pdfs="file",
    pdf_urls=True,
    signed_calls="reasoning_details",
    prefill="plain",
    namespaced=True,
    tagged=False,
)
GROQ = Dialect(
    limit="max_completion_tokens",
    stops=4,
    user="user",
    tiers={"auto": "auto", "standard_only": "on_demand"},
    namespaced=True,
)
MISTRAL = Dialect(
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
DEEPSEEK = Dialect(
    stops=16,
    efforts=DEEPSEEK_EFFORT,
    thinking="switch",
    thoughts="reasoning_content",
    parallel=False,
    schemas=False,
    tagged=False,
)
# Refuses members that it doesn't know, in messages too.
CEREBRAS = Dialect(limit="max_completion_tokens", stops=4, user="user", thoughts="reasoning")
GEMINI = Dialect(stops=5, parallel=False, signed_calls="extra_content", tagged=False)
OLLAMA = Dialect(parallel=False, namespaced=True)
OTHER = Dialect(top_k=True, user="user", thoughts="reasoning_content", namespaced=True)

HOSTS: Mapping[str, Dialect] = {
    "openai.com": OPENAI,
    "openai.azure.com": AZURE,
    "cognitiveservices.azure.com": AZURE,
    "services.ai.azure.com": AZURE,
    "openrouter.ai": OPENROUTER,
    "groq.com": GROQ,
    "mistral.ai": MISTRAL,
    "deepseek.com": DEEPSEEK,
    "generativelanguage.googleapis.com": GEMINI,
    "cerebras.ai": CEREBRAS,
    "ollama.com": OLLAMA,
}

OLLAMA_PORT = 11434


@lru_cache(maxsize=1024)
def dialect(base_url: str) -> Dialect:
    """The dialect that is spoken at an address; empty is OpenAI's own."""
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
            path = f"{path or '/openai'}/deployments/{quote(model, safe='')}"
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
