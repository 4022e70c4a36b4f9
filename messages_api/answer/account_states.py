"""What an answer binds to the account that gave it: containers, threads, files and signatures.

relay/bindings.py keeps these states, so that later requests with them go to the same account.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from messages_api.json_text.lenient import mapping
from messages_api.request.carried import StateKind

# Maximum number of states that are kept of one answer: a request can't name more files (carried.MOST_FILES).
MOST_STATES = 1000

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class State:
    """Something in an answer that only the account that gave the answer understands.

    `name` is the id of a container or file, the signature (or sealed thought) itself, or the id of an answer whose
    conversation the provider keeps (a thread); `expires_at` is the expiry of a container, as the provider gives it.
    """

    kind: StateKind
    name: str
    expires_at: str = ""


def container_state(container: object) -> Iterator[State]:
    """The container that an answer names, if any."""
    members = mapping(container)
    if isinstance(name := members.get("id"), str) and name:
        expires_at = members.get("expires_at")
        yield State("container", name, expires_at if isinstance(expires_at, str) else "")


def thread_state(message: dict[str, Any]) -> Iterator[State]:
    """The thread that an answer to a request with one belongs to: the next request names this answer.

    https://platform.claude.com/docs/en/api/beta/messages/create (`thread`; November 2026)
    """
    if isinstance(name := message.get("id"), str) and name:
        yield State("thread", name)


def block_states(block: object) -> Iterator[State]:
    """What a content block binds: thinking by its signature, or files that one of the provider's tools made."""
    members = mapping(block)
    kind = members.get("type")
    if kind == "thinking" or kind == "redacted_thinking":
        name = members.get("signature" if kind == "thinking" else "data")
        if isinstance(name, str) and name:
            yield State("signature", name)
    elif isinstance(kind, str) and kind.endswith("code_execution_tool_result"):
        outputs = mapping(members.get("content")).get("content")
        for output in outputs if isinstance(outputs, list) else ():
            name = mapping(output).get("file_id")
            if isinstance(name, str) and name:
                yield State("file", name)


class StateMeter:
    """Notes what an answer binds: the base of the meters of streams and of answers in one piece.

    Attributes:
        states: the states that were noted and not taken out yet. At most `MOST_STATES` are noted in all.
        threaded: the provider keeps the conversation.
    """

    def __init__(self, *, threaded: bool = False) -> None:
        self.threaded = threaded
        self.states: list[State] = []
        self._bound = 0

    def bind(self, states: Iterable[State]) -> None:
        """Note what the answer binds, up to the limit: each becomes a row."""
        for state in states:
            if self._bound == MOST_STATES:
                return
            self.states.append(state)
            self._bound += 1
            if self._bound == MOST_STATES:
                logger.warning("an answer binds %d ids or more: only these are kept", MOST_STATES)
