"""A tool call while it arrives, fragment by fragment. Pure."""

from __future__ import annotations

from messages_api.providers.openai import completion
from messages_api.providers.openai.arguments import Arguments
from messages_api.providers.openai.completion import ToolCall


class StreamedToolCall:
    """A tool call under way. `closed`: all of it was sent."""

    def __init__(self) -> None:
        self.id = ""
        self.name = ""
        self.arguments = Arguments()
        self.closed = False

    @property
    def ready(self) -> bool:
        """Whether it can be sent. Before the input begins, more of the name may follow."""
        return bool(self.name) and self.arguments.begun and not self.arguments.odd


def is_another(call: StreamedToolCall, part: ToolCall, given: str) -> bool:
    """Whether a fragment that names a tool begins another call than the one with its index."""
    written = completion.arguments(part.function)
    if given and call.id and given != call.id:
        # Some providers make up a new id for each chunk, and repeat the whole call in it.
        return not call.arguments.is_repeated_in(written)
    if not call.arguments.whole:
        return False
    if given:
        return bool(written.strip()) and not call.arguments.may_be(written)
    same_tool = part.function is not None and part.function.name == call.name
    return not (same_tool and call.arguments.empty and written.strip(" {}\t\r\n"))
