"""Binds a conversation to the one account of a provider that understands what its requests carry.

Containers, the files that a model made, and (for keys whose routes lead to several accounts) the signatures of thinking
are learned from answers, and stored before the client can send them back. A request that carries one goes to the
account that has it. Unknown ids pass, because they were created outside of the gateway.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

import msgspec
import psycopg

from keys.connection import Reader
from keys.directory import KnownKey, KnownProviderKey
from messages_api.answer.account_states import State
from messages_api.request import described_files
from messages_api.request.carried import ID, Name, StateKind, digest
from messages_api.server import errors
from messages_api.server.database_away import asking

logger = logging.getLogger(__name__)

# How long signatures are kept; a container is kept for as long as its provider says, but no longer than that.
KEPT = timedelta(days=30)
# How long (seconds) an answer waits until its bindings are written.
PATIENCE_SECONDS = 2.0
AGAIN_SECONDS = 1.0
# The most bindings that a process remembers, and the most that wait to be written. Each takes a few hundred bytes.
CAPACITY = 20_000
FIND = """
SELECT 'file', id, virtual_key_id, team_id, provider_key_id, organization_id, workspace_id,
    CASE WHEN length(described) <= 8000 THEN described ELSE '' END
FROM messages_api_file WHERE id = ANY(%(files)s)
UNION ALL
SELECT b.kind, b.name, b.virtual_key_id, b.team_id, b.provider_key_id, b.organization_id, b.workspace_id, ''
FROM unnest(%(kinds)s::text[], %(names)s::text[]) AS wanted (kind, name)
JOIN messages_api_binding b ON b.kind = wanted.kind AND b.name = wanted.name
"""
KEEP = """
WITH learned AS (
    SELECT * FROM jsonb_to_recordset(%s::jsonb) AS l (
        kind text, name text, virtual_key bigint, team bigint, provider_key bigint, organization_id text,
        workspace_id text, expires_at timestamptz)
), files AS (
    INSERT INTO messages_api_file (
        id, virtual_key_id, team_id, provider_key_id, organization_id, workspace_id, described)
    SELECT name, virtual_key, team, provider_key, organization_id, workspace_id, '' FROM learned WHERE kind = 'file'
    ON CONFLICT DO NOTHING
)
INSERT INTO messages_api_binding (
    kind, name, virtual_key_id, team_id, provider_key_id, organization_id, workspace_id, expires_at)
SELECT kind, name, virtual_key, team, provider_key, organization_id, workspace_id, expires_at
FROM learned WHERE kind <> 'file'
ON CONFLICT (kind, name) DO UPDATE SET expires_at = EXCLUDED.expires_at
"""


@dataclass(frozen=True, slots=True)
class Bound:
    """Something that only one account has, and its owner in this gateway. `tokens`: the most that a model reads of it,
    if it is a file whose size is known; else 0."""

    kind: StateKind
    name: str
    virtual_key: int
    team: int | None
    provider_key: int | None
    organization_id: str
    workspace_id: str
    tokens: int = 0

    def __str__(self) -> str:
        return "the signature of the last thinking" if self.kind == "signature" else f"the {self.kind} {self.name}"

    def belongs_to(self, key: KnownKey) -> bool:
        """Whether a key may use it: any key of its team, or without a team, only the key that it came from."""
        return self.virtual_key == key.id if self.team is None else self.team == key.team

    def lives_at(self, provider_key: KnownProviderKey) -> bool:
        """Whether a provider key has it in its account. If the account is unknown, only the same key has it."""
        if self.organization_id and provider_key.organization_id:
            return (self.organization_id, self.workspace_id) == provider_key.account
        return self.provider_key == provider_key.id

    def is_minted(self, key: KnownKey) -> bool:
        """Whether the gateway made this signature (request/minted.py): other accounts can go on without the thinking
        that it signs.
        """
        return self.kind == "signature" and any(
            self.lives_at(provider_key) and not provider_key.kind.signs_thinking for provider_key, _ in key.routes
        )

    def is_usable(self, key: KnownKey) -> bool:
        """Whether a key may use it, and has a route to an account that has it."""
        return (self.kind == "signature" or self.belongs_to(key)) and any(
            self.lives_at(provider_key) for provider_key, _ in key.routes
        )


class Answered(Protocol):
    """A call that a provider's account has answered."""

    id: UUID
    key: KnownKey

    @property
    def provider_key(self) -> KnownProviderKey:
        """The provider key that the call was made with."""

    @property
    def account(self) -> tuple[str, str]:
        """The organisation and workspace that answered; empty if the provider doesn't name them."""


