"""What tests plant: keys that they issue, prompts and answers. No log of a gateway that they start may have them."""

from __future__ import annotations

import re

# Shorter texts, such as "Hi", may be a part of any line.
LEAST = 12
# Texts of fewer different characters, such as "xxxx…", are made up for names and sizes, too.
DIFFERENT = 8
# Of a long text, the beginning is looked for.
MOST = 60
# Whole keys of ours, of any deployment, and of providers: what tests make up has these forms, too.
KEYS = re.compile(r"\b(?:[sg][kt]-b[a-z]-[0-9A-Za-z]{49}|sk-ant-[0-9A-Za-z_-]{16,})")

_texts = set[str]()


def note(text: str) -> None:
    """Remember a text that no log may have."""
    if len(text) >= LEAST and len(set(text[:MOST])) >= DIFFERENT:
        _texts.add(text[:MOST])


def found(log: str) -> list[str]:
    """What a log has of it: how many characters each has and how it begins, because a test's output shows no secret."""
    leaked = [text for text in _texts if text in log] + KEYS.findall(log)
    return [f"{text[:6]}… ({len(text)} characters)" for text in leaked]


def check(log: str) -> None:
    """Check a whole log.

    Raises:
        AssertionError: it has something that was planted.
    """
    leaked = found(log)
    assert not leaked, f"a gateway's log has {leaked}"
