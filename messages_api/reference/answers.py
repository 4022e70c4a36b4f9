"""The shapes of answers to requests for messages, streams and models among them, for the OpenAPI document."""

from __future__ import annotations

from messages_api.reference.messages import CACHE, CITED
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
        "What the model says.",
        "type text",
        type=const("text"),
        text=string("The text.", "Hello!"),
        citations={"type": ["array", "null"], "items": obj("Where it is from."), "description": "What it cites."},
    ),
    "ThinkingBlock": obj(
        "What the model thought.",
        "type thinking signature",
        type=const("thinking"),
        thinking=string("The thought, or its summary."),
        signature=string("To be sent back with it.", "EqQBCgIYAhIM1gbcDa9GJwZA2b3h"),
    ),
    "RedactedThinkingBlock": obj(
        "What the model thought, sealed.",
        "type data",
        type=const("redacted_thinking"),
        data=string("The thought, encrypted by the provider; to be sent back as it is.", "EmwKAhgB"),
    ),
    "ToolUseBlock": obj(
        "A tool that the caller should run.",
        "type id name input",
        type=const("tool_use"),
        id=string("The id of this use, which its result names.", "toolu_01A09q90qw90lq917835lq9"),
        name=string("The tool's name.", "get_weather"),
        input=obj("What to run it with."),
    ),
    "ServerToolUseBlock": obj(
        "A tool that the provider runs.",
        "type id name input",
        type=const("server_tool_use"),
        id=string("The id of this use, which its result names.", "srvtoolu_014hJH82Qum7Td6UV8gDXThB"),
        name=string("The tool's name.", "web_search"),
        input=obj("What it is run with."),
    ),
    "McpToolUseBlock": obj(
        "A tool of an MCP server that the provider runs.",
        "type id name server_name input",
        type=const("mcp_tool_use"),
        id=string("The id of this use, which its result names.", "mcptoolu_014Q35RayjACSWkSj4X2yov1"),
        name=string("The tool's name.", "ask_question"),
        server_name=string("The MCP server that has the tool.", "docs"),
        input=obj("What it is run with."),
    ),
    "ToolResultBlock": obj(
        "What a tool of the provider's or an MCP server's answered.",
        "type tool_use_id",
        type=enum(
            "Whose result it is.",
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
        tool_use_id=string("The id of the use that it is the result of.", "srvtoolu_014hJH82Qum7Td6UV8gDXThB"),
        content={"description": "Text, blocks, or an object that says what was found or went wrong."},
        is_error=boolean("Whether it failed."),
    ),
    "ImageBlock": obj(
        "An image.",
        "type source",
        type=const("image"),
        source=ref("Source", "Where the image comes from."),
        cache_control=CACHE,
    ),
    "DocumentBlock": obj(
        "A document.",
        "type source",
        type=const("document"),
        source=ref("Source", "Where the document comes from."),
        title=maybe_string("Its title."),
        context=maybe_string("What the model was to know of it, and not to cite."),
        citations=CITED,
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
STOP = ref("StopReason", "Why the model stopped: null while a stream runs.")
STOP_SEQUENCE = maybe_string("The stop sequence that it came to.")
STOP_DETAILS = {"type": ["object", "null"], "description": "About a refusal."}
INDEX = integer("Which of the message's content blocks, from 0 on.", 0, minimum=0)

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
                    "Tokens by how long they are kept.",
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
                    "Uses by tool.",
                    "",
                    web_search_requests=integer("Searches, each of which is paid for.", minimum=0),
                    web_fetch_requests=integer("Pages that were fetched.", minimum=0),
                ),
                {"type": "null"},
            ],
        },
        service_tier=enum("The tier that served the call.", "standard", "priority", "batch", None),
        provider_service_tier=string("The tier in the words of an OpenAI-compatible provider.", "flex"),
        speed=enum("The speed that the call was served at.", "standard", "fast", None),
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
        id=string("The provider's id of the message.", "msg_013Zva2CMHLNnXjNJJKqJ2EF"),
        type=const("message") | {"default": "message"},
        role=const("assistant") | {"default": "assistant"},
        content=array(ref("ContentBlock"), "What it says."),
        model=string("The model that answered, which may have another name than the one asked for.", "claude-opus-5-5"),
        stop_reason=STOP,
        stop_sequence=STOP_SEQUENCE,
        stop_details=STOP_DETAILS,
        container={"type": ["object", "null"], "description": "The container that tools ran in."},
        usage=ref("Usage", "What was used, and is paid for."),
    ),
    "TokenCount": obj("How long a prompt is.", "input_tokens", input_tokens=integer("Its tokens.", 2095, minimum=0)),
    "Model": obj(
        "A model, as its provider describes it.",
        "type id display_name created_at",
        type=const("model"),
        id=string("What to name in a request's `model`.", "claude-opus-5-5"),
        display_name=string("Its name for people.", "Claude Opus 5.5"),
        created_at=string("When it was released.", "2026-02-19T00:00:00Z", format="date-time"),
        lifecycle=enum("Whether it can be called, and for how long.", "active", "deprecated", "retired"),
        line=maybe_string("The line of models that it belongs to."),
        deprecated_at=MAYBE_WHEN | {"description": "When it was deprecated."},
        retires_at=MAYBE_WHEN | {"description": "When it can't be called any more."},
        allowed_fallback_models={
            "type": ["array", "null"],
            "items": {"type": "string"},
            "description": "Models that its provider takes as its `fallbacks`.",
        },
        max_input_tokens=COUNT | {"description": "The longest prompt, in tokens."},
        max_tokens=COUNT | {"description": "The longest answer, in tokens."},
        capabilities={"type": ["object", "null"], "description": "What it can do, as its provider says."},
    ),
    "ModelPage": obj(
        "A page of the models that this key may use.",
        "data has_more first_id last_id",
        data=array(ref("Model"), "The models of this page."),
        has_more=boolean("Whether there are more in the direction of this page."),
        first_id={"type": ["string", "null"], "description": "For `before_id` of the page before."},
        last_id={"type": ["string", "null"], "description": "For `after_id` of the next page."},
    ),
}

