"""Ids (from clients and providers) and names of models that become a part of a path at a provider.

One rule for all providers and endpoints, so that no id and no name can lead to another path than intended.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from messages_api.server import errors

# The id of something that is stored at a provider; also for the URLconf.
ID = "[A-Za-z0-9_-]{1,200}"
_ID = re.compile(ID)
# Quoting doesn't change dots, and some servers treat a quoted slash as a slash.
_SEPARATORS = re.compile(r"[/\\]")


def is_id(text: str) -> bool:
    """Whether this can be the id of something that is stored at a provider."""
    return _ID.fullmatch(text) is not None


def model(name: str, *, safe: str = "") -> str:
    """A model's name, quoted for a path.

    Args:
        safe: characters that this provider expects unquoted.

    Raises:
        GatewayError: 404, a model can't have this name.
    """
    if not name.isprintable() or not {"", ".", ".."}.isdisjoint(_SEPARATORS.split(name)):
        raise errors.not_found(f"model: {name[:200]}", reason="unknown_model")
    return quote(name, safe=safe)
