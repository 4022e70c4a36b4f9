"""The separation of thinking from a model's text: between tags at the beginning, or marked by Gemini. No I/O.

Many servers leave the tags in the text (`dialects.tagged`), and some chat templates write the opening tag into the
prompt, so that the answer has only the closing one. Text is kept back until it is clear what it is. If that never
becomes clear, it is text: an answer may lose its thinking, but not its text.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

OPEN, CLOSE = "<think>", "</think>"
# The most characters, and the most space, that are kept back.
MOST_KEPT = 1 << 20
MOST_SPACE = 1000

Tags = Literal["", "written", "begun"]
Kind = Literal["text", "thinking", "marked"]
Piece = tuple[Literal["text", "thinking"], str]


class Thoughts:
    """Separates thinking from text that arrives cut anywhere.

    Args:
        tags: `written`: the model writes both tags; `begun`: its template may write the first one; empty: no tags.
    """

    def __init__(self, tags: Tags = "") -> None:
        self._tags = tags
        self._where: Literal["before", "guessing", "inside", "behind", "text"] = "before" if tags else "text"
        self._kept: list[str] = []
        self._size = 0
        # The end of the text, which may be the beginning of a tag, or space around one.
        self._tail = ""
        self._marked: list[str] = []
        self._marked_size = 0

    def take(self, kind: Kind, text: str) -> Iterator[Piece]:
        """Add the next text. Returns the pieces that are certain by now."""
        if kind == "marked":
            self._marked.append(text)
            self._marked_size += len(text)
            if self._marked_size > MOST_KEPT:
                yield from self._thought()
        elif kind == "thinking":
            # The server separates thinking itself.
            yield from self._rest()
            yield "thinking", text
        else:
            yield from self._thought()
            yield from self._text(text)

    def tool(self) -> Iterator[Piece]:
        """The pieces before a tool call."""
        yield from self._thought()
        yield from self._rest()

    def finish(self, *, cut: bool, alone: bool, shown: bool) -> Iterator[Piece]:
        """The pieces at the end of the answer. An answer of thinking only is valid only if it was cut, or calls a tool.

        Args:
            cut: the answer reached its token limit.
            alone: the answer has no text and calls no tool, up to now.
            shown: the client sees thinking.
        """
        if self._marked and (cut or not alone):
            yield from self._thought()
        elif self._marked:
            yield "text", "".join(self._marked)
            self._marked = []
        inside = self._where == "inside"
        if self._where == "guessing" and cut and shown:
            yield "thinking", "".join(self._kept).strip()
            self._where = "text"
        yield from self._rest()
        if inside and alone and not cut and (text := "".join(self._kept).strip()):
            # The model never closed its thinking.
            yield "text", text

    def _thought(self) -> Iterator[Piece]:
        if self._marked:
            yield "thinking", "".join(self._marked)
            self._marked, self._marked_size = [], 0

    def _rest(self) -> Iterator[Piece]:
        """The pieces that were kept back. From here on, all text is text."""
        where, self._where = self._where, "text"
        if where == "inside":
            if self._tail.strip():
                self._keep(self._tail)
                yield "thinking", self._tail
        elif where == "guessing":
            yield "text", "".join(self._kept)
        elif where == "before" and self._tail:
            yield "text", self._tail
        self._tail = ""

    def _text(self, text: str) -> Iterator[Piece]:
        while text:
            match self._where:
                case "text":
                    yield "text", text
                    return
                case "before":
                    text = self._look(text)
                case "guessing":
                    yield from self._guess(text)
                    return
                case "inside":
                    yield from self._think(text)
                    return
                case "behind":
                    if text := text.lstrip():
                        self._where = "text"

    def _look(self, text: str) -> str:
        """Look for the opening tag. Returns the text that remains to be read."""
        text = self._tail + text
        seen = text.lstrip()
        if OPEN.startswith(seen) and len(text) < MOST_SPACE:
            self._tail = text
            return ""
        self._tail = ""
        if seen.startswith(OPEN):
            self._where = "inside"
            return seen[len(OPEN) :]
        self._where = "guessing" if self._tags == "begun" else "text"
        return text

    def _guess(self, text: str) -> Iterator[Piece]:
        """Look for a closing tag without an opening one."""
        seen = self._tail + text
        at = seen.find(CLOSE)
        self._keep(text)
        self._tail = seen[1 - len(CLOSE) :]
        if at >= 0:
            thought, _, text = "".join(self._kept).partition(CLOSE)
            self._where, self._tail, self._kept = "behind", "", []
            if thought.strip():
                yield "thinking", thought.strip()
            yield from self._text(text)
        elif self._size > MOST_KEPT:
            yield from self._rest()

    def _think(self, text: str) -> Iterator[Piece]:
        """Look for the closing tag."""
        text = self._tail + text
        thought, tag, text = text.partition(CLOSE)
        if tag:
            self._where, self._tail = "behind", ""
            thought = thought.rstrip()
        else:
            thought, self._tail = divided(thought)
        if not self._size:
            thought = thought.lstrip()
        if thought:
            self._keep(thought)
            yield "thinking", thought
        if tag:
            self._kept = []
            yield from self._text(text)

    def _keep(self, text: str) -> None:
        self._size += len(text)
        self._kept.append(text)
        if self._size > MOST_KEPT and self._where == "inside":
            self._kept = []


def divided(thought: str) -> tuple[str, str]:
    """Thinking, and the end of it that may be the beginning of the closing tag, or space before it."""
    at = thought.rfind("<", 1 - len(CLOSE))
    end = at if at >= 0 and CLOSE.startswith(thought[at:]) else len(thought)
    bare = len(thought[:end].rstrip())
    end = bare if end - bare < MOST_SPACE else end
    return thought[:end], thought[end:]
