"""What a call used, in the categories that providers bill for."""

from __future__ import annotations

from dataclasses import dataclass, fields

# Output tokens a second that a model is reckoned to write at most, for estimates of calls that nobody saw end.
TOKENS_PER_SECOND = 100


@dataclass(frozen=True, slots=True)
class TokenCounts:
    """Of one call, or of one iteration of it. Thinking is a part of output; the others don't overlap."""

    input_tokens: int = 0
    output_tokens: int = 0
    thinking_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_creation_5m_input_tokens: int = 0
    cache_creation_1h_input_tokens: int = 0
    web_search_requests: int = 0

    @property
    def prompt_tokens(self) -> int:
        """All that the model read: what a price tier looks at."""
        return (
            self.input_tokens
            + self.cache_read_input_tokens
            + self.cache_creation_5m_input_tokens
            + self.cache_creation_1h_input_tokens
        )

    def __add__(self, other: TokenCounts) -> TokenCounts:
        return TokenCounts(*(getattr(self, name) + getattr(other, name) for name in TOKEN_COLUMNS))


TOKEN_COLUMNS = tuple(field.name for field in fields(TokenCounts))
