"""Providers' errors in Anthropic's shape and types. Pure.

https://docs.claude.com/en/api/errors, https://platform.openai.com/docs/guides/error-codes. Errors have many envelopes:
an object, a list or a text in `error`, `errors`, `detail` or `message`; and proxies put the JSON of another server's
error into a text. Codes are statuses as numbers or texts, OpenAI's words, Google's (google.rpc.Code), and the names of
exceptions (vLLM, LiteLLM).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from messages_api.json_text.lenient import mapping
from messages_api.json_text.outline import decode
from messages_api.providers import lengths
from messages_api.server.errors import ACCOUNT_REFUSED, STREAM_ENDED_EARLY, kind_of

# Codes, types and reasons that say more than the status, or replace it: in small letters and digits only.
WORDS = {
    400: "failedprecondition outofrange contextlengthexceeded contentfilter contentpolicyviolation toolusefailed "
    "stringabovemaxlength arrayabovemaxlength validationerror contextwindowexceedederror datainspectionfailed "
    "responsibleaipolicyviolation",
    401: "invalidapikey apikeyinvalid missingapikey invalidauthentication invalidauthenticationerror invalidtoken "
    "authenticationerror authenticationfailed unauthorized unauthenticated unauthorizederror invalidorganization "
    "mismatchedorganization invalidproject accountdeactivated",
    402: "insufficientquota insufficientbalance insufficientbalanceerror insufficientcredits paymentrequired "
    "billingerror arrearage billinghardlimitreached exceededcurrentquotaerror paymentrequirederror billingnotactive",
    403: "permissionerror permissiondenied permissiondeniederror forbidden accessdenied "
    "unsupportedcountryregionterritory",
    404: "modelnotfound notfounderror notfound deploymentnotfound modelnotexist invalidmodel",
    408: "requesttimeout",
    409: "conflict conflicterror aborted alreadyexists",
    413: "requesttoolarge payloadtoolarge requestentitytoolarge",
    422: "unprocessableentity unprocessableentityerror",
    429: "ratelimiterror ratelimitexceeded ratelimitreached ratelimitreachederror ratelimit toomanyrequests "
    "resourceexhausted throttling throttlingexception requestlimited",
    500: "internalservererror servererror internalerror internal apierror unknown",
    503: "serviceunavailable serviceunavailableerror unavailable apiconnectionerror",
    504: "timeout timeouterror gatewaytimeout deadlineexceeded",
    529: "overloadederror overloaded serveroverloaded engineoverloadederror insufficientsystemresource",
}
STATUSES = {word: status for status, words in WORDS.items() for word in words.split()}
# MiniMax's numbers in `base_resp` (https://platform.minimax.io/docs/api-reference/errorcode, November 2026), which it
# also sends with HTTP 200. 0 is a success.
BASE = "base_resp"
NUMBERS = {
    1001: 504,
    1002: 429,
    1004: 401,
    1008: 402,
    1026: 400,
    1027: 400,
    1039: 429,
    1041: 429,
    1042: 400,
    2013: 400,
    2049: 401,
    2056: 429,
}
# Other codes with one of these beginnings are a mistake of the client.
MISTAKEN = (
    *("invalid", "badrequest", "unsupported", "unknownparameter", "missing", "malformed", "validation", "illegal"),
    *("sensitivecontent", "inputtextsensitive", "inputimagesensitive", "outputtextsensitive", "promptblocked"),
)
NOT_PLAIN = re.compile(r"[^a-z0-9]+")
# The name of an exception at the beginning of a message, with or without its module.
EXCEPTION = re.compile(r"(?:\w+\.)*(\w+(?:Error|Exception))\b")
# A status at the beginning of a message: OpenAI's SDK makes it of an error, and proxies that call a provider by it pass
# nothing else on (https://github.com/Oaklight/argo-proxy/issues/91, March 2026).
NUMBERED = re.compile(r"(?:Error code|HTTP|Status code):? ?([45]\d\d)\b", re.IGNORECASE)
# The messages of providers that refuse the gateway's key by HTTP 400 (Gemini, xAI). Only the beginning counts, because
# a client's own words may follow in other messages; and words about a member of the request are excluded.
OUR_KEY = re.compile(
    r"((incorrect|invalid) api key|api key not valid)(?!.*\b(inputs?|fields?|parameters?|arguments?|propert(y|ies)|"
    r"permitted|supported|unsupported|allowed|unexpected|unknown|unrecognized|required|should be|must be)\b)",
    re.IGNORECASE | re.DOTALL,
)
SAYING = ("code", "status", "status_code", "statusCode", "error_code", "reason", "type", "error_type")
WITHIN = ("error", "errors", "innererror", "detail", "details", "message", BASE)
# The greatest depth and number of envelopes that are read.
DEPTH, MOST = 8, 32
UNKNOWN_MODEL = frozenset(("modelnotfound", "deploymentnotfound", "modelnotexist"))
TOO_LONG = frozenset(("contextlengthexceeded", "contextwindowexceedederror"))
# Errors about the gateway's own key, which the client doesn't see.
OURS = frozenset((401, 402, 403))
# Anthropic's statuses below 500 (https://platform.claude.com/docs/en/api/errors).
CALLERS = frozenset((400, 401, 402, 403, 404, 408, 409, 413, 429))
# The most characters of the error that an aggregator got from its own provider.
RAW_LENGTH = 500


class Fault(NamedTuple):
    """An error's status (0: unknown) and its message, in Anthropic's words if clients act on them."""

    status: int
    message: str


def of_answer(status: int, body: bytes, model: str, request_id: str) -> tuple[int, bytes]:
    """The status and the body for the client, from a provider's error. A spent account is a 402, whatever its status.

    Args:
        status: the provider's; 0: the body says it.
        model: the client's name of it.
    """
    return of_json(status, decode(body), model, request_id)


def of_json(status: int, error: object, model: str, request_id: str) -> tuple[int, bytes]:
    """As `of_answer`, for a decoded body."""
    fault = understood(error, model)
    status = settled(status, fault.status)
    message = fault.message or f"The provider answered with HTTP {status}."
    return status, _body(kind_of(status), message, request_id)


def of_stream(error: object, model: str) -> bytes:
    """The last event of a stream for a provider's error in it."""
    fault = understood(error, model)
    status = fault.status or 500
    if status in OURS:
        kind, message = "api_error", ACCOUNT_REFUSED
    else:
        kind, message = kind_of(status), fault.message or STREAM_ENDED_EARLY
    return b"event: error\ndata: " + _body(kind, message) + b"\n\n"


