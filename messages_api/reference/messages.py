"""The shapes of requests for messages, for the OpenAPI document.

Written by hand rather than derived from body.py: they also say what a caller may send that nobody here checks. A test
holds them against docs/validation.md. Objects are open: what isn't listed may be there.
"""

from __future__ import annotations

from messages_api.body import MAX_MESSAGES, MAX_TOKENS, MIN_THINKING, MODEL
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

NO_SPACES = f"^{MODEL.pattern}$"

# What a request is made of

SOURCES: dict[str, Schema] = {
    "Base64Source": obj(
        "The bytes themselves.",
        "type media_type data",
        type=const("base64"),
        media_type=string("The type of the bytes.", "image/png", "application/pdf"),
        data=string("The bytes in base64.", "iVBORw0KGgo="),
    ),
    "UrlSource": obj(
        "Where the provider fetches it.",
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
        "A file that was uploaded before.",
        "type file_id",
        type=const("file"),
        file_id=string("The file's id.", "file_011CNha8"),
    ),
    "OtherSource": other("A source of another type.", ["base64", "url", "text", "file"]),
}

CACHE = or_null(ref("CacheControl", "Ends a cached prefix here."))
CACHE_ALL = or_null(ref("CacheControl", "Caches the request by itself: its prefix up to the last block that can be."))
NO_CACHE: Schema = {"type": "null", "description": "No cached prefix may end with this block."}
CITED: Schema = {
    "description": "Whether the model cites it.",
    "anyOf": [obj("A switch.", "", enabled=boolean("Whether it does.")), {"type": "null"}],
}

TEXTS = obj("A block.", "type", type=string("The block's type.", "text"))

