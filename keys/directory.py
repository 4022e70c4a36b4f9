"""A web process's cache of virtual keys, by credential: which models and provider keys a call may use.

It doesn't say whether a key is still valid. The arbiter decides that (usage.admission), and it also reports when a
cached key is stale.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from typing import Any

from keys import credentials, keyring, model_names, patterns, provider_kinds
from keys.connection import Reader
from keys.destinations import host_of
from keys.provider_kinds import ProviderKind
from keys.timeouts import DEPLOYMENTS, Timeouts

logger = logging.getLogger(__name__)

# Maximum number of entries, each of a few hundred bytes.
CAPACITY = 100_000
# An unknown credential is looked up in the database at most once in this time.
UNKNOWN_SECONDS = 1.0

FIND = """
SELECT c.id, v.id, v.name, v.revision, coalesce((SELECT catalogue_revision FROM keys_gateway), 0), v.allowed_models,
    v.denied_models, c.kind = 'passthrough', v.team_id, least(c.expires_at, v.expires_at),
    least(v.max_tokens, t.max_tokens),
    least(coalesce(v.default_max_tokens, t.default_max_tokens), v.max_tokens, t.max_tokens),
    ARRAY(SELECT r.provider_key_id FROM keys_virtualkeyroute r WHERE r.virtual_key_id = v.id ORDER BY r.id),
    ARRAY(SELECT r.weight FROM keys_virtualkeyroute r WHERE r.virtual_key_id = v.id ORDER BY r.id), v.fallback_models,
    v.adaptive_weights, l.rpm, l.parallel, v.customer_id
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
    """A provider key that is ready to be called. Its secret is in plain text, and is sent only to the provider.

    Its organisation and workspace are empty until an answer names them.
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

    def __hash__(self) -> int:
        # Each call hashes its targets a few times. All twelve fields would say no more than these two.
        return hash((self.id, self.secret))

    @property
    def kind(self) -> type[ProviderKind]:
        """The facts about its provider."""
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
    """A virtual key and the credential that it was found by, at the revisions at which it was read.

    `max_tokens` is the ceiling for a request's `max_tokens`: the lower one of the key's and its team's.
    `default_max_tokens` applies to a request that names none. `rpm` and `parallel` are the lowest limits on requests
    per minute and on parallel calls, of the key, its team and its customer, for all models. None stands for no limit.

    `served` is a memory of the relay: the targets that a model's name has led to (relay/routing.py). `has_choice`:
    a model may have several provider keys.
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
    customer: int = 0
    served: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    has_choice: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "has_choice", have_common_models([route for route, _ in self.routes]))

    def allows(self, *names: str) -> bool:
        """Whether its allow-list and deny-list permit a model with these names."""
        return patterns.allows(self.allowed, self.denied, *names)

    def stands_for(self, name: str) -> str:
        """The target of the alias with this name; the name itself if it is not an alias."""
        return self.aliases.get(name) or self.aliases.get(model_names.fold(name), name) if self.aliases else name

    def with_route(self, provider_key: KnownProviderKey) -> KnownKey:
        """The same key, mapped to this provider key alone."""
        return replace(self, routes=((provider_key, 1),))


def have_common_models(provider_keys: Sequence[KnownProviderKey]) -> bool:
    """Whether a name may be served by several of these provider keys. A pattern, or a name with a provider, counts as
    common: `provider/model` may be listed by one and mean a model of another.
    """
    if len(provider_keys) < 2:
        return False
    seen: set[str] = set()
    for provider_key in provider_keys:
        names = {model_names.fold(name) for name in provider_key.model_patterns}
        if not names or not seen.isdisjoint(names) or any("*" in name or "/" in name for name in names):
            return True
        seen |= names
    return False