def settled(status: int, in_body: int) -> int:
    """The status for the client, from the HTTP status and the one in the body (0: unknown).

    A proxy may answer another server's refusal with its own 400 or 500. A status that Anthropic doesn't use, like
    FastAPI's 422, becomes a 400.
    """
    if 400 <= in_body < 500 and in_body not in CALLERS:
        in_body = 400
    if not status:
        return in_body or 500
    if (status == 400 or status >= 500) and 400 <= in_body < 500:
        return in_body
    return 402 if in_body == 402 and status in (403, 429) else status


def understood(error: object, model: str) -> Fault:
    """Read an error in any envelope. The innermost status and message count."""
    found = list(islice(envelopes(error), MOST))[::-1]
    status = next((status for one in found if (status := status_of(one))), 0)
    message = next((message for one in found if (message := message_of(one))), "")
    if isinstance(error, str) and not found:
        message = clean(error)
    if status in (0, 400) and OUR_KEY.match(message):
        status = 401
    named = EXCEPTION.match(message)
    numbered = NUMBERED.match(message)
    status = status or (status_of({"code": named[1]}) if named else int(numbered[1]) if numbered else 0)
    codes = {plain(one.get("code")) for one in found}
    return Fault(status, reworded(codes, message, model))


def _body(kind: str, message: str, request_id: str = "") -> bytes:
    shown: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": message}}
    return msgspec.json.encode(shown | ({"request_id": request_id} if request_id else {}))


def envelopes(error: object, depth: int = DEPTH) -> Iterator[dict[str, Any]]:
    """The objects that wrap an error, from the outermost to the innermost. A text may be the JSON of one."""
    if isinstance(error, str) and error.lstrip()[:1] in ("{", "["):
        error = decode(error.encode("utf-8", "replace"))
    if depth <= 0:
        return
    if isinstance(error, list):
        for one in error[:MOST]:
            yield from envelopes(one, depth - 1)
    elif isinstance(error, dict):
        yield error
        for name in WITHIN:
            if name in error:
                yield from envelopes(error[name], depth - 1)


def status_of(error: dict[str, Any]) -> int:
    """The status that an error stands for; 0: unknown."""
    for name in SAYING:
        code = error.get(name)
        if name == "status_code" and "status_msg" in error:
            code = NUMBERS.get(code, 500) if isinstance(code, int) and code > 0 else code
        if isinstance(code, str):
            code = int(code) if code.strip().isdecimal() and len(code) < 8 else status_of_word(plain(code))
        if isinstance(code, int | float) and 400 <= code < 600:
            return int(code)
    return 0


def status_of_word(word: str) -> int:
    """The status that a code, a type or the name of an exception stands for; 0: unknown."""
    return STATUSES.get(word) or (400 if word.startswith(MISTAKEN) else 0)


def plain(word: object) -> str:
    """A code in small letters and digits: providers differ in case and separators."""
    return NOT_PLAIN.sub("", word.lower()) if isinstance(word, str) else ""


def message_of(error: dict[str, Any]) -> str:
    """The message of one envelope. A single item of FastAPI's list of errors (with `loc`) has none by itself."""
    if "loc" in error:
        return ""
    values = (error.get(name) for name in ("message", "error", "msg", "detail", "errors", "title", "status_msg"))
    text = next((text for one in values if (text := in_words(one))), "")
    raw = mapping(error.get("metadata")).get("raw")
    return clean(f"{text}: {raw[:RAW_LENGTH]}" if isinstance(raw, str) and raw else text)


def in_words(value: object) -> str:
    """A text, or a list as one text; empty for anything else."""
    if isinstance(value, list) and value:
        return ", ".join(value) if all(isinstance(one, str) for one in value) else json.dumps(value)
    return value if isinstance(value, str) else ""


def clean(text: str) -> str:
    """The text without half characters, which can't be encoded."""
    return text.encode("utf-8", "replace").decode()


def reworded(codes: set[str], message: str, model: str) -> str:
    """The message in Anthropic's words if clients act on them: an unknown model, a request that doesn't fit."""
    if codes & UNKNOWN_MODEL:
        return f"model: {model}"
    return lengths.reworded(message, known=bool(codes & TOO_LONG))