REQUEST_BLOCKS: dict[str, Schema] = {
    "TextBlockParam": obj(
        "What somebody said.",
        "type text",
        type=const("text"),
        text=string("The text.", "Hello"),
        cache_control=CACHE,
        citations=or_null(array(obj("A place in a source."), "Where the text is from.")),
    ),
    "ImageBlockParam": obj(
        "An image.",
        "type source",
        type=const("image"),
        source=ref("Source", "Where the image comes from."),
        cache_control=CACHE,
    ),
    "DocumentBlockParam": obj(
        "A document to read.",
        "type source",
        type=const("document"),
        source=ref("Source", "Where the document comes from."),
        title=or_null(string("Its title.", "The grass")),
        context=or_null(string("What the model should know of it, and not cite.")),
        citations=CITED,
        cache_control=CACHE,
    ),
    "SearchResultBlockParam": obj(
        "Something found, to be cited.",
        "type content source title",
        type=const("search_result"),
        content=array(TEXTS, "What was found, as text blocks."),
        source=string("Where it was found.", "https://example.com/grass"),
        title=string("The title of what was found.", "The grass"),
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
    "ToolUseBlockParam": obj(
        "A tool that the model asked for, as it was answered.",
        "type id name input",
        type=const("tool_use"),
        id=string("The id of this use, which its result names.", "toolu_01A09q90qw90lq917835lq9"),
        name=string("The tool's name.", "get_weather"),
        input=obj("What it was asked with."),
        cache_control=CACHE,
    ),
    "ServerToolUseBlockParam": obj(
        "A tool that the provider ran, as it was answered.",
        "type id name input",
        type=const("server_tool_use"),
        id=string("The id of this use, which its result names.", "srvtoolu_014hJH82Qum7Td6UV8gDXThB"),
        name=string("The tool's name.", "web_search"),
        input=obj("What it was asked with."),
        cache_control=CACHE,
    ),
    "ToolResultBlockParam": obj(
        "What a tool answered.",
        "type tool_use_id",
        type=const("tool_result"),
        tool_use_id=string("The id of the use that it is the result of.", "toolu_01A09q90qw90lq917835lq9"),
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
        "What the model thought, as it was answered.",
        "type thinking signature",
        type=const("thinking"),
        thinking=string("The thought, word for word."),
        signature=string("Proves that it is the model's.", "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"),
        cache_control=NO_CACHE,
    ),
    "RedactedThinkingBlockParam": obj(
        "What the model thought, sealed.",
        "type data",
        type=const("redacted_thinking"),
        data=string("The thought, encrypted by the provider.", "EmwKAhgB"),
        cache_control=NO_CACHE,
    ),
    "FallbackBlockParam": obj("Where another model took over.", "type", type=const("fallback"), cache_control=NO_CACHE),
    "OtherBlockParam": other(
        "A block of another type: mcp_tool_use, mcp_tool_result, web_search_tool_result, "
        "web_fetch_tool_result, code_execution_tool_result, compaction and whatever is new.",
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
        disable_parallel_tool_use=or_null(boolean("At most one tool at a time.")),
    )
    for name, about in (("auto", "The model may use a tool."), ("any", "It has to use one."))
} | {
    "ToolChoiceTool": obj(
        "It has to use this one.",
        "type name",
        type=const("tool"),
        name=string("The tool's name.", "get_weather"),
        disable_parallel_tool_use=or_null(boolean("At most one tool at a time.")),
    ),
    "ToolChoiceNone": obj("It may use none.", "type", type=const("none")),
}

PROMPT = any_of(
    "Text, or content blocks.", string("Text.", "Hello, Claude"), array(ref("ContentBlockParam"), "Blocks.")
)

PARTS: dict[str, Schema] = {
    "CacheControl": obj(
        "Where a cached prefix ends.",
        "type",
        type=enum("How it is cached: for a while.", "ephemeral"),
        ttl=enum("How long it is kept; 5 minutes unless said.", "5m", "1h", None),
    ),
    "Source": any_of("Where an image or a document comes from, by `type`.", *map(ref, SOURCES)),
    "ContentBlockParam": any_of("A content block, by `type`.", *map(ref, REQUEST_BLOCKS)),
    "MessageParam": any_of(
        "A turn of the conversation.",
        obj(
            "The user's or the model's.",
            "role content",
            role=enum("Whose turn it is.", "user", "assistant"),
            content=PROMPT,
        ),
        obj("Instructions in mid-conversation.", "role", role=enum("Always `system`.", "system"), content=PROMPT),
    ),
    "Metadata": obj(
        "About the request.",
        "",
        user_id=or_null(string("An opaque id of the caller's own user.", "13803d75-b4b5-4c3e-b2a2-6f21399b021b")),
    ),
    "Tool": any_of(
        "A tool the model may use.",
        obj(
            "The caller's own.",
            "name input_schema",
            type=enum("`custom`, or left out.", "custom", None),
            name=string("What the model calls it by.", "get_weather"),
            description=string("What it does and when to use it, for the model.", "The weather at a place."),
            input_schema=obj("The JSON schema of its input.", "", type=string("Always `object`.", "object")),
            cache_control=CACHE,
        ),
        obj(
            "The provider's (web_search, web_fetch, code_execution, bash, text_editor, computer, memory, tool_search, "
            "mcp_toolset, …), by `type` with its date.",
            "type",
            type=string(
                "Which tool, and of which date.",
                "web_search_20260318",
                **{"not": {"enum": ["custom", "advisor_20260301"]}},
            ),
            cache_control=CACHE,
        ),
        obj(
            "Another model, to be asked for advice.",
            "type model",
            type=const("advisor_20260301"),
            model=string("The model that gives advice.", "claude-opus-5", pattern=NO_SPACES, maxLength=200),
            cache_control=CACHE,
        ),
    ),
    "ToolChoice": any_of("Whether and which tool the model uses, by `type`.", *map(ref, CHOICES)),
    "McpServer": any_of(
        "A server whose tools the provider calls.",
        obj(
            "One with an address.",
            "type name url",
            type=const("url"),
            name=string("What the model knows it by.", "docs"),
            url=string("The server's address.", "https://mcp.example.com/sse"),
            authorization_token=or_null(string("The provider's credential for it.")),
            tool_configuration=or_null(obj("Which of its tools.")),
        ),
        other("One of another type.", ["url"]),
    ),
    "Thinking": any_of(
        "Whether the model thinks first.",
        obj(
            "It does, with a budget.",
            "type budget_tokens",
            type=const("enabled"),
            budget_tokens=integer("Less than `max_tokens`.", 2048, minimum=MIN_THINKING),
            display={"type": ["string", "null"], "description": "`summarized` or `omitted`."},
        ),
        other("`adaptive`, `disabled`, `between_tools` and whatever is new.", ["enabled"]),
    ),
    "OutputFormat": any_of(
        "What the answer has to look like.",
        obj("JSON.", "type schema", type=const("json_schema"), schema=obj("A JSON schema.")),
        other("Whatever is new.", ["json_schema"]),
    ),
    "OutputConfig": obj(
        "How the answer is made.",
        "",
        format=or_null(ref("OutputFormat", "The form that the answer has to have.")),
        effort=or_null(string("How much the model thinks and writes: `low`, `medium`, `high` and others.", "high")),
        task_budget=or_null(obj("How much a task may take; a beta.")),
    ),
    "ContextManagement": obj(
        "Which parts of a long conversation to leave out; a beta.",
        "",
        edits=or_null(
            array(
                obj("An edit.", "type", type=string("Which edit, and of which date.", "compact_20260112")),
                "What to leave out or to sum up, in order.",
            )
        ),
    ),
    "Fallbacks": any_of(
        "What to try where the model fails. A list of strings is the gateway's own, to be tried in order; it is "
        "taken out of the body. The other forms are Anthropic's and pass.",
        array(
            string("A model, or a provider and a model.", "bedrock/claude-haiku-4-5", pattern=NO_SPACES, maxLength=200)
        ),
        array(
            obj(
                "Anthropic's own.",
                "model",
                model=string("The model to try.", "claude-opus-5", pattern=NO_SPACES, maxLength=200),
                max_tokens=or_null(integer("In place of the request's.", minimum=0, maximum=MAX_TOKENS)),
                speed=or_null(string("In place of the request's: `standard` or `fast`.", "standard")),
                thinking=or_null(ref("Thinking", "In place of the request's.")),
                output_config=or_null(ref("OutputConfig", "In place of the request's.")),
            )
        ),
        const("default"),
    ),
}

COUNTED: dict[str, Schema] = {
    "model": string(
        "Which model answers.",
        "claude-opus-5-5",
        "claude-3-opus-20240229",
        pattern=NO_SPACES,
        minLength=1,
        maxLength=200,
    ),
    "messages": array(ref("MessageParam"), "The conversation.", minItems=1, maxItems=MAX_MESSAGES),
    "system": or_null(PROMPT | {"description": "The system prompt: text, or text blocks."}),
    "tools": or_null(array(ref("Tool"), "What the model may use.")),
    "tool_choice": or_null(ref("ToolChoice", "Whether and which tool the model uses.")),
    "thinking": or_null(ref("Thinking", "Whether the model thinks first, and how much.")),
    "cache_control": CACHE_ALL,
    "mcp_servers": or_null(
        array(ref("McpServer"), "Needs the header `anthropic-beta` with a value `mcp-client-<date>`.")
    ),
    "output_format": {
        "description": "Structured output. Needs the header `anthropic-beta` with a value "
        "`structured-outputs-<date>`; newer models take `output_config.format` without one.",
        "anyOf": [ref("OutputFormat"), {"type": "null"}],
    },
    "output_config": or_null(ref("OutputConfig", "How the answer is made: its form and its effort.")),
    "context_management": or_null(ref("ContextManagement", "What to leave out of a long conversation; a beta.")),
    "fallbacks": or_null(ref("Fallbacks", "Models to try where the first one fails: `provider/model`, in order.")),
    "speed": or_null(string("`standard` or `fast`.", "standard")),
    "compaction": or_null(obj("Asks for a summary of the conversation; a beta, not with `context_management`.")),
    "billing_policy": or_null(obj("Who is billed; a beta.")),
}

ONLY_MESSAGES: dict[str, Schema] = {
    "max_tokens": integer(
        "The most tokens to generate, and what is held of the budget. 0 only warms the cache. It may be left out where"
        " the key or its team has a default, and is refused above their ceiling (GET /v1/quota says both).",
        1024,
        minimum=0,
        maximum=MAX_TOKENS,
    ),
    "stream": or_null(boolean("Whether the answer comes as server-sent events.")),
    "temperature": or_null(number("Randomness.", 0.7, minimum=0, maximum=1)),
    "top_p": or_null(number("Nucleus sampling.", 0.9, minimum=0, maximum=1)),
    "top_k": or_null(integer("Only the so many likeliest tokens.", 40, minimum=0)),
    "stop_sequences": or_null(array(string("A text.", "END"), "Texts at which the model stops.")),
    "metadata": or_null(ref("Metadata", "About the request: whose it is.")),
    "service_tier": or_null(string("`auto` or `standard_only`.", "auto")),
    "inference_geo": or_null(string("Where the model runs.", "us")),
    "container": or_null(
        any_of("A container to go on with.", string("Its id.", "container_011"), obj("Its id and skills."))
    ),
    "diagnostics": or_null(obj("Asks why the prompt cache was missed.")),
    "thread": or_null(obj("A conversation that the provider keeps; a beta.")),
    "fallback_credit_token": or_null(
        any_of(
            "From a refusal; a beta, not with `fallbacks`.",
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
