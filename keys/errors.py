"""The error with which this app's functions refuse bad input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError


class Unusable(ValueError):
    """The request can't be carried out, and nothing was changed.

    The message is one line for the person who asked. It names what is wrong and never contains a secret.

    Attributes:
        fields: the messages by the field that each is about, if the error is about fields.
    """

    def __init__(self, message: str, fields: Mapping[str, Sequence[str]] | None = None) -> None:
        super().__init__(message)
        self.fields = dict(fields or {})


class Conflict(Unusable):
    """The request can't be carried out because of what was done before, such as a revocation."""


@contextmanager
def refused() -> Iterator[None]:
    """Turn a model's validation errors into one message that names the fields.

    Raises:
        Unusable: with all messages of the model.
    """
    try:
        yield
    except ValidationError as error:
        if not hasattr(error, "error_dict"):
            raise Unusable("; ".join(error.messages)) from None
        by_field: dict[str, list[str]] = error.message_dict
        said = [
            f"{name}: {text}" if name != NON_FIELD_ERRORS else text
            for name, texts in by_field.items()
            for text in texts
        ]
        named = {name: texts for name, texts in by_field.items() if name != NON_FIELD_ERRORS}
        raise Unusable("; ".join(said), named) from None
