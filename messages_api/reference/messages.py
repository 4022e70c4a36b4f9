"""The shapes of requests for messages and of their answers, for the OpenAPI document.

Written by hand rather than derived from body.py: they also say what a caller may send that nobody here checks, and
what comes back. A test holds them against docs/validation.md. Objects are open: what isn't listed may be there.
"""

from __future__ import annotations

from messages_api.body import MAX_MESSAGES, MAX_TOKENS, MIN_THINKING, MODEL
from messages_api.reference.shapes import (
    ERROR_TYPES,
    Schema,
    any_of,
    array,
    boolean,
    const,
    enum,
    error,
    integer,
    number,
    obj,
    or_null,
    other,
    ref,
    string,
)

NO_SPACES = f"^{MODEL.pattern}$"
MAYBE_WHEN: Schema = {"type": ["string", "null"], "format": "date-time"}

# What a request is made of

SOURCES: dict[str, Schema] = {
    "Base64Source": obj(
        "The bytes themselves.",
        "type media_type data",
        type=const("base64"),
        media_type=string("", "image/png", "application/pdf"),
        data=string("In base64.", "iVBORw0KGgo="),
    ),
    "UrlSource": obj(
        "Where the provider fetches it.", "type url", type=const("url"), url=string("", "https://example.com/a.png")
    ),
    "TextSource": obj(
        "A document of plain text.",
        "type media_type data",
        type=const("text"),
        media_type=string("", "text/plain"),
        data=string("The text.", "The grass is green."),
    ),
    "FileSource": obj(
        "A file that was uploaded before.", "type file_id", type=const("file"), file_id=string("", "file_011CNha8")
    ),
    "OtherSource": other("A source of another type.", ["base64", "url", "text", "file"]),
}

CACHE = or_null(ref("CacheControl"))
NO_CACHE: Schema = {"type": "null", "description": "No cached prefix may end with this block."}
CITED: Schema = {
    "description": "Whether the model cites it.",
    "anyOf": [obj("", "", enabled=boolean("Whether it does.")), {"type": "null"}],
}

REQUEST_BLOCKS: dict[str, Schema] = {
    "TextBlockParam": obj(
        "What somebody said.",
        "type text",
        type=const("text"),
        text=string("", "Hello"),
        cache_control=CACHE,
        citations=or_null(array(obj("One."), "Where the text is from.")),
    ),
    "ImageBlockParam": obj("An image.", "type source", type=const("image"), source=ref("Source"), cache_control=CACHE),
    "DocumentBlockParam": obj(
        "A document to read.",
        "type source",
        type=const("document"),
        source=ref("Source"),
        title=or_null(string("Its title.", "The grass")),
        context=or_null(string("What the model should know of it, and not cite.")),
        citations=CITED,
        cache_control=CACHE,
    ),
    "SearchResultBlockParam": obj(
        "Something found, to be cited.",
        "type content source title",
        type=const("search_result"),
        content=array(obj("A block.", "type", type=string("", "text")), "Text."),
        source=string("", "https://example.com/grass"),
        title=string("", "The grass"),
        citations=CITED,
        cache_control=CACHE,
    ),
    "ContainerUploadBlockParam": obj(
        "A file for the container.",
        "type file_id",
        type=const("container_upload"),
        file_id=string("", "file_011CNha8"),
        cache_control=CACHE,
    ),
    "ToolUseBlockParam": obj(
        "A tool that the model asked for, as it was answered.",
        "type id name input",
        type=const("tool_use"),
        id=string("", "toolu_01A09q90qw90lq917835lq9"),
        name=string("", "get_weather"),
        input=obj("What it was asked with."),
        cache_control=CACHE,
    ),
    "ServerToolUseBlockParam": obj(
        "A tool that the provider ran, as it was answered.",
        "type id name input",
        type=const("server_tool_use"),
        id=string("", "srvtoolu_014hJH82Qum7Td6UV8gDXThB"),
        name=string("", "web_search"),
        input=obj("What it was asked with."),
        cache_control=CACHE,
    ),
    "ToolResultBlockParam": obj(
        "What a tool answered.",
        "type tool_use_id",
        type=const("tool_result"),
        tool_use_id=string("", "toolu_01A09q90qw90lq917835lq9"),
        content=or_null(
            any_of(
                "Text, or blocks: text, image, search_result, document, tool_reference.",
                string("", "15 degrees"),
                array(obj("A block.", "type", type=string("", "text"))),
            )
        ),
        is_error=or_null(boolean("Whether the tool failed.")),
        cache_control=CACHE,
    ),
    "ThinkingBlockParam": obj(
        "What the model thought, as it was answered.",
        "type thinking signature",
        type=const("thinking"),
        thinking=string(),
        signature=string("Proves that it is the model's.", "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"),
        cache_control=NO_CACHE,
    ),
    "RedactedThinkingBlockParam": obj(
        "What the model thought, sealed.",
        "type data",
        type=const("redacted_thinking"),
        data=string("", "EmwKAhgB"),
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
        name=string("", "get_weather"),
        disable_parallel_tool_use=or_null(boolean("At most one tool at a time.")),
    ),
    "ToolChoiceNone": obj("It may use none.", "type", type=const("none")),
}

