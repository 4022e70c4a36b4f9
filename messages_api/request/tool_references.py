"""Tools that a request refers to in its turns (`tool_reference`): the provider puts the whole definition there.
https://platform.claude.com/docs/en/agents-and-tools/tool-use/tool-search-tool (November 2026). Pure.
"""

from __future__ import annotations

import re
from collections import Counter

import msgspec

from messages_api.json_text.byte_edits import elements_of
from messages_api.request.plain import Plain
from messages_api.request.text_tokens import tokens_of_text

WORD = b"tool_reference"
# Quotes within strings are escaped, so this only matches a member with its value.
NAMED = re.compile(rb'"(?<!\\)tool_name":("(?:[^"\\]++|\\.)*+")')


class Named(msgspec.Struct):
    """The name of a tool, as it is written."""

    name: msgspec.Raw = msgspec.Raw(b"")


_named = msgspec.json.Decoder(Named)


def tokens(said: Plain) -> int:
    """The tokens of the definitions that references repeat, for an older model: each definition once for each reference
    but the first, since it is in the request itself once."""
    times = Counter(NAMED.findall(bytes(said.members.get("messages", b""))))
    tools = bytes(said.members.get("tools", b""))
    if not times or tools[:1] != b"[":
        return 0
    found = 0
    for tool in elements_of.decode(tools):
        again = times[bytes(_named.decode(tool).name)] - 1
        if again > 0:
            found += again * tokens_of_text(bytes(tool))
    return found
