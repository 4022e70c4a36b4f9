"""The schemas of requests for messages, for the OpenAPI document.

They are written by hand and not derived from request/body.py, because they also describe members that the gateway
doesn't check. A test compares them with docs/validation.md. Objects are open: a request may have unlisted members.
"""

from __future__ import annotations

from messages_api.reference.shapes import (
    Schema,
    any_of,
    array,
    boolean,
    const,
    enum,
    integer,
    number,
    obj,
    or_null,
    other,
    ref,
    string,
)
from messages_api.request.body import MAX_MESSAGES, MAX_TOKENS, MIN_THINKING, MODEL

NO_SPACES = f"^{MODEL.pattern}$"

# The parts of a request

SOURCES: dict[str, Schema] = {
    "Base64Source": obj(
        "Bytes in the request itself.",
        "type media_type data",
        type=const("base64"),
        media_type=string("The type of the bytes.", "image/png", "application/pdf"),
        data=string("The bytes in base64.", "iVBORw0KGgo="),
    ),
    "UrlSource": obj(
        "An address from which the provider fetches the bytes.",
        "type url",
        type=const("url"),
        url=string("The address.", "https://example.com/a.png"),
    ),
    "TextSource": obj(
        "A document of plain text.",
        "type media_type data",
        type=const("text"),
        media_type=string("The type of the text: `text/plain`.", "text/plain"),
        data=string("The text.", "The grass is green."),
    ),
    "FileSource": obj(
        "An uploaded file.",
        "type file_id",
        type=const("file"),
        file_id=string("The file's id.", "file_011CNha8"),
    ),
    "OtherSource": other("A source of another type.", ["base64", "url", "text", "file"]),
}

CACHE = or_null(ref("CacheControl", "Ends a cached prefix with this block."))
CACHE_ALL = or_null(ref("CacheControl", "Caches the prefix of the request up to the last block that can be cached."))
NO_CACHE: Schema = {"type": "null", "description": "A cached prefix can't end with this block."}
CITED: Schema = {
    "description": "Whether the model cites this block.",
    "anyOf": [obj("A switch.", "", enabled=boolean("Whether the model cites it.")), {"type": "null"}],
}

TEXTS = obj("A block.", "type", type=string("The block's type.", "text"))


def tool_use(kind: str, about: str, example: str, name: str, **more: Schema) -> Schema:
    """A block with the use of a tool; `more` members follow the tool's name.

    Args:
        example: an id of a use.
    """
    members: dict[str, Schema] = {
        "type": const(kind),
        "id": string("The id of this use, which its result refers to.", example),
        "name": string("The tool's name.", name),
        **more,
        "input": obj("The input of the tool."),
    }
    required = [member for member in members if member != "cache_control"]
    return obj(about, " ".join(required), **members)


