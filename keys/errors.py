"""The error with which this app's functions refuse bad input."""

from __future__ import annotations


class Unusable(ValueError):
    """The request can't be carried out, and nothing was changed.

    The message is one line for the person who asked. It names what is wrong and never contains a secret.
    """
