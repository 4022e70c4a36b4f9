"""Reads YAML into parts that know where they stand, so that an error can name its line and path.

The file is a person's, but may be made by a program from what others typed. So it is bounded, aliases are refused (a
few lines of them expand to gigabytes), and a key that occurs twice is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from keys.errors import Unusable

MOST_BYTES = 5 * 1024 * 1024
MOST_DEPTH = 20


@dataclass(frozen=True, slots=True)
class Part:
    """A value of a file.

    Attributes:
        value: text, a number, a flag, None, a dictionary of parts or a list of parts.
        line: counted from 1; 0 if the file has no lines that matter.
        path: like `customers[0].teams[1].name`.
    """

    value: Any
    line: int
    path: str

    def fault(self, message: str) -> Unusable:
        """An error about this part."""
        line = f"line {self.line}" if self.line else ""
        where = ", ".join(filter(None, [line, self.path]))
        return Unusable(f"{where}: {message}" if where else message)

    def members(self, known: Iterable[str]) -> dict[str, Part]:
        """The members of a mapping.

        Raises:
            Unusable: it is no mapping, or has a member that isn't known.
        """
        known = list(known)
        if not isinstance(self.value, dict):
            raise self.fault(f"expected a mapping with some of {', '.join(known)}")
        members: dict[str, Part] = self.value
        for name, part in members.items():
            if name not in known:
                raise part.fault(f"there is no “{name}” here; known are {', '.join(known)}")
        return members

    def items(self) -> list[Part]:
        """The items of a list.

        Raises:
            Unusable: it is no list.
        """
        if not isinstance(self.value, list):
            raise self.fault("expected a list")
        return self.value

    def text(self) -> str:
        """A text.

        Raises:
            Unusable: it is something else.
        """
        if not isinstance(self.value, str):
            raise self.fault("expected a text; put it in quotes if it looks like a number, a date or a flag")
        return self.value

    def texts(self) -> list[str]:
        """A list of texts."""
        return [part.text() for part in self.items()]

    def number(self) -> int:
        """A whole number.

        Raises:
            Unusable: it is something else.
        """
        if not isinstance(self.value, int) or isinstance(self.value, bool) or abs(self.value) > 10**15:
            raise self.fault("expected a whole number")
        return self.value

    def flag(self) -> bool:
        """A flag.

        Raises:
            Unusable: it is something else.
        """
        if not isinstance(self.value, bool):
            raise self.fault("expected true or false")
        return self.value

    def plain(self) -> Any:
        """The value without its places."""
        if isinstance(self.value, dict):
            return {name: part.plain() for name, part in self.value.items()}
        if isinstance(self.value, list):
            return [part.plain() for part in self.value]
        return self.value


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases. A date stays the text that was written."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a node.

        Raises:
            Unusable: it is an alias.
        """
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()  # type: ignore[no-untyped-call]
            raise Unusable(f"line {event.start_mark.line + 1}: aliases (*{event.anchor}) are refused: write it out")
        return super().compose_node(parent, index)


def read(text: bytes) -> Part:
    """The whole file.

    Raises:
        Unusable: it is no YAML, has an alias or a key twice, is too large or nested too deeply.
    """
    if len(text) > MOST_BYTES:
        raise Unusable(f"the file is larger than {MOST_BYTES} bytes: split it")
    try:
        loader = _Loader(text.decode())
        try:
            node = loader.get_single_node()
            return _part(loader, node, "", 0) if node is not None else Part({}, 1, "")
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        raise Unusable(f"{line}this is no YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise Unusable("the file is no YAML in UTF-8") from None
    except RecursionError:
        raise Unusable("the file is nested too deeply") from None


def _part(loader: _Loader, node: Any, path: str, depth: int) -> Part:
    line = node.start_mark.line + 1
    if depth > MOST_DEPTH:
        raise Unusable(f"line {line}, {path}: the file is nested too deeply")
    if isinstance(node, yaml.MappingNode):
        members: dict[str, Part] = {}
        for name, value in _members(loader, node, path):
            if name in members:
                raise Unusable(f"line {value.start_mark.line + 1}, {path}: “{name}” occurs twice")
            members[name] = _part(loader, value, f"{path}.{name}".lstrip("."), depth + 1)
        return Part(members, line, path)
    if isinstance(node, yaml.SequenceNode):
        items = [_part(loader, each, f"{path}[{number}]", depth + 1) for number, each in enumerate(node.value)]
        return Part(items, line, path)
    if node.tag == "tag:yaml.org,2002:timestamp":
        return Part(node.value, line, path)
    return Part(loader.construct_object(node), line, path)


def _members(loader: _Loader, node: Any, path: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
            raise Unusable(f"line {key.start_mark.line + 1}, {path}: expected a name before the colon")
        yield str(key.value), value
