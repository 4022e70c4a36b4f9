"""Functions that write JSON schemas, and the errors, which all endpoints share."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def ref(name: str, about: str = "") -> Schema:
    """A reference to a component; for a member of an object, with a description of the member."""
    return described({"$ref": f"#/components/schemas/{name}"}, about, ())


def obj(about: str, required: str = "", **properties: Schema) -> Schema:
    """An object; `required` names its members, separated by spaces."""
    schema: Schema = {"type": "object", "description": about, "properties": properties}
    return schema | ({"required": required.split()} if required else {})


def string(about: str = "", *examples: str, **more: Any) -> Schema:
    return described({"type": "string", **more}, about, examples)


def number(about: str = "", *examples: float, **more: Any) -> Schema:
    return described({"type": "number", **more}, about, examples)


def integer(about: str = "", *examples: int, **more: Any) -> Schema:
    return described({"type": "integer", **more}, about, examples)


def boolean(about: str = "") -> Schema:
    return described({"type": "boolean"}, about, ())


def enum(about: str, *values: str | None) -> Schema:
    types = {"type": ["string", "null"]} if None in values else {"type": "string"}
    return described({**types, "enum": list(values)}, about, ())


def const(value: str) -> Schema:
    return {"type": "string", "const": value, "description": f"Always `{value}`."}


def array(items: Schema, about: str = "", **more: Any) -> Schema:
    return described({"type": "array", "items": items, **more}, about, ())


def maybe_string(about: str) -> Schema:
    return described({"type": ["string", "null"]}, about, ())


def described(schema: Schema, about: str, examples: tuple[Any, ...]) -> Schema:
    return schema | ({"description": about} if about else {}) | ({"examples": list(examples)} if examples else {})


def any_of(about: str, *schemas: Schema) -> Schema:
    return described({"anyOf": list(schemas)}, about, ())


def or_null(schema: Schema) -> Schema:
    """A schema that also allows null, which counts as left out."""
    if "$ref" in schema:
        bare = {"$ref": schema["$ref"]}
        return described({"anyOf": [bare, {"type": "null"}]}, schema.get("description", ""), ())
    if isinstance(kind := schema.get("type"), str):
        more = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
        return schema | {"type": [kind, "null"]} | more
    if "anyOf" in schema:
        return schema | {"anyOf": [*schema["anyOf"], {"type": "null"}]}
    raise ValueError(f"a schema of no type: {schema}")


def other(about: str, known: list[str]) -> Schema:
    """An object of an unknown type, which passes unchanged."""
    return obj(about, "type", type=string("Any type that isn't listed.", **{"not": {"enum": known}}))


# Errors

ERRORS = {
    400: ("invalid_request_error", "The request is wrong; the message names the member."),
    401: ("authentication_error", "The credential is missing, unknown or no longer valid."),
    403: ("permission_error", "The key is valid, but may not do this: its models, a pause, its customer."),
    404: ("not_found_error", "No provider serves this model to this key, or the path doesn't exist."),
    405: ("invalid_request_error", "The path doesn't support this method."),
    408: ("invalid_request_error", "The client didn't send the whole body in time."),
    413: ("request_too_large", "The body is larger than this deployment allows."),
    429: ("rate_limit_error", "A limit was reached, or (`billing_error`) a budget is spent; then no retry succeeds."),
    500: ("api_error", "A fault in the gateway or at the provider."),
    502: ("api_error", "The provider can't be reached, or disconnected before the end of its answer."),
    503: ("api_error", "A fault of the gateway: its database, a restart, or its account with the provider."),
    504: ("timeout_error", "The provider took too long."),
    529: ("overloaded_error", "The gateway or the provider is overloaded."),
}
ERROR_TYPES = sorted({kind for kind, _ in ERRORS.values()} | {"billing_error", "conflict_error"})


def error(kinds: list[str]) -> Schema:
    return obj(
        "An error of the gateway or the provider.",
        "type error",
        type=const("error"),
        error=obj(
            "Details of the error.",
            "type message",
            type=enum("The kind of error, for programs.", *kinds),
            message=string("The error, for people.", "max_tokens: Field required"),
            details=obj("More for programs, such as `error_code`."),
        ),
        request_id=string("The id by which support finds the call.", "req_bf_01JD7Z3K9X8W2V5T6R4Q1P0N"),
    )


def error_name(kind: str) -> str:
    """The name of an error's schema: `rate_limit_error` becomes `RateLimitError`."""
    return "".join(word.title() for word in kind.removesuffix("_error").split("_")) + "Error"


ERROR_SCHEMAS = {
    error_name(kind): error([kind] if status != 429 else [kind, "billing_error"])
    for status, (kind, _) in ERRORS.items()
    if status < 500
} | {"Error": error(ERROR_TYPES)}
