"""What a web process knows of virtual keys: where a call may go, found by credential, kept until it is out of date.

It never says whether a key is still good: that is the arbiter's word (usage.admission), which also tells a process
that what it knows is stale.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from keys import credentials, keyring, model_names, patterns, provider_kinds
from keys.connection import Reader
from keys.destinations import host_of
from keys.provider_kinds import ProviderKind
from keys.timeouts import DEPLOYMENTS, Timeouts

logger = logging.getLogger(__name__)

# Entries of a few hundred bytes each.
CAPACITY = 100_000
# A credential that nobody handed out is asked for at most once in this time.
UNKNOWN_SECONDS = 1.0

FIND = """
SELECT c.id, v.id, v.name, v.revision, coalesce((SELECT catalogue_revision FROM keys_gateway), 0), v.allowed_models,
    v.denied_models, v.passthrough, v.team_id, least(c.expires_at, v.expires_at), least(v.max_tokens, t.max_tokens),
    least(coalesce(v.default_max_tokens, t.default_max_tokens), v.max_tokens, t.max_tokens),
    ARRAY(SELECT r.provider_key_id FROM keys_virtualkeyroute r WHERE r.virtual_key_id = v.id ORDER BY r.id),
    ARRAY(SELECT r.weight FROM keys_virtualkeyroute r WHERE r.virtual_key_id = v.id ORDER BY r.id), v.fallback_models,
    v.adaptive_weights, l.rpm, l.parallel
FROM keys_credential c JOIN keys_virtualkey v ON v.id = c.virtual_key_id LEFT JOIN keys_team t ON t.id = v.team_id
CROSS JOIN LATERAL (
    SELECT min(rate) FILTER (WHERE kind = 'rpm') AS rpm, min(rate) FILTER (WHERE kind = 'parallel') AS parallel
    FROM usage_limit WHERE active AND model_patterns = '{}' AND provider_key_id IS NULL
        AND owner = ANY (ARRAY[v.customer_id * 4, v.team_id * 4 + 1, v.id * 4 + 2])) AS l
WHERE
"""
CATALOGUE = """
SELECT coalesce(g.catalogue_revision, 0), p.predates_address_checks, p.id, p.name, p.provider, p.base_url,
    p.secret_ciphertext, p.model_patterns, p.organization_id, p.workspace_id, p.connect_seconds, p.first_byte_seconds,
    p.between_bytes_seconds, p.total_seconds, p.retry_unanswered, p.region, p.project