REQUEST_BLOCKS: dict[str, Schema] = {
    "TextBlockParam": obj(
        "A text.",
        "type text",
        type=const("text"),
        text=string("The text.", "Hello"),
        cache_control=CACHE,
        citations=or_null(array(obj("A place in a source."), "The sources of the text.")),
    ),
    "ImageBlockParam": obj(
        "An image.",
        "type source",
        type=const("image"),
        source=ref("Source", "Where the image comes from."),
        cache_control=CACHE,
    ),
    "DocumentBlockParam": obj(
        "A document.",
        "type source",
        type=const("document"),
        source=ref("Source", "Where the document comes from."),
        title=or_null(string("Its title.", "The grass")),
        context=or_null(string("Information about the document, which the model doesn't cite.")),
        citations=CITED,
        cache_control=CACHE,
    ),
    "SearchResultBlockParam": obj(
        "A search result that the model may cite.",
        "type content source title",
        type=const("search_result"),
        content=array(TEXTS, "The contents, as text blocks."),
        source=string("The source of the result.", "https://example.com/grass"),
        title=string("The title of the result.", "The grass"),
        citations=CITED,
        cache_control=CACHE,
    ),
    "ContainerUploadBlockParam": obj(
        "A file for the container.",
        "type file_id",
        type=const("container_upload"),
        file_id=string("The file's id.", "file_011CNha8"),
        cache_control=CACHE,
    ),
    "ToolUseBlockParam": tool_use(
        "tool_use",
        "The use of a client's tool, from an earlier answer.",
        "toolu_01A09q90qw90lq917835lq9",
        "get_weather",
        cache_control=CACHE,
    ),
    "ServerToolUseBlockParam": tool_use(
        "server_tool_use",
        "The use of a provider's tool, from an earlier answer.",
        "srvtoolu_014hJH82Qum7Td6UV8gDXThB",
        "web_search",
        cache_control=CACHE,
    ),
    "ToolResultBlockParam": obj(
        "The result of a tool.",
        "type tool_use_id",
        type=const("tool_result"),
        tool_use_id=string("The id of the tool use.", "toolu_01A09q90qw90lq917835lq9"),
        content=or_null(
            any_of(
                "Text, or blocks: text, image, search_result, document, tool_reference.",
                string("Text.", "15 degrees"),
                array(TEXTS, "Blocks."),
            )
        ),
        is_error=or_null(boolean("Whether the tool failed.")),
        cache_control=CACHE,
    ),
    "ThinkingBlockParam": obj(
        "Thinking of the model, from an earlier answer.",
        "type thinking signature",
        type=const("thinking"),
        thinking=string("The thinking, word for word."),
        signature=string("Proves that the thinking is the model's.", "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"),
        cache_control=NO_CACHE,
    ),
    "RedactedThinkingBlockParam": obj(
        "Thinking of the model, encrypted.",
        "type data",
        type=const("redacted_thinking"),
        data=string("The thinking, encrypted by the provider.", "EmwKAhgB"),
        cache_control=NO_CACHE,
    ),
    "FallbackBlockParam": obj(
        "Another model took over at this place.", "type", type=const("fallback"), cache_control=NO_CACHE
    ),
    "OtherBlockParam": other(
        "A block of another type: mcp_tool_use, mcp_tool_result, web_search_tool_result, "
        "web_fetch_tool_result, code_execution_tool_result, compaction and future types.",
        [
            "text",
            "image",
            "document",
            "tool_use",
            "server_tool_use",
            "tool_result",
            "thinking",
            "redacted_thinking",
            "search_result",
            "container_upload",
            "fallback",
        ],
    ),
}

CHOICES: dict[str, Schema] = {
    f"ToolChoice{name.title()}": obj(
        about,
        "type",
        type=const(name),
        disable_parallel_tool_use=or_null(boolean("The model uses at most one tool at a time.")),
    )
    for name, about in (("auto", "The model may use a tool."), ("any", "The model must use a tool."))
} | {
    "ToolChoiceTool": obj(
        "The model must use this tool.",
        "type name",
        type=const("tool"),
        name=string("The tool's name.", "get_weather"),
        disable_parallel_tool_use=or_null(boolean("The model uses at most one tool at a time.")),
    ),
    "ToolChoiceNone": obj("The model may not use a tool.", "type", type=const("none")),
}

PROMPT = any_of(
    "Text, or content blocks.", string("Text.", "Hello, Claude"), array(ref("ContentBlockParam"), "Blocks.")
)

