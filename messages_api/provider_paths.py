"""What becomes a part of a path at a provider: ids, which callers and providers give, and names of models.

One rule for all providers and endpoints, so that no such word ever leads to another path than the one it is put into.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from messages_api import errors

# Of what lives at a provider; also for the URLconf.
ID = "[A-Za-z0-9_-]{1,200}"
_ID = re.compile(ID)
# Quoting leaves a dot as it is, and some servers take what is quoted for the slash that it was.
_SEPARATORS = re.compile(r"[/\\]")


def is_id(text: str) -> bool:
    """Whether this can be the id of something that lives at a provider."""
    return _ID.fullmatch(text) is not None


def model(name: str, *, safe: str = "") -> str:
    """A model's name as a part of a path.

    Args:
        safe: characters that this provider wants as they are.

    Raises:
        GatewayError: 404, no model has such a name.
    """
    if not name.isprintable() or not {"", ".", ".."}.isdisjoint(_SEPARATORS.split(name)):
        raise errors.not_found(f"model: {name[:200]}", reason="unknown_model")
    return quote(name, safe=safe)