Routes = Sequence[tuple[KnownProviderKey, float]]


def narrow(
    key: KnownKey, model: str, routes: Routes, bound: Iterable[Bound], *, may_leave_signatures: bool = True
) -> Routes:
    """The routes to accounts that have everything a request carries. A signature that none of them has excludes no
    route: the provider answers in words that clients know. A signature of the gateway's excludes none either: other
    accounts get the request without the thinking that it signs.

    Args:
        may_leave_signatures: False: a signature binds like the rest, if the key has a route to its account.

    Raises:
        GatewayError: 404, something belongs to others, or is in none of these accounts; 400, no single account has all
            of it.
    """
    bound = list(bound)
    for one in bound:
        if one.kind != "signature" and not one.belongs_to(key):
            raise errors.not_found(f"{one.kind.capitalize()} not found: {one.name}", reason=f"unknown_{one.kind}")
    left, before = routes, None
    for one in bound:
        if one.is_minted(key):
            continue
        if not any(one.lives_at(provider_key) for provider_key, _ in routes):
            at_home = any(one.lives_at(provider_key) for provider_key, _ in key.routes)
            if one.kind == "signature" and (may_leave_signatures or not at_home):
                continue
            raise errors.not_found(
                f"{one.kind.capitalize()} not found: {one.name} is in a provider's account that this virtual key can't"
                f" use for {model} (any more).",
                reason=f"lost_{one.kind}",
            )
        left = [route for route in left if one.lives_at(route[0])]
        if not left:
            raise errors.invalid_request(
                f"The request carries {before} and {one}, which are in different accounts of the provider: leave one"
                " of them out, because a request goes to one account only.",
                reason="contradictory_bindings",
            )
        before = one
    return left


def file_tokens(bound: Iterable[Bound]) -> dict[str, int]:
    """The most tokens that a model reads of each of these files whose size is known."""
    return {one.name: one.tokens for one in bound if one.kind == "file" and one.tokens}


def several_accounts(key: KnownKey) -> bool:
    """Whether the key's routes lead to more than one account. An account that isn't known yet counts as a different
    one.
    """
    if len(key.routes) < 2:
        return False
    return (
        len(
            {
                provider_key.account if provider_key.organization_id else provider_key.id
                for provider_key, _ in key.routes
            }
        )
        > 1
    )


def expiry(expires_at: str, now: datetime) -> datetime:
    """When a container expires: the provider's time, at most `KEPT` from now."""
    latest = now + KEPT
    try:
        at = datetime.fromisoformat(expires_at)
    except ValueError:
        return latest
    return min(at if at.tzinfo else at.replace(tzinfo=UTC), latest)