PARTS: dict[str, Schema] = {
    "CacheControl": obj(
        "The end of a cached prefix.",
        "type",
        type=enum("The kind of cache.", "ephemeral"),
        ttl=enum("How long the prefix is cached; 5 minutes by default.", "5m", "1h", None),
    ),
    "Source": any_of("Where an image or a document comes from, by `type`.", *map(ref, SOURCES)),
    "ContentBlockParam": any_of("A content block, by `type`.", *map(ref, REQUEST_BLOCKS)),
    "MessageParam": any_of(
        "A turn of the conversation.",
        obj(
            "A turn of the user or the model.",
            "role content",
            role=enum("Who speaks.", "user", "assistant"),
            content=PROMPT,
        ),
        obj(
            "Instructions in the middle of the conversation.",
            "role",
            role=enum("Always `system`.", "system"),
            content=PROMPT,
        ),
    ),
    "Metadata": obj(
        "Information about the request.",
        "",
        user_id=or_null(string("An opaque id of the client's own user.", "13803d75-b4b5-4c3e-b2a2-6f21399b021b")),
    ),
    "Tool": any_of(
        "A tool that the model may use.",
        obj(
            "The client's own tool.",
            "name input_schema",
            type=enum("`custom`, or left out.", "custom", None),
            name=string("The name by which the model calls it.", "get_weather"),
            description=string("Tells the model what the tool does and when to use it.", "The weather at a place."),
            input_schema=obj("The JSON schema of its input.", "", type=string("Always `object`.", "object")),
            cache_control=CACHE,
        ),
        obj(
            "A provider's tool (web_search, web_fetch, code_execution, bash, text_editor, computer, memory, "
            "tool_search, mcp_toolset, …), by `type` with a date.",
            "type",
            type=string(
                "The tool and the date of its version.",
                "web_search_20260318",
                **{"not": {"enum": ["custom", "advisor_20260301"]}},
            ),
            cache_control=CACHE,
        ),
        obj(
            "Another model that the model may ask for advice.",
            "type model",
            type=const("advisor_20260301"),
            model=string("The model that gives advice.", "claude-opus-5", pattern=NO_SPACES, maxLength=200),
            cache_control=CACHE,
        ),
    ),
    "ToolChoice": any_of("Whether the model uses a tool, and which one, by `type`.", *map(ref, CHOICES)),
    "McpServer": any_of(
        "An MCP server whose tools the provider calls.",
        obj(
            "A server with an address.",
            "type name url",
            type=const("url"),
            name=string("The name by which the model knows it.", "docs"),
            url=string("The server's address.", "https://mcp.example.com/sse"),
            authorization_token=or_null(string("The credential with which the provider calls the server.")),
            tool_configuration=or_null(obj("The tools of the server that the model may use.")),
        ),
        other("A server of another type.", ["url"]),
    ),
    "Thinking": any_of(
        "Whether the model thinks before it answers.",
        obj(
            "The model thinks, with a budget.",
            "type budget_tokens",
            type=const("enabled"),
            budget_tokens=integer("Less than `max_tokens`.", 2048, minimum=MIN_THINKING),
            display={"type": ["string", "null"], "description": "`summarized` or `omitted`."},
        ),
        other("`adaptive`, `disabled`, `between_tools` and future types.", ["enabled"]),
    ),
    "OutputFormat": any_of(
        "The required form of the answer.",
        obj("JSON.", "type schema", type=const("json_schema"), schema=obj("A JSON schema.")),
        other("A form of a future type.", ["json_schema"]),
    ),
    "OutputConfig": obj(
        "The form of the answer, and the effort for it.",
        "",
        format=or_null(ref("OutputFormat", "The required form of the answer.")),
        effort=or_null(string("How much the model thinks and writes: `low`, `medium`, `high` and others.", "high")),
        task_budget=or_null(obj("How much a whole task may use; a beta.")),
    ),
    "ContextManagement": obj(
        "Edits that shorten a long conversation; a beta.",
        "",
        edits=or_null(
            array(
                obj("An edit.", "type", type=string("The edit and the date of its version.", "compact_20260112")),
                "Edits that leave out or summarise parts, in order.",
            )
        ),
    ),
    "Fallbacks": any_of(
        "Models to try if the model fails. A list of strings is for the gateway, which tries them in order and removes "
        "the list from the body. The other forms are Anthropic's, and pass.",
        array(
            string("A model, or a provider and a model.", "bedrock/claude-haiku-4-5", pattern=NO_SPACES, maxLength=200)
        ),
        array(
            obj(
                "A fallback of Anthropic's.",
                "model",
                model=string("The model to try.", "claude-opus-5", pattern=NO_SPACES, maxLength=200),
                max_tokens=or_null(integer("Replaces the request's value.", minimum=0, maximum=MAX_TOKENS)),
                speed=or_null(string("Replaces the request's value: `standard` or `fast`.", "standard")),
                thinking=or_null(ref("Thinking", "Replaces the request's value.")),
                output_config=or_null(ref("OutputConfig", "Replaces the request's value.")),
            )
        ),
        const("default"),
    ),
}