PROMPT = any_of("Text, or content blocks.", string("", "Hello, Claude"), array(ref("ContentBlockParam")))

PARTS: dict[str, Schema] = {
    "CacheControl": obj(
        "Where a cached prefix ends.",
        "type",
        type=enum("", "ephemeral"),
        ttl=enum("How long it is kept; 5 minutes unless said.", "5m", "1h", None),
    ),
    "Source": any_of("Where an image or a document comes from, by `type`.", *map(ref, SOURCES)),
    "ContentBlockParam": any_of("A content block, by `type`.", *map(ref, REQUEST_BLOCKS)),
    "MessageParam": any_of(
        "A turn of the conversation.",
        obj("The user's or the model's.", "role content", role=enum("", "user", "assistant"), content=PROMPT),
        obj("Instructions in mid-conversation.", "role", role=enum("", "system"), content=PROMPT),
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
            name=string("", "get_weather"),
            description=string("", "The weather at a place."),
            input_schema=obj("The JSON schema of its input.", "", type=string("", "object")),
            cache_control=CACHE,
        ),
        obj(
            "The provider's (web_search, web_fetch, code_execution, bash, text_editor, computer, memory, tool_search, "
            "mcp_toolset, …), by `type` with its date.",
            "type",
            type=string("", "web_search_20260318", **{"not": {"enum": ["custom", "advisor_20260301"]}}),
            cache_control=CACHE,
        ),
        obj(
            "Another model, to be asked for advice.",
            "type model",
            type=const("advisor_20260301"),
            model=string("", "claude-opus-5", pattern=NO_SPACES, maxLength=200),
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
            name=string("", "docs"),
            url=string("", "https://mcp.example.com/sse"),
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
        format=or_null(ref("OutputFormat")),
        effort=or_null(string("", "high")),
        task_budget=or_null(obj("How much a task may take; a beta.")),
    ),
    "ContextManagement": obj(
        "Which parts of a long conversation to leave out; a beta.",
        "",
        edits=or_null(array(obj("One.", "type", type=string("", "compact_20260112")))),
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
                model=string("", "claude-opus-5", pattern=NO_SPACES, maxLength=200),
                max_tokens=or_null(integer("In place of the request's.", minimum=0, maximum=MAX_TOKENS)),
                speed=or_null(string("", "standard")),
                thinking=or_null(ref("Thinking")),
                output_config=or_null(ref("OutputConfig")),
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
    "tool_choice": or_null(ref("ToolChoice")),
    "thinking": or_null(ref("Thinking")),
    "cache_control": CACHE,
    "mcp_servers": or_null(
        array(ref("McpServer"), "Needs the header `anthropic-beta` with a value `mcp-client-<date>`.")
    ),
    "output_format": {
        "description": "Structured output. Needs the header `anthropic-beta` with a value "
        "`structured-outputs-<date>`; newer models take `output_config.format` without one.",
        "anyOf": [ref("OutputFormat"), {"type": "null"}],
    },
    "output_config": or_null(ref("OutputConfig")),
    "context_management": or_null(ref("ContextManagement")),
    "fallbacks": or_null(ref("Fallbacks")),
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
    "stop_sequences": or_null(array(string("", "END"), "Where to stop.")),
    "metadata": or_null(ref("Metadata")),
    "service_tier": or_null(string("`auto` or `standard_only`.", "auto")),
    "inference_geo": or_null(string("Where the model runs.", "us")),
    "container": or_null(any_of("A container to go on with.", string("", "container_011"), obj("With skills."))),
    "diagnostics": or_null(obj("Asks why the prompt cache was missed.")),
    "thread": or_null(obj("A conversation that the provider keeps; a beta.")),
    "fallback_credit_token": or_null(
        any_of("From a refusal; a beta, not with `fallbacks`.", string(), obj("The token and how to redeem it."))
    ),
}

REQUESTS = {
    "MessagesRequest": obj("A request for a message.", "model max_tokens messages", **COUNTED, **ONLY_MESSAGES),
    "CountTokensRequest": obj("A request to count tokens.", "model messages", **COUNTED),
}

# What is answered

ANSWER_BLOCKS: dict[str, Schema] = {
    "TextBlock": obj(
        "What the model says.",
        "type text",
        type=const("text"),
        text=string("", "Hello!"),
        citations={"type": ["array", "null"], "items": obj("Where it is from."), "description": "What it cites."},
    ),
    "ThinkingBlock": obj(
        "What the model thought.",
        "type thinking signature",
        type=const("thinking"),
        thinking=string(),
        signature=string("To be sent back with it.", "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"),
    ),
    "RedactedThinkingBlock": obj(
        "What the model thought, sealed.", "type data", type=const("redacted_thinking"), data=string("", "EmwKAhgB")
    ),
    "ToolUseBlock": obj(
        "A tool that the caller should run.",
        "type id name input",
        type=const("tool_use"),
        id=string("", "toolu_01A09q90qw90lq917835lq9"),
        name=string("", "get_weather"),
        input=obj("What to run it with."),
    ),
    "ServerToolUseBlock": obj(
        "A tool that the provider runs.",
        "type id name input",
        type=const("server_tool_use"),
        id=string("", "srvtoolu_014hJH82Qum7Td6UV8gDXThB"),
        name=string("", "web_search"),
        input=obj("What it is run with."),
    ),
    "McpToolUseBlock": obj(
        "A tool of an MCP server that the provider runs.",
        "type id name server_name input",
        type=const("mcp_tool_use"),
        id=string("", "mcptoolu_014Q35RayjACSWkSj4X2yov1"),
        name=string("", "ask_question"),
        server_name=string("", "docs"),
        input=obj("What it is run with."),
    ),
    "ToolResultBlock": obj(
        "What a tool of the provider's or an MCP server's answered.",
        "type tool_use_id",
        type=enum(
            "",
            "tool_result",
            "mcp_tool_result",
            "web_search_tool_result",
            "web_fetch_tool_result",
            "code_execution_tool_result",
            "bash_code_execution_tool_result",
            "text_editor_code_execution_tool_result",
            "tool_search_tool_result",
            "advisor_tool_result",
        ),
        tool_use_id=string("", "srvtoolu_014hJH82Qum7Td6UV8gDXThB"),
        content={"description": "Text, blocks, or an object that says what was found or went wrong."},
        is_error=boolean("Whether it failed."),
    ),
    "ImageBlock": obj("An image.", "type source", type=const("image"), source=ref("Source"), cache_control=CACHE),
    "DocumentBlock": obj(
        "A document.",
        "type source",
        type=const("document"),
        source=ref("Source"),
        title={"type": ["string", "null"]},
        context={"type": ["string", "null"]},
        citations={"anyOf": [obj("", "", enabled=boolean("Whether it is cited.")), {"type": "null"}]},
        cache_control=CACHE,
    ),
}
TYPES = [
    kind
    for block in ANSWER_BLOCKS.values()
    for kind in block["properties"]["type"].get("enum", [block["properties"]["type"].get("const")])
]
ANSWER_BLOCKS["OtherBlock"] = other("A block of another type, such as container_upload or compaction.", TYPES)

STOP_REASONS = (
    "end_turn",
    "max_tokens",
    "stop_sequence",
    "tool_use",
    "pause_turn",
    "refusal",
    "model_context_window_exceeded",
)
COUNT = {"type": ["integer", "null"], "minimum": 0}

ANSWERS: dict[str, Schema] = {
    "Usage": obj(
        "What was used. Input is `input_tokens`, `cache_creation_input_tokens` and `cache_read_input_tokens` together.",
        "input_tokens output_tokens",
        input_tokens=integer("Neither read from nor written to the cache.", 25, minimum=0),
        output_tokens=integer("Thinking among them.", 150, minimum=0),
        cache_creation_input_tokens=COUNT | {"description": "Written to the cache."},
        cache_read_input_tokens=COUNT | {"description": "Read from the cache."},
        cache_creation={
            "description": "What was written, by how long it is kept.",
            "anyOf": [
                obj(
                    "",
                    "",
                    ephemeral_5m_input_tokens=integer("For 5 minutes.", minimum=0),
                    ephemeral_1h_input_tokens=integer("For an hour.", minimum=0),
                ),
                {"type": "null"},
            ],
        },
        output_tokens_details={"description": "`thinking_tokens` among the output.", "type": ["object", "null"]},
        server_tool_use={
            "description": "What the provider's tools did.",
            "anyOf": [
                obj(
                    "",
                    "",
                    web_search_requests=integer("Paid for each.", minimum=0),
                    web_fetch_requests=integer("", minimum=0),
                ),
                {"type": "null"},
            ],
        },
        service_tier=enum("", "standard", "priority", "batch", None),
        provider_service_tier=string("The tier in the words of an OpenAI-compatible provider.", "flex"),
        speed=enum("", "standard", "fast", None),
        inference_geo={"type": ["string", "null"], "description": "Where the model ran."},
        iterations={
            "type": ["array", "null"],
            "items": obj("What one iteration used."),
            "description": "Where there are any, they are what is paid for.",
        },
    ),
    "ContentBlock": any_of("A content block, by `type`.", *map(ref, ANSWER_BLOCKS)),
    "StopReason": enum(
        "Why the model stopped: null while a stream runs.",
        *STOP_REASONS,
        None,
    ),
    "Message": obj(
        "The model's answer.",
        "id type role content model stop_reason stop_sequence usage",
        id=string("", "msg_013Zva2CMHLNnXjNJJKqJ2EF"),
        type={"type": "string", "const": "message", "default": "message"},
        role={"type": "string", "const": "assistant", "default": "assistant"},
        content=array(ref("ContentBlock"), "What it says."),
        model=string("The model that answered, which may have another name than the one asked for.", "claude-opus-5-5"),
        stop_reason=ref("StopReason"),
        stop_sequence={"type": ["string", "null"], "description": "The stop sequence that it came to."},
        stop_details={"type": ["object", "null"], "description": "About a refusal."},
        container={"type": ["object", "null"], "description": "The container that tools ran in."},
        usage=ref("Usage"),
    ),
    "TokenCount": obj("How long a prompt is.", "input_tokens", input_tokens=integer("Its tokens.", 2095, minimum=0)),
    "Model": obj(
        "A model, as its provider describes it.",
        "type id display_name created_at",
        type=const("model"),
        id=string("", "claude-opus-5-5"),
        display_name=string("", "Claude Opus 5.5"),
        created_at=string("", "2026-02-19T00:00:00Z", format="date-time"),
        lifecycle=enum("Whether it can be called, and for how long.", "active", "deprecated", "retired"),
        line={"type": ["string", "null"], "description": "The line of models that it belongs to."},
        deprecated_at=MAYBE_WHEN | {"description": "When it was deprecated."},
        retires_at=MAYBE_WHEN | {"description": "When it can't be called any more."},
        allowed_fallback_models={"type": ["array", "null"], "items": {"type": "string"}},
        max_input_tokens=COUNT,
        max_tokens=COUNT,
        capabilities={"type": ["object", "null"]},
    ),
    "ModelPage": obj(
        "A page of the models that this key may use.",
        "data has_more first_id last_id",
        data=array(ref("Model")),
        has_more=boolean("Whether there are more in the direction of this page."),
        first_id={"type": ["string", "null"], "description": "For `before_id` of the page before."},
        last_id={"type": ["string", "null"], "description": "For `after_id` of the next page."},
    ),
}

EVENTS: dict[str, Schema] = {
    "MessageStartEvent": obj("", "type message", type=const("message_start"), message=ref("Message")),
    "ContentBlockStartEvent": obj(
        "",
        "type index content_block",
        type=const("content_block_start"),
        index=integer(),
        content_block=ref("ContentBlock"),
    ),
    "ContentBlockDeltaEvent": obj(
        "",
        "type index delta",
        type=const("content_block_delta"),
        index=integer(),
        delta=obj(
            "What is added.",
            "type",
            type=string(
                "text_delta, input_json_delta, thinking_delta, signature_delta, citations_delta and others.",
                "text_delta",
            ),
            text=string("Of a text_delta."),
            partial_json=string("Of an input_json_delta: together they are the tool's input."),
            thinking=string("Of a thinking_delta."),
            signature=string("Of a signature_delta."),
        ),
    ),
    "ContentBlockStopEvent": obj("", "type index", type=const("content_block_stop"), index=integer()),
    "MessageDeltaEvent": obj(
        "Its usage replaces, member by member, that of the start.",
        "type delta usage",
        type=const("message_delta"),
        delta=obj(
            "",
            "",
            stop_reason=ref("StopReason"),
            stop_sequence={"type": ["string", "null"]},
            stop_details={"type": ["object", "null"]},
        ),
        usage=obj("", "output_tokens", output_tokens=integer("So far.", minimum=0)),
    ),
    "MessageStopEvent": obj("", "type", type=const("message_stop")),
    "PingEvent": obj("A sign of life.", "type", type=const("ping")),
}

SCHEMAS: dict[str, Schema] = {
    **REQUESTS,
    **PARTS,
    **SOURCES,
    **REQUEST_BLOCKS,
    **CHOICES,
    **ANSWERS,
    **ANSWER_BLOCKS,
    **EVENTS,
    "StreamEvent": any_of("The data of a server-sent event, by `type`.", *map(ref, EVENTS), ref("Error")),
    "Error": error(ERROR_TYPES),
}
