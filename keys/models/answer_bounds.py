"""How long answers may be: the columns that virtual keys and teams have in common."""

from __future__ import annotations

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

# The most that a request may ask for (messages_api/request/body.py).
MOST_TOKENS = 10_000_000


def some_tokens(name: str, help_text: str) -> models.PositiveIntegerField[int | None, int | None]:
    """A field for a number of tokens, which may be empty."""
    bounds = [MinValueValidator(1), MaxValueValidator(MOST_TOKENS)]
    return models.PositiveIntegerField(name, null=True, blank=True, validators=bounds, help_text=help_text)


class AnswerBounds(models.Model):
    """The default and the ceiling for `max_tokens`, of a virtual key or of all keys of a team."""

    max_tokens = some_tokens(
        "ceiling for max_tokens", "A request that asks for more is refused. The lowest one counts."
    )
    default_max_tokens = some_tokens(
        "default for max_tokens", "For requests that name none. The key's own goes before its team's."
    )

    class Meta:
        abstract = True

    def clean(self) -> None:
        """Refuse a default above the ceiling."""
        if self.max_tokens and self.default_max_tokens and self.default_max_tokens > self.max_tokens:
            raise ValidationError(
                f"the default for max_tokens ({self.default_max_tokens}) is above the ceiling ({self.max_tokens}): "
                "lower the default, or raise the ceiling"
            )
