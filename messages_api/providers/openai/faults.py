"""A provider's errors in Anthropic's shape and types. Pure.

https://docs.claude.com/en/api/errors, https://platform.openai.com/docs/guides/error-codes. They come in many envelopes:
an object, a list or a text in `error`, `errors`, `detail` or `message`, and servers that stand before others put the
JSON of theirs into a text. Codes are statuses as numbers or texts, OpenAI's words, Google's (google.rpc.Code), and the
names of exceptions (vLLM, LiteLLM).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import msgspec

from messages_api.errors import ACCOUNT_REFUSED, kind_of
from messages_api.lenient import mapping
from messages_api.outline import decode

# Codes, types and reasons that say more than a status, or stand in the place of one: small letters and digits only.
WORDS = {
    400: "failedprecondition outofrange contextlengthexceeded contentfilter contentpolicyviolation toolusefailed "
    "stringabovemaxlength arrayabovemaxlength validationerror contextwindowexceedederror datainspectionfailed",
    401: "invalidapikey apikeyinvalid missingapikey invalidauthentication invalidauthenticationerror invalidtoken "
    "authenticationerror authenticationfailed unauthorized unauthenticated unauthorizederror invalidorganization "
    "mismatchedorganization invalidproject accountdeactivated",
    402: "insufficientquota insufficientbalance insufficientcredits paymentrequired billingerror arrearage "
    "billinghardlimitreached exceededcurrentquotaerror paymentrequirederror "
    "billingnotactive",
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
# And all that begins so is the caller's mistake.
MISTAKEN = ("invalid", "badrequest", "unsupported", "unknownparameter", "missing", "malformed")
NOT_PLAIN = re.compile(r"[^a-z0-9]+")
# The name of an exception at the beginning of a message, maybe with its library's.
EXCEPTION = re.compile(r"(?:\w+\.)*(\w+(?:Error|Exception))\b")
# Keys of ours that a provider refuses by HTTP 400 (Gemini, xAI): what its message begins with, for a caller's own words
# may come later in one; but not where it names so a member that a caller sent.
OUR_KEY = re.compile(
    r"((incorrect|invalid) api key|api key not valid)(?!.*\b(inputs?|fields?|parameters?|arguments?|propert(y|ies)|"
    r"permitted|supported|unsupported|allowed|unexpected|unknown|unrecognized|required|should be|must be)\b)",
    re.IGNORECASE | re.DOTALL,
)
SAYING = ("code", "status", "status_code", "statusCode", "error_code", "reason", "type", "error_type")
WITHIN = ("error", "errors", "detail", "details", "message")
# How deep, and how many, envelopes are looked into.
DEPTH, MOST = 8, 32
UNKNOWN_MODEL = frozenset(("modelnotfound", "deploymentnotfound", "modelnotexist"))
TOO_LONG = "contextlengthexceeded"
# Those who have no code for it say it so: DeepSeek, OpenRouter, vLLM and Mistral; xAI; Google.
TOO_LONG_WORDS = re.compile(r"maximum (context|prompt) length|input token count .* exceeds", re.IGNORECASE)
# What concerns our own key is not for the caller.
OURS = frozenset((401, 402, 403))
# Those that Anthropic's API has for a caller's mistakes and waits (https://platform.claude.com/docs/en/api/errors).
CALLERS = frozenset((400, 401, 402, 403, 404, 408, 409, 413, 429))

# Of what an aggregator was told by a provider of its own.
RAW_LENGTH = 500


class Fault(NamedTuple):
    """What an error comes to: a status, 0 where it doesn't say; what was said, in Anthropic's words where clients act
    on them."""

    status: int
    message: str


def of_answer(status: int, body: bytes, model: str, request_id: str) -> tuple[int, bytes]:
    """An answer that is an error: its status and its body. A spent account is a 402, whatever the provider says.

    Args:
        status: the provider's; 0: the body tells.
        model: as the caller named it.
    """
    return of_said(status, decode(body), model, request_id)


def of_said(status: int, said: object, model: str, request_id: str) -> tuple[int, bytes]:
    """As `of_answer`, for what was read already."""
    fault = understood(said, model)
    status = settled(status, fault.status)
    message = fault.message or f"The provider answered with HTTP {status}."
    return status, _body(kind_of(status), message, request_id)


def of_stream(said: object, model: str) -> bytes:
    """An error in the middle of a stream, as its last event."""
    fault = understood(said, model)
    status = fault.status or 500
    if status in OURS:
        kind, message = "api_error", ACCOUNT_REFUSED
    else:
        kind, message = kind_of(status), fault.message or "The provider broke off."
    return b"event: error\ndata: " + _body(kind, message) + b"\n\n"


def settled(status: int, told: int) -> int:
    """The status of an error whose body says another. A server that stands before others answers for their refusals by
    a 400 or 500 of its own. What Anthropic has no status for, like FastAPI's 422, is a 400."""
    if 400 <= told < 500 and told not in CALLERS:
        told = 400
    if not status:
        return told or 500
    if (status == 400 or status >= 500) and 400 <= told < 500:
        return told
    return 402 if told == 402 and status in (403, 429) else status