EVENTS: dict[str, Schema] = {
    "MessageStartEvent": obj(
        "The message begins.",
        "type message",
        type=const("message_start"),
        message=ref("Message", "The message so far: without content."),
    ),
    "ContentBlockStartEvent": obj(
        "A content block begins.",
        "type index content_block",
        type=const("content_block_start"),
        index=INDEX,
        content_block=ref("ContentBlock", "The block so far: without its text."),
    ),
    "ContentBlockDeltaEvent": obj(
        "A content block goes on.",
        "type index delta",
        type=const("content_block_delta"),
        index=INDEX,
        delta=obj(
            "What is added.",
            "type",
            type=string(
                "One of text_delta, input_json_delta, thinking_delta, signature_delta, citations_delta and others.",
                "text_delta",
            ),
            text=string("More text, of a text_delta."),
            partial_json=string("Of an input_json_delta: together they are the tool's input."),
            thinking=string("More of a thought, of a thinking_delta."),
            signature=string("The signature of a thought, of a signature_delta."),
        ),
    ),
    "ContentBlockStopEvent": obj("A content block ends.", "type index", type=const("content_block_stop"), index=INDEX),
    "MessageDeltaEvent": obj(
        "Its usage replaces, member by member, that of the start.",
        "type delta usage",
        type=const("message_delta"),
        delta=obj(
            "What is known of the message at its end.",
            "",
            stop_reason=STOP,
            stop_sequence=STOP_SEQUENCE,
            stop_details=STOP_DETAILS,
        ),
        usage=obj(
            "What was used so far.", "output_tokens", output_tokens=integer("Thinking among them, so far.", minimum=0)
        ),
    ),
    "MessageStopEvent": obj("The message ends.", "type", type=const("message_stop")),
    "PingEvent": obj("A sign of life.", "type", type=const("ping")),
}

SCHEMAS: dict[str, Schema] = {
    **ERROR_SCHEMAS,
    **ANSWERS,
    **ANSWER_BLOCKS,
    **EVENTS,
    "StreamEvent": any_of("The data of a server-sent event, by `type`.", *map(ref, EVENTS), ref("Error")),
}
