"""JSON schemas in the form that OpenAI accepts. Pure.

OpenAI refuses a request if a tool's schema has an object without `properties`, or a list without `items`
(https://github.com/containers/kubernetes-mcp-server/issues/340, https://github.com/bnb-chain/bnbchain-mcp/issues/68).
Strict mode: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas (November 2026).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

# Members that contain schemas: by name, and directly or in a list.
NAMED = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
ONE = (
    *("items", "additionalItems", "unevaluatedItems", "contains", "prefixItems"),
    *("additionalProperties", "unevaluatedProperties", "propertyNames", "not", "if", "then", "else"),
    *("anyOf", "oneOf", "allOf"),
)
# Members that may be a plain `true`, which isn't a schema there.
FLAGS = ("additionalProperties", "unevaluatedProperties", "additionalItems", "unevaluatedItems")

# Signs of patterns that llama.cpp may not know, and the bounds that become repetitions in its grammars, of which it
# takes a limited number.
HARD = ("\\", "(?")
LENGTHS = ("minLength", "maxLength", "minItems", "maxItems")
MOST_REPEATED = 1000

# What OpenAI refuses at the top of a tool's schema.
TOP = frozenset(("oneOf", "anyOf", "allOf", "enum", "not"))

STRICT = frozenset(
    (
        *("type", "properties", "required", "additionalProperties", "items", "enum", "const", "anyOf"),
        *("$ref", "$defs", "definitions", "$schema", "title", "description", "pattern", "format"),
        *("multipleOf", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "minItems", "maxItems"),
    )
)
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")

Schema = dict[str, Any]


def parameters(schema: Schema, *, flat: bool = False) -> Schema:
    """The schema of a tool's input: always of an object, even if the client's schema doesn't say so.

    Args:
        flat: the provider refuses alternatives at the top.
    """
    made: Schema = filled({**(flattened(schema) if flat else schema), "type": "object"})
    return made


def flattened(schema: Schema) -> Schema:
    """A schema without alternatives at the top: an object that may have the members of all of them. OpenAI refuses the
    request otherwise: https://github.com/langchain-ai/langchainjs/issues/9804,
    https://github.com/makenotion/notion-mcp-server/issues/340 (August 2026)."""
    made = {name: value for name, value in schema.items() if name not in TOP}
    members = dict(made["properties"]) if isinstance(made.get("properties"), dict) else {}
    for name in ("allOf", "anyOf", "oneOf"):
        for one in schema[name] if isinstance(schema.get(name), list) else ():
            own = one.get("properties") if isinstance(one, dict) else None
            members = {**own, **members} if isinstance(own, dict) else members
    return {**made, "properties": members} if members else made


def loosened(schema: Any) -> Any:
    """A schema without what llama.cpp, and so LM Studio, can't make a grammar of: patterns with escapes or groups of
    their own kind, which become a part of the description, and high bounds of lengths. It refuses the request
    otherwise, and Claude Code sends such tools by itself.

    https://github.com/ggml-org/llama.cpp/issues/21943 (April 2026),
    https://github.com/lmstudio-ai/lmstudio-bug-tracker/issues/2220 (July 2026),
    https://github.com/lidge-jun/opencodex/issues/2135 (August 2026)
    """
    if isinstance(schema, list):
        return [loosened(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    made = within(schema, loosened)
    pattern = made.get("pattern")
    if isinstance(pattern, str) and any(sign in pattern for sign in HARD):
        del made["pattern"]
        made["description"] = f"{made.get('description') or ''} (pattern: {pattern})".strip()
    for name in LENGTHS:
        if isinstance(bound := made.get(name), int | float) and bound > MOST_REPEATED:
            del made[name]
    return made


def filled(schema: Any) -> Any:
    """An equivalent schema with the members that OpenAI requires."""
    if isinstance(schema, list):
        return [filled(each) for each in schema]
    if not isinstance(schema, dict):
        return {} if schema is True else schema
    made = within(schema, filled)
    kinds = made["type"] if isinstance(made.get("type"), list) else [made.get("type")]
    if "object" in kinds and not isinstance(made.get("properties"), dict):
        made["properties"] = {}
    if "array" in kinds and made.get("items") is None and "prefixItems" not in made:
        made["items"] = {}
    if "required" in made and made["required"] is None:
        del made["required"]
    return made


def within(schema: Schema, change: Callable[[Any], Any]) -> Schema:
    """A copy of a schema with each schema in it changed."""
    made = dict(schema)
    for name in NAMED:
        if isinstance(inner := made.get(name), dict):
            made[name] = {key: change(each) for key, each in inner.items()}
    for name in ONE:
        if isinstance(inner := made.get(name), dict | list) or (inner is True and name not in FLAGS):
            made[name] = change(inner)
    return made


def strictly(schema: Any) -> bool:
    """Whether strict mode supports the schema of an answer or of a tool: an object that isn't one of several."""
    return isinstance(schema, dict) and schema.get("type") == "object" and "anyOf" not in schema and is_strict(schema)


def is_strict(schema: Any) -> bool:
    """Whether strict mode supports a schema: it knows all keywords, and objects require all members that they allow."""
    if not isinstance(schema, dict) or not schema.keys() <= STRICT:
        return False
    if "$ref" in schema:
        return len(schema) == 1
    kinds = schema["type"] if isinstance(schema.get("type"), list) else [schema.get("type")]
    if kinds == [None] and not schema.get("anyOf"):
        return False
    if "format" in schema and schema["format"] not in FORMATS:
        return False
    return ("object" not in kinds or is_closed(schema)) and all(map(is_strict, inner(schema)))


def inner(schema: Schema) -> Iterator[Any]:
    """The schemas in a schema that strict mode may support."""
    for name in ("properties", "$defs", "definitions"):
        if name in schema:
            yield from schema[name].values() if isinstance(schema[name], dict) else [None]
    if "anyOf" in schema:
        yield from schema["anyOf"] if isinstance(schema["anyOf"], list) else [None]
    if "items" in schema:
        yield schema["items"]


def is_closed(schema: Schema) -> bool:
    """Whether an object requires all its members and allows no others."""
    members, required = schema.get("properties"), schema.get("required")
    if not isinstance(members, dict) or schema.get("additionalProperties") is not False:
        return False
    return not members or (isinstance(required, list) and set(members) == set(map(str, required)))
