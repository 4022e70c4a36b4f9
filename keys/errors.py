"""What the functions of this app say no with."""

from __future__ import annotations


class Unusable(ValueError):
    """What was asked for can't be done, and nothing was changed. The message is one line for the person who asked:
    it names what is wrong and never contains a secret."""
