"""How JSON schemas are written here, and the errors, which every endpoint has."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def ref(name: str, about: str = "") -> Schema:
    """A component by its name; as a member of an object, with what it is there."""
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
    """The member may be null, which counts as left out."""
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
    """Something of a type that isn't known here: it passes as it is."""
    return obj(about, "type", type=string("Its type, which is none of the others.", **{"not": {"enum": known}}))


# Errors

ERRORS = {
    400: ("invalid_request_error", "Something in the request is wrong; the message names the member."),
    401: ("authentication_error", "There is no credential, or it isn't (or no longer) valid."),
    403: ("permission_error", "The key is valid, but may not do this: its models, a pause, its customer."),
    404: ("not_found_error", "Nobody serves this model to this key, or there is no such path."),
    405: ("invalid_request_error", "The path takes another method."),
    408: ("invalid_request_error", "The rest of the request's body did not come in time."),
    413: ("request_too_large", "The body is larger than this deployment takes."),
    429: ("rate_limit_error", "A limit was reached, or (`billing_error`) a budget is spent; then no retry helps."),
    500: ("api_error", "A fault in the gateway or at the provider."),
    502: ("api_error", "The provider can't be reached, or broke off."),
    503: ("api_error", "The gateway's trouble: its database, a restart, or its account with the provider."),
    504: ("timeout_error", "The provider took too long."),
    529: ("overloaded_error", "The gateway or the provider has too much to do."),
}
ERROR_TYPES = sorted({kind for kind, _ in ERRORS.values()} | {"billing_error", "conflict_error"})


def error(kinds: list[str]) -> Schema:
    return obj(
        "An error, the gateway's or the provider's.",
        "type error",
        type=const("error"),
        error=obj(
            "What went wrong.",
            "type message",
            type=enum("What kind of error it is, for programs.", *kinds),
            message=string("What went wrong, for people.", "max_tokens: Field required"),
            details=obj("More for programs, such as `error_code`."),
        ),
        request_id=string("What support finds the call by.", "req_bf_01JD7Z3K9X8W2V5T6R4Q1P0N"),
    )


def error_name(kind: str) -> str:
    """What the schema of an error of ours is called: `rate_limit_error` is a `RateLimitError`."""
    return "".join(word.title() for word in kind.removesuffix("_error").split("_")) + "Error"


ERROR_SCHEMAS = {
    error_name(kind): error([kind] if status != 429 else [kind, "billing_error"])
    for status, (kind, _) in ERRORS.items()
    if status < 500
} | {"Error": error(ERROR_TYPES)}
