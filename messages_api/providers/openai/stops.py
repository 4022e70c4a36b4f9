"""Stop sequences for models that refuse them: the gateway ends the text where the model would have stopped. No I/O.

OpenAI's models that think answer `stop` with a 400: https://github.com/BerriAI/litellm/pull/15244 (October 2025),
https://github.com/huggingface/smolagents/issues/1893 (December 2025).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from messages_api.providers.openai.thoughts import Piece


class Cut:
    """Cuts a text off at the first of several sequences, which may arrive in parts.

    Attributes:
        found: the sequence; None: none has occurred up to now.
    """

    def __init__(self, sequences: Sequence[str] = ()) -> None:
        self.found: str | None = None
        self._sequences = sequences
        self._kept = ""

    def take(self, piece: Piece) -> Iterator[Piece]:
        """Add the next piece of the answer. Returns those that are certain to come before any of the sequences."""
        kind, text = piece
        if kind == "text":
            text = self._take(text)
        else:
            yield from self.rest()
            text = text if self.found is None else ""
        if text:
            yield kind, text

    def rest(self) -> Iterator[Piece]:
        """What was kept back, because it may have been the beginning of a sequence."""
        kept, self._kept = self._kept, ""
        if kept:
            yield "text", kept

    def _take(self, text: str) -> str:
        if not self._sequences:
            return text
        if self.found is not None:
            return ""
        text = self._kept + text
        places = [(at, sequence) for sequence in self._sequences if (at := text.find(sequence)) >= 0]
        if places:
            end, self.found = min(places)
            self._kept = ""
        else:
            end = len(text) - self._begun(text)
            self._kept = text[end:]
        return text[:end]

    def _begun(self, text: str) -> int:
        """The number of characters at the end of a text with which one of the sequences begins."""
        longest = min(len(text), max(map(len, self._sequences)) - 1)
        ends = (size for size in range(longest, 0, -1) if any(one.startswith(text[-size:]) for one in self._sequences))
        return next(ends, 0)