def understood(said: object, model: str) -> Fault:
    """An error in whatever envelope: the innermost one that says something knows best."""
    found = list(islice(envelopes(said), MOST))[::-1]
    status = next((status for one in found if (status := status_of(one))), 0)
    message = next((message for one in found if (message := message_of(one))), "")
    if isinstance(said, str) and not found:
        message = clean(said)
    if status in (0, 400) and OUR_KEY.match(message):
        status = 401
    named = EXCEPTION.match(message)
    status = status or (status_of({"code": named[1]}) if named else 0)
    codes = {plain(one.get("code")) for one in found}
    return Fault(status, reworded(codes, message, model))


def _body(kind: str, message: str, request_id: str = "") -> bytes:
    shown: dict[str, Any] = {"type": "error", "error": {"type": kind, "message": message}}
    return msgspec.json.encode(shown | ({"request_id": request_id} if request_id else {}))


def envelopes(said: object, depth: int = DEPTH) -> Iterator[dict[str, Any]]:
    """The objects that an error is wrapped in, the outermost first; a text may be the JSON of one."""
    if isinstance(said, str) and said.lstrip()[:1] in ("{", "["):
        said = decode(said.encode("utf-8", "replace"))
    if depth <= 0:
        return
    if isinstance(said, list):
        for one in said[:MOST]:
            yield from envelopes(one, depth - 1)
    elif isinstance(said, dict):
        yield said
        for name in WITHIN:
            if name in said:
                yield from envelopes(said[name], depth - 1)


def status_of(error: dict[str, Any]) -> int:
    """The status that an error stands for, 0 where it doesn't say."""
    for name in SAYING:
        told = error.get(name)
        if isinstance(told, str):
            told = int(told) if told.strip().isdecimal() and len(told) < 8 else status_of_word(plain(told))
        if isinstance(told, int | float) and 400 <= told < 600:
            return int(told)
    return 0


def status_of_word(word: str) -> int:
    """The status that a code, a type or the name of an exception stands for, 0: unknown."""
    return STATUSES.get(word) or (400 if word.startswith(MISTAKEN) else 0)


def plain(word: object) -> str:
    """A code without what its writers differ in."""
    return NOT_PLAIN.sub("", word.lower()) if isinstance(word, str) else ""


def message_of(told: dict[str, Any]) -> str:
    """What one envelope says by itself; FastAPI's say little without those beside them."""
    if "loc" in told:
        return ""
    said = (told.get(name) for name in ("message", "error", "msg", "detail", "errors", "title"))
    text = next((text for one in said if (text := in_words(one))), "")
    raw = mapping(told.get("metadata")).get("raw")
    return clean(f"{text}: {raw[:RAW_LENGTH]}" if isinstance(raw, str) and raw else text)


def in_words(said: object) -> str:
    """A text, or a list of what is said."""
    if isinstance(said, list) and said:
        return ", ".join(said) if all(isinstance(one, str) for one in said) else json.dumps(said)
    return said if isinstance(said, str) else ""


def clean(text: str) -> str:
    """Without halves of characters, which can't be sent."""
    return text.encode("utf-8", "replace").decode()


def reworded(codes: set[str], message: str, model: str) -> str:
    """Anthropic's wording, where clients act on it: an unknown model, a prompt that is too long."""
    if codes & UNKNOWN_MODEL:
        return f"model: {model}"
    if TOO_LONG in codes or TOO_LONG_WORDS.search(message):
        return f"prompt is too long: {message}"
    return message
