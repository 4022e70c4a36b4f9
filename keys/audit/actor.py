"""Tells the database who acts, for the audit log.

`acting` sets the actor for a block of code. Before each statement that may change something, the actor goes into the
transaction's setting `bursar.actor`. It ends with the transaction, so no later request finds it on the connection. A
statement outside of a transaction gets one of its own. Without an actor, the log shows the role of the database. The
relay doesn't use Django's connections, so calls don't run this code. Importing this module needs no settings.
"""

from __future__ import annotations

import json
import os
import pwd
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

SET = "SELECT set_config('bursar.actor', %s, true)"
# How read-only statements of the ORM begin.
READS = re.compile(r'\s*(SELECT ("|1 |COUNT\(|DISTINCT )|SAVEPOINT|RELEASE|ROLLBACK|SHOW)', re.I)
# Statements that get a transaction of their own. Others, such as CREATE DATABASE, may not run in one.
CHANGES = re.compile(r"\s*(INSERT|UPDATE|DELETE|MERGE|WITH|SELECT|TRUNCATE|COPY|DO)\b", re.I)
# Characters of an actor's name that are kept.
NAME_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: a person (`id`: the user), a command (`id`: the operating system's user), a task or the system."""

    kind: str
    name: str = ""
    id: int | None = None
    address: str = ""

    def setting(self) -> str:
        """The value of `bursar.actor`."""
        values = {"kind": self.kind, "id": self.id, "name": self.name[:NAME_LENGTH], "address": self.address}
        return json.dumps(values)


# A function, since the user of a request is looked up only if something is written.
ACTOR: ContextVar[Callable[[], Actor | None] | None] = ContextVar("actor", default=None)


@contextmanager
def acting(who: Callable[[], Actor | None]) -> Iterator[None]:
    """Within this block, the log names `who` as the actor of changes."""
    token = ACTOR.set(who)
    try:
        yield
    finally:
        ACTOR.reset(token)


def command(name: str) -> Actor:
    """The actor of `manage.py NAME`."""
    return Actor("command", name, os.getuid())


def os_user(uid: int) -> str:
    """The name of an operating system's user on this machine."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _current() -> Actor | None:
    who = ACTOR.get()
    if who is None:
        return None
    token = ACTOR.set(None)  # the look-up of the user changes nothing
    try:
        return who()
    finally:
        ACTOR.reset(token)


def tell(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """An execute wrapper of Django's that sets the actor before a statement that may change something."""
    text = sql if isinstance(sql, str) else sql.as_string(None)
    if ACTOR.get() is None or READS.match(text):
        return execute(sql, params, many, context)
    link: BaseDatabaseWrapper = context["connection"]
    inside = not link.get_autocommit()
    if not (inside or CHANGES.match(text)) or (actor := _current()) is None:
        return execute(sql, params, many, context)
    if inside:
        return _told(link, actor, execute, sql, params, many, context)
    from django.db import transaction

    with transaction.atomic(link.alias):
        return _told(link, actor, execute, sql, params, many, context)


def _told(
    link: BaseDatabaseWrapper, actor: Actor, execute: Callable[..., Any], sql: Any, params: Any, *rest: Any
) -> Any:
    if not link.needs_rollback:
        assert link.connection is not None
        link.connection.execute(SET, [actor.setting()])
    return execute(sql, params, *rest)


def install(connection: BaseDatabaseWrapper, **_: Any) -> None:
    """Make a Django connection set the actor."""
    if tell not in connection.execute_wrappers:
        connection.execute_wrappers.append(tell)
