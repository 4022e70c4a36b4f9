"""The schemas of answers, events of streams and models, for the OpenAPI document."""

from __future__ import annotations

from messages_api.reference.messages import REQUEST_BLOCKS, tool_use
from messages_api.reference.shapes import (
    ERROR_SCHEMAS,
    Schema,
    any_of,
    array,
    boolean,
    const,
    enum,
    integer,
    maybe_string,
    obj,
    other,
    ref,
    string,
)

MAYBE_WHEN: Schema = {"type": ["string", "null"], "format": "date-time"}

ANSWER_BLOCKS: dict[str, Schema] = {
    "TextBlock": obj(
        "Text of the model.",
        "type text",
        type=const("text"),
        text=string("The text.", "Hello!"),
        citations={"type": ["array", "null"], "items": obj("A source."), "description": "The sources that it cites."},
    ),
    "ThinkingBlock": obj(
        "Thinking of the model.",
        "type thinking signature",
        type=const("thinking"),
        thinking=string("The thinking, or its summary."),
        signature=string("Send it back together with the thinking.", "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"),
    ),
    "RedactedThinkingBlock": obj(
        "Thinking of the model, encrypted.",
        "type data",
        type=const("redacted_thinking"),
        data=string("The thinking, encrypted by the provider. Send it back unchanged.", "EmwKAhgB"),
    ),
    "ToolUseBlock": tool_use(
        "tool_use",
        "The model asks the client to run a tool.",
        "toolu_01A09q90qw90lq917835lq9",
        "get_weather",
    ),
    "ServerToolUseBlock": tool_use(
        "server_tool_use",
        "The provider runs one of its own tools.",
        "srvtoolu_014hJH82Qum7Td6UV8gDXThB",
        "web_search",
    ),
    "McpToolUseBlock": tool_use(
        "mcp_tool_use",
        "The provider runs a tool of an MCP server.",
        "mcptoolu_014Q35RayjACSWkSj4X2yov1",
        "ask_question",
        server_name=string("The MCP server that has the tool.", "docs"),
    ),
    "ToolResultBlock": obj(
        "The result of a tool of the provider or of an MCP server.",
        "type tool_use_id",
        type=enum(
            "The kind of tool.",
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
        tool_use_id=string("The id of the tool use.", "srvtoolu_014hJH82Qum7Td6UV8gDXThB"),
        content={"description": "Text, blocks, or an object with the results or an error."},
        is_error=boolean("Whether the tool failed."),
    ),
    "ImageBlock": REQUEST_BLOCKS["ImageBlockParam"],
    "DocumentBlock": REQUEST_BLOCKS["DocumentBlockParam"],
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
STOP = ref("StopReason", "Why the model stopped; null while a stream runs.")
STOP_SEQUENCE = maybe_string("The stop sequence that the model wrote.")
STOP_DETAILS = {"type": ["object", "null"], "description": "Details of a refusal."}
INDEX = integer("The index of the content block in the message, from 0 on.", 0, minimum=0)

ANSWERS: dict[str, Schema] = {
    "Usage": obj(
        "The tokens of the call. The prompt is `input_tokens`, `cache_creation_input_tokens` and"
        " `cache_read_input_tokens` together.",
        "input_tokens output_tokens",
        input_tokens=integer("Tokens neither read from nor written to the cache.", 25, minimum=0),
        output_tokens=integer("Tokens of the answer, including thinking.", 150, minimum=0),
        cache_creation_input_tokens=COUNT | {"description": "Tokens written to the cache."},
        cache_read_input_tokens=COUNT | {"description": "Tokens read from the cache."},
        cache_creation={
            "description": "The tokens written to the cache, by time to live.",
            "anyOf": [
                obj(
                    "Tokens by time to live.",
                    "",
                    ephemeral_5m_input_tokens=integer("Tokens cached for 5 minutes.", minimum=0),
                    ephemeral_1h_input_tokens=integer("Tokens cached for an hour.", minimum=0),
                ),
                {"type": "null"},
            ],
        },
        output_tokens_details={
            "description": "`thinking_tokens`, which are a part of the output.",
            "type": ["object", "null"],
        },
        server_tool_use={
            "description": "Uses of the provider's tools.",
            "anyOf": [
                obj(
                    "Uses by tool.",
                    "",
                    web_search_requests=integer("Web searches; each costs a fee.", minimum=0),
                    web_fetch_requests=integer("Fetched pages.", minimum=0),
                ),
                {"type": "null"},
            ],
        },
        service_tier=enum("The tier that served the call.", "standard", "priority", "batch", None),
        provider_service_tier=string("An OpenAI-compatible provider's own name of the tier.", "flex"),
        speed=enum("The speed that the call was served at.", "standard", "fast", None),
        inference_geo={"type": ["string", "null"], "description": "Where the model ran."},
        iterations={
            "type": ["array", "null"],
            "items": obj("The tokens of one iteration."),
            "description": "If present, these are billed instead of the counts above.",
        },
    ),
    "ContentBlock": any_of("A content block, by `type`.", *map(ref, ANSWER_BLOCKS)),
    "StopReason": enum(
        "Why the model stopped; null while a stream runs.",
        *STOP_REASONS,
        None,
    ),
    "Message": obj(
        "The model's answer.",
        "id type role content model stop_reason stop_sequence usage",
        id=string("The provider's id of the message.", "msg_013Zva2CMHLNnXjNJJKqJ2EF"),
        type=const("message") | {"default": "message"},
        role=const("assistant") | {"default": "assistant"},
        content=array(ref("ContentBlock"), "The content blocks of the answer."),
        model=string("The model that answered. Its name may differ from the requested one.", "claude-opus-5-5"),
        stop_reason=STOP,
        stop_sequence=STOP_SEQUENCE,
        stop_details=STOP_DETAILS,
        container={"type": ["object", "null"], "description": "The container that tools ran in."},
        usage=ref("Usage", "The tokens of the call, which are billed."),
    ),
    "TokenCount": obj(
        "The length of a prompt.", "input_tokens", input_tokens=integer("Tokens of the prompt.", 2095, minimum=0)
    ),
    "Model": obj(
        "A model, as its provider describes it.",
        "type id display_name created_at",
        type=const("model"),
        id=string("The value for `model` in requests.", "claude-opus-5-5"),
        display_name=string("A readable name.", "Claude Opus 5.5"),
        created_at=string("The release date.", "2026-02-19T00:00:00Z", format="date-time"),
        lifecycle=enum("Whether the model can be called, and for how long.", "active", "deprecated", "retired"),
        line=maybe_string("The line of models that it belongs to."),
        deprecated_at=MAYBE_WHEN | {"description": "When the provider deprecated the model."},
        retires_at=MAYBE_WHEN | {"description": "When the model stops to be available."},
        allowed_fallback_models={
            "type": ["array", "null"],
            "items": {"type": "string"},
            "description": "Models that the provider accepts as `fallbacks` of this one.",
        },
        max_input_tokens=COUNT | {"description": "The longest prompt, in tokens."},
        max_tokens=COUNT | {"description": "The longest answer, in tokens."},
        capabilities={"type": ["object", "null"], "description": "The model's abilities, as its provider lists them."},
    ),
    "ModelPage": obj(
        "A page of the models that this key may use.",
        "data has_more first_id last_id",
        data=array(ref("Model"), "The models of this page."),
        has_more=boolean("Whether more models follow in the direction of this page."),
        first_id={"type": ["string", "null"], "description": "The `before_id` for the previous page."},
        last_id={"type": ["string", "null"], "description": "The `after_id` for the next page."},
    ),
}

EVENTS: dict[str, Schema] = {
    "MessageStartEvent": obj(
        "The message begins.",
        "type message",
        type=const("message_start"),
        message=ref("Message", "The message, still without content."),
    ),
    "ContentBlockStartEvent": obj(
        "A content block begins.",
        "type index content_block",
        type=const("content_block_start"),
        index=INDEX,
        content_block=ref("ContentBlock", "The block, still without its text."),
    ),
    "ContentBlockDeltaEvent": obj(
        "A content block continues.",
        "type index delta",
        type=const("content_block_delta"),
        index=INDEX,
        delta=obj(
            "The addition to the block.",
            "type",
            type=string(
                "One of text_delta, input_json_delta, thinking_delta, signature_delta, citations_delta and others.",
                "text_delta",
            ),
            text=string("In a text_delta: more text."),
            partial_json=string("In an input_json_delta: a piece of the JSON of the tool's input."),
            thinking=string("In a thinking_delta: more thinking."),
            signature=string("In a signature_delta: the signature of the thinking."),
        ),
    ),
    "ContentBlockStopEvent": obj("A content block ends.", "type index", type=const("content_block_stop"), index=INDEX),
    "MessageDeltaEvent": obj(
        "The end of the message. Each member of its usage replaces that of the start.",
        "type delta usage",
        type=const("message_delta"),
        delta=obj(
            "Members of the message that are known at its end.",
            "",
            stop_reason=STOP,
            stop_sequence=STOP_SEQUENCE,
            stop_details=STOP_DETAILS,
        ),
        usage=obj(
            "The tokens up to now.",
            "output_tokens",
            output_tokens=integer("Tokens of the answer up to now, including thinking.", minimum=0),
        ),
    ),
    "MessageStopEvent": obj("The message ends.", "type", type=const("message_stop")),
    "PingEvent": obj("Keeps the connection alive.", "type", type=const("ping")),
}

SCHEMAS: dict[str, Schema] = {
    **ERROR_SCHEMAS,
    **ANSWERS,
    **ANSWER_BLOCKS,
    **EVENTS,
    "StreamEvent": any_of("The data of a server-sent event, by `type`.", *map(ref, EVENTS), ref("Error")),
}