class Directory:
    """The cache of virtual keys, by a digest of their credential. It drops the least recently used entries first.

    In memory, a credential has a digest of its own, under a key that only this process knows. The stored digest is an
    HMAC, which takes OpenSSL ten times as long, and is only made for a query.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.secret = os.urandom(32)
        self.known: OrderedDict[bytes, KnownKey] = OrderedDict()
        self.hidden: KnownKey | None = None
        self.reading_hidden = asyncio.Lock()
        self.reading: dict[bytes, asyncio.Task[KnownKey | None]] = {}
        self.unknown: set[bytes] = set()
        self.unknown_since = 0.0
        self.catalogue_revision = -1  # none has been read
        self.catalogue: dict[int, KnownProviderKey] = {}
        self.aliases: dict[str, str] = {}
        # The hosts of base URLs that predate the checks of addresses (keys/destinations.py).
        self.kept_hosts: frozenset[str] = frozenset()

    def digest(self, secret: str) -> bytes:
        """The digest of a credential in this process's memory."""
        return blake2b(secret.encode(), key=self.secret, digest_size=32).digest()

    async def find(self, secret: str) -> KnownKey | None:
        """The virtual key of a credential, or None if there is no such credential.

        Raises:
            psycopg.Error: the credential is not cached, and the database is unavailable.
        """
        digest = self.digest(secret)
        key = self.known.get(digest)
        if key is not None:
            self.known.move_to_end(digest)
            return key
        return await self.refresh(secret, than=None)

    async def refresh(self, secret: str, *, than: KnownKey | None) -> KnownKey | None:
        """Reload the virtual key of a credential. Of several calls at once, one queries and the others use its result.

        Args:
            than: the stale key that the caller has. Any newer one that is cached by now is returned without a query.

        Raises:
            psycopg.Error: the database is unavailable.
        """
        digest = self.digest(secret)
        # A query that is already running may have missed the change that made `than` stale. A second one can't.
        for _ in range(2):
            known = self.known.get(digest)
            if known is not None and is_newer(known, than):
                return known
            if self._was_unknown(digest):
                return None
            others = self.reading.get(digest)
            key = await asyncio.shield(others or self._start_reading(digest, secret))
            if others is None or key is None or is_newer(key, than):
                break
        return key

    def _start_reading(self, digest: bytes, secret: str) -> asyncio.Task[KnownKey | None]:
        def done(task: asyncio.Task[KnownKey | None]) -> None:
            del self.reading[digest]
            if not task.cancelled():
                task.exception()  # the calls that wait get it; without this, asyncio logs it

        task = self.reading[digest] = asyncio.get_running_loop().create_task(self._read(digest, secret))
        task.add_done_callback(done)
        return task

    async def _read(self, digest: bytes, secret: str) -> KnownKey | None:
        digests = [credentials.digest(secret, pepper.key) for pepper in keyring.peppers()]
        rows = await self.reader.fetch(FIND + "c.digest = ANY(%s)", [digests])
        self.known.pop(digest, None)
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
        """The hidden key under which calls with a provider's own key are recorded. `than` works as in `refresh`.

        Raises:
            psycopg.Error: the key must be read, and the database is unavailable.
        """
        async with self.reading_hidden:
            if self.hidden is None or not is_newer(self.hidden, than):
                rows = await self.reader.fetch(FIND + "c.kind = 'passthrough' AND v.passthrough")
                self.hidden = await self._known(rows[0]) if rows else None
            return self.hidden

    async def of_credential(self, credential: int) -> KnownKey | None:
        """The virtual key of the credential with this id, read now; None if there is no such credential.

        Raises:
            psycopg.Error: the database is unavailable.
        """
        rows = await self.reader.fetch(FIND + "c.id = %s", [credential])
        return await self._known(rows[0]) if rows else None

    async def _known(self, row: tuple) -> KnownKey:  # type: ignore[type-arg]
        credential, key, name, revision, catalogue, allowed, denied, passthrough, team, expires_at, *rest = row
        max_tokens, default_max_tokens, provider_keys, weights, fallbacks, adaptive_weights, rpm, parallel, customer = (
            rest
        )
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
            # Denying an alias also denies its target.
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
            customer,
        )

    async def _read_catalogue(self) -> None:
        rows = await self.reader.fetch(CATALOGUE)
        named = await self.reader.fetch(ALIASES)
        # Older databases may have two aliases that differ only in case. The one with the lower id wins.
        aliases = {model_names.fold(name): target for name, target in reversed(named)} | dict(named)
        catalogue, kept = {}, set()
        for _, predates, key, name, provider, base_url, ciphertext, models, organization, workspace, *policy in rows:
            if key is None:
                continue
            try:
                secret = keyring.decrypt(ciphertext) if ciphertext else ""
            except keyring.UnreadableSecret:
                logger.error(
                    "provider key %s is left out: no master key decrypts its secret; restore the master key or set the "
                    "secret again",
                    name,
                )
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
        # This is the revision of the first query, so a change made since then triggers another reload.
        self.catalogue, self.aliases, self.catalogue_revision = catalogue, aliases, rows[0][0]
        self.kept_hosts = frozenset(kept)


def is_newer(known: KnownKey, than: KnownKey | None) -> bool:
    """Whether `known` is at other revisions than the stale `than`, and so was read after it."""
    if than is None:
        return True
    return (known.revision, known.catalogue_revision) != (than.revision, than.catalogue_revision)
