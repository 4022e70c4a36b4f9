"""What of a request its answer has to go by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from messages_api.providers.openai.thoughts import Tags


@dataclass(frozen=True, slots=True)
class Expected:
    """What a caller asked for.

    Attributes:
        model: as the caller named it.
        stream: whether the answer is to come as it is written.
        stops: sequences to stop at.
        shows_thinking: whether the caller wants to see it.
        own_names: what the caller calls the tools whose names were made up (names.py).
        tags: how the model's thinking may stand in its text (thoughts.py).
    """

    model: str
    stream: bool = False
    stops: tuple[str, ...] = ()
    shows_thinking: bool = True
    own_names: Mapping[str, str] = field(default_factory=dict)
    tags: Tags = ""


def expected(request: dict[str, Any], own_names: Mapping[str, str], tags: Tags = "") -> Expected:
    """What a request's answer has to go by. Who turned thinking off gets none from a model that can't help it."""
    thinking = request.get("thinking") or {}
    return Expected(
        model=request["model"],
        stream=bool(request.get("stream")),
        stops=tuple(request.get("stop_sequences") or ()),
        shows_thinking=thinking.get("type") != "disabled" and thinking.get("display") != "omitted",
        own_names=own_names,
        tags=tags,
    )
