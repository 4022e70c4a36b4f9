"""What the translation of an answer needs to know of its request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from messages_api.providers.openai.thoughts import Tags


@dataclass(frozen=True, slots=True)
class Expected:
    """What a client asked for.

    Attributes:
        model: the client's name of it.
        stream: the client asked for a stream.
        stops: sequences to stop at.
        shows_thinking: the client wants to see thinking.
        own_names: the client's names of tools, by the shortened names (names.py).
        tags: how the model's text may contain its thinking (thoughts.py).
        cuts: sequences at which the gateway ends the text, because the model refuses to (stops.py).
    """

    model: str
    stream: bool = False
    stops: tuple[str, ...] = ()
    shows_thinking: bool = True
    own_names: Mapping[str, str] = field(default_factory=dict)
    tags: Tags = ""
    cuts: tuple[str, ...] = ()


def expected(
    request: dict[str, Any], own_names: Mapping[str, str], tags: Tags = "", *, takes_stops: bool = True
) -> Expected:
    """What the translation of a request's answer needs to know. A client that turned thinking off doesn't see that of a
    model that always thinks.

    Args:
        takes_stops: the model accepts stop sequences.
    """
    thinking = request.get("thinking") or {}
    stops = tuple(request.get("stop_sequences") or ())
    return Expected(
        model=request["model"],
        stream=bool(request.get("stream")),
        stops=stops,
        shows_thinking=thinking.get("type") != "disabled" and thinking.get("display") != "omitted",
        own_names=own_names,
        tags=tags,
        cuts=() if takes_stops else stops,
    )
