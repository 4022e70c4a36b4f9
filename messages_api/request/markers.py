"""Model names with a client's marker. Such a name means the model without the marker, unless a model really has that
name.

Claude Code keeps the size of a conversation's window in the name of its model: `claude-opus-4-8[1m]`. It removes the
marker from names that it knows. Names of custom models, the gateway's aliases, and names that other tools copy from its
settings arrive with the marker, and no provider knows such a name (https://code.claude.com/docs/en/model-config,
November 2026).
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import replace

import msgspec

from keys.model_names import fold
from messages_api.json_text import byte_edits, positions
from messages_api.json_text.byte_edits import Edit, Edits
from messages_api.request.schema import MessagesRequest

# A window's size in tokens; Claude Code knows [1m] and [2m], in either case.
MARKER = re.compile(r"(?:\[[0-9]{1,4}[km]\])+", re.IGNORECASE)
END = "]"
# The members that name further models, each with the beginning of the types of the objects that do.
OTHERS = {"fallbacks": "", "tools": "advisor_"}


def meant(name: str, real: Container[str] = ()) -> str:
    """The model that a name means.

    Args:
        real: names of real models that look as if they had a marker, in lower case.
    """
    found = MARKER.search(name) if name.endswith(END) else None
    if found is None or found.end() != len(name) or fold(name) in real or fold(name.partition("/")[2]) in real:
        return name
    return name[: found.start()] or name


def are_in(request: MessagesRequest) -> bool:
    """Whether a request may name a model with a marker."""
    return any(name.endswith(END) for name in (request.model, *request.fallbacks, *request.extras.models))


def without(request: MessagesRequest, real: Container[str]) -> MessagesRequest:
    """The request with its models' names without markers."""
    models = tuple(meant(name, real) for name in request.extras.models)
    return replace(
        request,
        model=meant(request.model, real),
        fallbacks=tuple(meant(name, real) for name in request.fallbacks),
        extras=request.extras if models == request.extras.models else replace(request.extras, models=models),
    )


def edits(body: bytes, real: Container[str], *, without: Iterable[str] = ()) -> list[Edit]:
    """The edits that remove the markers from a request's bytes.

    Args:
        real: as for `meant`.
        without: members at the top to remove, too.
    """
    made = Edits(body).drop(*without)
    if (place := made.members.find("model")) is not None:
        made.add(_edit(msgspec.json.decode(body[place.value : place.value_end]), place.value, place.value_end, real))
    for member, beginning in OTHERS.items():
        for begin, end in byte_edits.elements(body, member, made.members):
            if body[begin : begin + 1] == b"{" and END.encode() in body[begin:end]:
                made.add(_edits_of(body[begin:end].decode("latin-1"), begin, beginning, real))
    return made.in_order()


def _edits_of(text: str, at: int, beginning: str, real: Container[str]) -> Iterator[Edit]:
    """The same for an object that begins here, if its type has this beginning."""
    try:
        members = positions.members(text)
    except RecursionError:
        return
    kind, model = positions.last(members, "type"), positions.last(members, "model")
    if model is not None and (not beginning or (kind is not None and str(kind.value).startswith(beginning))):
        yield from _edit(model.value, at + model.at, at + model.end, real)


def _edit(name: object, begin: int, end: int, real: Container[str]) -> Iterator[Edit]:
    if isinstance(name, str) and (bare := meant(name, real)) != name:
        yield Edit(begin, end, msgspec.json.encode(bare))
