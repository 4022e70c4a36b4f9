"""Writes the SQL with which a migration makes the audit log watch a table.

A new list for a table comes in a new migration, which stops watching the table first. Landed migrations use this
module, so the SQL that it writes for them must stay the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Watched:
    """The columns of a table that events show. Updates of other columns make no event.

    Attributes:
        plain: their values are shown.
        names: names of people, or of what they own. Events refer to them, so that they can be erased.
        contacts: e-mail addresses, which are names, or URLs.
        urls: only the scheme and the host are shown.
        secrets: an event says that they changed, without a value.
        belongs: the tables that a row belongs to, by column. The first column that isn't null counts.
    """

    plain: str = ""
    names: str = ""
    contacts: str = ""
    urls: str = ""
    secrets: str = ""
    belongs: Mapping[str, str] = field(default_factory=dict)

    def columns(self) -> list[str]:
        """The columns as `keys_audit_watch` wants them: `kind column`."""
        kinds = {
            "plain": self.plain,
            "name": self.names,
            "contact": self.contacts,
            "url": self.urls,
            "secret": self.secrets,
        }
        return [f"{kind} {column}" for kind, columns in kinds.items() for column in columns.split()]


def watch(tables: Mapping[str, Watched]) -> str:
    """SQL that starts watching these tables."""
    return "\n".join(_watch(table, watched) for table, watched in tables.items())


def unwatch(tables: Iterable[str]) -> str:
    """SQL that stops watching these tables."""
    return "\n".join(f"SELECT keys_audit_unwatch('{table}');" for table in tables)


def _watch(table: str, watched: Watched) -> str:
    belongs = ",".join(f"{column}={owner}" for column, owner in watched.belongs.items())
    columns = ", ".join(f"'{column}'" for column in watched.columns())
    return f"SELECT keys_audit_watch('{table}', '{belongs}', {columns});"