FROM (SELECT max(catalogue_revision) AS catalogue_revision FROM keys_gateway) g LEFT JOIN keys_providerkey p ON p.active
"""
ALIASES = "SELECT name, target FROM keys_modelalias ORDER BY id"


@dataclass(frozen=True, slots=True)
class KnownProviderKey:
    """A provider key, ready to call with. The secret is in plain text: it never leaves the process but upstream.

    Its organisation and workspace are empty as long as no answer has named them.
    """

    id: int | None
    name: str
    provider: str
    base_url: str
    secret: str = field(repr=False)
    model_patterns: tuple[str, ...]
    organization_id: str = ""
    workspace_id: str = ""
    timeouts: Timeouts = DEPLOYMENTS
    retry_unanswered: bool = False
    region: str = ""
    project: str = ""

    @property
    def kind(self) -> type[ProviderKind]:
        """What is true of its provider."""
        return provider_kinds.find(self.provider)

    @property
    def account(self) -> tuple[str, str]:
        """The provider's organisation and workspace."""
        return self.organization_id, self.workspace_id

    def serves(self, model: str) -> bool:
        """Whether a call for this model may go to this provider key."""
        return not self.model_patterns or patterns.matches(self.model_patterns, model)


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A virtual key as a credential opened it, at the revisions at which it was read.

    `max_tokens` is the ceiling for what it may ask for, the lower one of its own and its team's; `default_max_tokens`
    stand in where it doesn't ask. `rpm` and `parallel` are the lowest limits of requests and of calls at once, its own,
    its team's and its customer's, for all models. None: there is none.
    """

    credential: int
    id: int
    name: str
    revision: int
    catalogue_revision: int
    allowed: tuple[str, ...]
    denied: tuple[str, ...]
    passthrough: bool
    routes: tuple[tuple[KnownProviderKey, int], ...]
    team: int | None = None
    fallbacks: tuple[str, ...] = ()
    aliases: Mapping[str, str] = field(default_factory=dict, hash=False)
    adaptive_weights: bool = False
    expires_at: datetime | None = None
    max_tokens: int | None = None
    default_max_tokens: int | None = None
    rpm: int | None = None
    parallel: int | None = None

    def allows(self, *names: str) -> bool:
        """Whether its allow-list and deny-list let a call for this model through, which may have several names."""
        return patterns.allows(self.allowed, self.denied, *names)

    def stands_for(self, name: str) -> str:
        """What an alias of this name stands for; the name itself where there is none."""
        return self.aliases.get(name) or self.aliases.get(model_names.fold(name), name) if self.aliases else name

    def with_route(self, provider_key: KnownProviderKey) -> KnownKey:
        """The same, mapped to this provider key alone."""
        return replace(self, routes=((provider_key, 1),))


class Directory:
    """Virtual keys by the digest of their credential, least recently used first out."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.known: OrderedDict[bytes, KnownKey] = OrderedDict()
        self.hidden: KnownKey | None = None
        self.reading_hidden = asyncio.Lock()
        self.reading: dict[bytes, asyncio.Task[KnownKey | None]] = {}
        self.unknown: set[bytes] = set()
        self.unknown_since = 0.0
        self.catalogue_revision = 0
        self.catalogue: dict[int, KnownProviderKey] = {}
        self.aliases: dict[str, str] = {}
        # Of base URLs that predate the checks of addresses (keys/destinations.py).
        self.kept_hosts: frozenset[str] = frozenset()
        self.peppers = [pepper.key for pepper in keyring.peppers()]

    async def find(self, secret: str) -> KnownKey | None:
        """The virtual key that a credential opens, or None where nobody handed it out.

        Raises:
            psycopg.Error: it isn't known yet, and the database can't be asked.
        """
        for pepper in self.peppers:
            digest = credentials.digest(secret, pepper)
            key = self.known.get(digest)
            if key is not None:
                self.known.move_to_end(digest)
                return key
        return await self.refresh(secret, than=None)

    async def refresh(self, secret: str, *, than: KnownKey | None) -> KnownKey | None:
        """The same, read anew. Of many who ask at once, one reads, and the others take what it has read.

        Args:
            than: what the caller knows and found wanting; who has read anything newer is taken at their word.

        Raises:
            psycopg.Error: the database can't be asked.
        """
        self.peppers = [pepper.key for pepper in keyring.peppers()]
        digests = [credentials.digest(secret, pepper) for pepper in self.peppers]
        # It is kept under the newest; which one it was stored by costs nothing to leave open.
        digest = digests[0]
        # What others are reading may be older than the change that the caller knows of; what they read next is not.
        for _ in range(2):
            known = self.known.get(digest)
            if known is not None and is_newer(known, than):
                return known
            if self._was_unknown(digest):
                return None
            others = self.reading.get(digest)
            key = await asyncio.shield(others or self._start_reading(digest, digests))
            if others is None or key is None or is_newer(key, than):
                break
        return key

    def _start_reading(self, digest: bytes, digests: list[bytes]) -> asyncio.Task[KnownKey | None]:
        def done(task: asyncio.Task[KnownKey | None]) -> None:
            del self.reading[digest]
            if not task.cancelled():
                task.exception()  # whoever still waits has it

        task = self.reading[digest] = asyncio.get_running_loop().create_task(self._read(digest, digests))
        task.add_done_callback(done)
        return task

    async def _read(self, digest: bytes, digests: list[bytes]) -> KnownKey | None:
        rows = await self.reader.fetch(FIND + "c.digest = ANY(%s)", [digests])
        for each in digests:
            self.known.pop(each, None)
        if not rows:
            if len(self.unknown) < CAPACITY:
                self.unknown.add(digest)
            return None
        key = self.known[digest] = await self._known(rows[0])
        if len(self.known) > CAPACITY:
            self.known.popitem(last=False)
        return key

    def _was_unknown(self, digest: bytes) -> bool:
        now = time.monotonic()
        if now - self.unknown_since > UNKNOWN_SECONDS:
            self.unknown_since = now
            self.unknown.clear()
        return digest in self.unknown

    async def passed_through(self, *, than: KnownKey | None = None) -> KnownKey | None:
        """The hidden key under which calls with a provider's own key are recorded; read anew as `refresh` does it.

        Raises:
            psycopg.Error: it isn't known yet, or is asked for anew, and the database can't be asked.
        """
        async with self.reading_hidden:
            if self.hidden is None or not is_newer(self.hidden, than):
                rows = await self.reader.fetch(FIND + "c.kind = 'passthrough' AND v.passthrough")
                self.hidden = await self._known(rows[0]) if rows else None
            return self.hidden

    async def _known(self, row: tuple) -> KnownKey:  # type: ignore[type-arg]
        credential, key, name, revision, catalogue, allowed, denied, passthrough, team, expires_at, *rest = row
        max_tokens, default_max_tokens, provider_keys, weights, fallbacks, adaptive_weights, rpm, parallel = rest
        if catalogue != self.catalogue_revision:
            await self._read_catalogue()
        routes = tuple(
            (self.catalogue[provider_key], weight)
            for provider_key, weight in zip(provider_keys, weights, strict=True)
            if provider_key in self.catalogue
        )
        return KnownKey(
            credential,
            key,
            name,
            revision,
            self.catalogue_revision,
            tuple(allowed),
            # Who denies an alias denies what it stands for.
            (*denied, *(self.aliases[name] for name in map(model_names.fold, denied) if name in self.aliases)),
            passthrough,
            routes,
            team,
            tuple(fallbacks),
            self.aliases,
            adaptive_weights,
            expires_at,
            max_tokens,
            default_max_tokens,
            rpm,
            parallel,
        )

    async def _read_catalogue(self) -> None:
        rows = await self.reader.fetch(CATALOGUE)
        named = await self.reader.fetch(ALIASES)
        # Two of them that differ in case alone may be there from before that was refused.
        aliases = {model_names.fold(name): target for name, target in reversed(named)} | dict(named)
        catalogue, kept = {}, set()
        for _, predates, key, name, provider, base_url, ciphertext, models, organization, workspace, *policy in rows:
            if key is None:
                continue
            try:
                secret = keyring.decrypt(ciphertext) if ciphertext else ""
            except keyring.UnreadableSecret:
                logger.error("provider key %s is left out: its secret can't be decrypted", name)
                continue
            if predates:
                kept.add(host_of(base_url))
            catalogue[key] = KnownProviderKey(
                key,
                name,
                provider,
                base_url,
                secret,
                tuple(models),
                organization,
                workspace,
                Timeouts(*policy[:4]),
                *policy[4:],
            )
        # The revision is the one that was read first: what has moved since is read again.
        self.catalogue, self.aliases, self.catalogue_revision = catalogue, aliases, rows[0][0]
        self.kept_hosts = frozenset(kept)


def is_newer(known: KnownKey, than: KnownKey | None) -> bool:
    """Whether it was read since, by what the database says of changes."""
    if than is None:
        return True
    return (known.revision, known.catalogue_revision) != (than.revision, than.catalogue_revision)