COUNTED: dict[str, Schema] = {
    "model": string(
        "The model that answers.",
        "claude-opus-5-5",
        "claude-3-opus-20240229",
        pattern=NO_SPACES,
        minLength=1,
        maxLength=200,
    ),
    "messages": array(ref("MessageParam"), "The conversation.", minItems=1, maxItems=MAX_MESSAGES),
    "system": or_null(PROMPT | {"description": "The system prompt: text, or text blocks."}),
    "tools": or_null(array(ref("Tool"), "Tools that the model may use.")),
    "tool_choice": or_null(ref("ToolChoice", "Whether the model uses a tool, and which one.")),
    "thinking": or_null(ref("Thinking", "Whether the model thinks before it answers, and how much.")),
    "cache_control": CACHE_ALL,
    "mcp_servers": or_null(
        array(ref("McpServer"), "Needs the header `anthropic-beta` with a value `mcp-client-<date>`.")
    ),
    "output_format": {
        "description": "Structured output. Needs the header `anthropic-beta` with a value "
        "`structured-outputs-<date>`; newer models accept `output_config.format` without a beta.",
        "anyOf": [ref("OutputFormat"), {"type": "null"}],
    },
    "output_config": or_null(ref("OutputConfig", "The form of the answer, and the effort for it.")),
    "context_management": or_null(ref("ContextManagement", "Edits that shorten a long conversation; a beta.")),
    "fallbacks": or_null(ref("Fallbacks", "Models to try if the first one fails: `provider/model`, in order.")),
    "speed": or_null(string("`standard` or `fast`.", "standard")),
    "compaction": or_null(obj("Asks for a summary of the conversation; a beta, excludes `context_management`.")),
    "billing_policy": or_null(obj("Who is billed; a beta.")),
}

ONLY_MESSAGES: dict[str, Schema] = {
    "max_tokens": integer(
        "The most tokens to generate; the budget holds as much. 0 only fills the cache. It may be left out if the key"
        " or its team has a default. A value above their ceiling is refused (GET /v1/quota shows both).",
        1024,
        minimum=0,
        maximum=MAX_TOKENS,
    ),
    "stream": or_null(boolean("Whether the answer is a stream of server-sent events.")),
    "temperature": or_null(number("Randomness.", 0.7, minimum=0, maximum=1)),
    "top_p": or_null(number("Nucleus sampling.", 0.9, minimum=0, maximum=1)),
    "top_k": or_null(integer("Samples from this number of the most likely tokens.", 40, minimum=0)),
    "stop_sequences": or_null(array(string("A text.", "END"), "Texts at which the model stops.")),
    "metadata": or_null(ref("Metadata", "Information about the request, such as its user.")),
    "service_tier": or_null(string("`auto` or `standard_only`.", "auto")),
    "inference_geo": or_null(string("Where the model runs.", "us")),
    "container": or_null(
        any_of("A container to reuse.", string("Its id.", "container_011"), obj("Its id and skills."))
    ),
    "diagnostics": or_null(obj("Asks why the prompt cache was missed.")),
    "thread": or_null(obj("A conversation that the provider stores; a beta.")),
    "fallback_credit_token": or_null(
        any_of(
            "A token from a refusal; a beta, excludes `fallbacks`.",
            string("The token."),
            obj("The token and how to redeem it."),
        )
    ),
}

REQUESTS = {
    "MessagesRequest": obj("A request for a message.", "model max_tokens messages", **COUNTED, **ONLY_MESSAGES),
    "CountTokensRequest": obj("A request to count tokens.", "model messages", **COUNTED),
}

SCHEMAS: dict[str, Schema] = {**REQUESTS, **PARTS, **SOURCES, **REQUEST_BLOCKS, **CHOICES}