class Bindings:
    """The bindings that this process knows (it drops the least recently used first), and the writer of new ones: one
    statement writes the bindings of many answers.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.writer = Reader("gateway bindings")
        self.known: OrderedDict[Name, Bound] = OrderedDict()
        self.waiting: dict[Name, tuple[Bound, datetime]] = {}
        self.written: asyncio.Future[None] | None = None
        self.writing: asyncio.Task[None] | None = None
        self.late = False

    # Requests

    async def of_request(self, key: KnownKey, names: Sequence[Name]) -> list[Bound]:
        """The known bindings of what a request carries, with one signature at most.

        Raises:
            GatewayError: 503, the database is unavailable and it isn't known yet.
        """
        bound = await self.of_names(key, names)
        signature = next((one for one in bound if one.kind == "signature"), None)
        return [one for one in bound if one.kind != "signature" or one is signature]

    async def of_names(self, key: KnownKey, names: Sequence[Name]) -> list[Bound]:
        """The known bindings of these names.

        Raises:
            GatewayError: 503, the database is unavailable and it isn't known yet.
        """
        if key.passthrough or not names:
            return []
        found = {name: one for name in names if (one := self.known.get(name)) and one.is_usable(key)}
        if missing := [name for name in names if name not in found]:
            # Also query names that memory would refuse: only current data may refuse.
            for name in missing:
                self.known.pop(name, None)
            with asking:
                found |= await self._find(missing)
        for one in found.values():
            self._remember(one)
        return [found[name] for name in names if name in found]

    async def _find(self, names: list[Name]) -> dict[Name, Bound]:
        values = {
            "files": [name for kind, name in names if kind == "file"],
            "kinds": [kind for kind, _ in names if kind != "file"],
            "names": [name for kind, name in names if kind != "file"],
        }
        rows = await self.reader.fetch(FIND, values)
        found = (replace(Bound(*row[:-1]), tokens=described_files.tokens(row[-1])) for row in rows)
        return {(one.kind, one.name): one for one in found}

    def _remember(self, one: Bound) -> None:
        self.known[one.kind, one.name] = one
        self.known.move_to_end((one.kind, one.name))
        if len(self.known) > CAPACITY:
            self.known.popitem(last=False)

    # Answers

    async def keep(self, call: Answered, states: list[State]) -> None:
        """Store what an answer binds to its account. Returns once this is committed, or after `PATIENCE_SECONDS`; then
        it is written later.
        """
        if not self._queue(call, states):
            return
        assert self.written is not None
        if self.writing is None or self.writing.done():
            self.writing = asyncio.get_running_loop().create_task(self._write())
        if self.late:  # another answer has waited for the same write already
            return
        done, _ = await asyncio.wait((self.written,), timeout=PATIENCE_SECONDS)
        if not done:
            self.late = True
            logger.error("bindings can't be written now: answers go to clients before they are written")

    def _queue(self, call: Answered, states: list[State]) -> bool:
        """Queue the bindings to be stored; True if there are any."""
        key = call.key
        if key.passthrough:
            return False
        now = datetime.now(UTC)
        organization, workspace = call.account if call.account[0] else call.provider_key.account
        several = several_accounts(key)
        queued = False
        for state in states:
            if not (several if state.kind == "signature" else ID.fullmatch(state.name)):
                continue
            name = digest(state.name) if state.kind == "signature" else state.name
            one = Bound(state.kind, name, key.id, key.team, call.provider_key.id, organization, workspace)
            if (state.kind, name) not in self.known:
                self._remember(one)
            if len(self.waiting) >= CAPACITY:
                logger.error("too many bindings wait to be written: the rest of those of call %s are lost", call.id)
                break
            if not self.waiting:
                self.written = asyncio.get_running_loop().create_future()
            self.waiting[state.kind, name] = (one, expiry(state.expires_at, now))
            queued = True
        return queued

    async def _write(self) -> None:
        """Write the queued bindings until none is left."""
        while self.waiting:
            waiting, self.waiting = self.waiting, {}
            written = self.written
            # In the same order in every process, so that no two processes deadlock on each other's rows.
            rows = [asdict(one) | {"expires_at": expires_at} for _, (one, expires_at) in sorted(waiting.items())]
            await self._insert(rows)
            self.late = False
            assert written is not None
            written.set_result(None)

    async def _insert(self, rows: list[dict[str, object]]) -> None:
        """Write these rows; retry until the database is available."""
        while True:
            try:
                await self.writer.fetch(KEEP, [msgspec.json.encode(rows).decode()])
                return
            except psycopg.OperationalError as error:
                logger.warning("bindings wait to be written (%s)", type(error).__name__)
            except psycopg.Error as error:
                logger.error("%d bindings are lost (%s)", len(rows), type(error).__name__)
                return
            await asyncio.sleep(AGAIN_SECONDS)

    async def close(self) -> None:
        """Write the queued bindings, if that is possible in time, and close the connection."""
        if self.writing is not None and not self.writing.done():
            _, pending = await asyncio.wait((self.writing,), timeout=PATIENCE_SECONDS)
            if pending:
                logger.error("the process ends before all bindings are written")
                self.writing.cancel()
                await asyncio.wait((self.writing,))
        await self.writer.close()
