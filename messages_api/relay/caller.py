"""Identifies the caller of a request, and checks whether it may call."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace

from django.http import HttpResponse

from keys.directory import KnownKey, KnownProviderKey
from messages_api.callers.authentication import Presented
from messages_api.process import long_bodies
from messages_api.relay import verdicts
from messages_api.relay.runtime import Runtime
from messages_api.server import errors, known_callers
from messages_api.server.database_away import DatabaseAway, asking
from messages_api.server.handler import ApiRequest
from usage.request_ids import request_id


@dataclass(frozen=True, slots=True)
class Caller:
    """A request, its credential, and the virtual key that the credential opens, as this process knows it now."""

    runtime: Runtime
    http: ApiRequest
    presented: Presented
    key: KnownKey

    @classmethod
    async def of(cls, runtime: Runtime, http: ApiRequest, presented: Presented) -> Caller:
        """Identify the caller of a request from the directory, without asking the arbiter whether it may call.

        Raises:
            GatewayError: as `find_key`; 429, the client's network has sent too many unknown keys.
        """
        try:
            key = await find_key(runtime, presented)
        except errors.GatewayError as error:
            raise runtime.guesses.count(http.scope, error) from None
        caller = cls(runtime, http, presented, key)
        known_callers.note(http.scope)
        http.virtual_key, http.share = caller.key.id, runtime.intake.share(caller.key.id)
        long_bodies.caller.set(caller.name)
        return caller

    @property
    def name(self) -> Hashable:
        """The identity by which callers take turns: callers with a provider's own key share one virtual key."""
        secret = self.presented.provider_secret
        return self.runtime.passed_keys.digest(secret) if secret else self.key.id

    def enter(self, *, own_limits: bool) -> None:
        """Count a request that costs nothing, or has a provider's own key, until it is over.

        Args:
            own_limits: the key's own limits apply, too; otherwise it is counted separately.

        Raises:
            GatewayError: 429, the caller has made too many lately, or has too many under way.
        """
        deployment, limits = self.runtime.configuration, self.runtime.caller_limits
        if self.presented.provider_secret:
            rpm, parallel = deployment.passthrough_rpm, deployment.passthrough_parallel
            self.http.at_end.append(limits.enter(self.name, rpm, parallel, "calls"))
            return
        rpm, parallel = deployment.free_rpm, deployment.free_parallel
        if own_limits:
            rpm, parallel = min(rpm, self.key.rpm or rpm), min(parallel, self.key.parallel or parallel)
        leave = limits.enter((self.key.id, own_limits), rpm, parallel, "calls that cost nothing")
        self.http.at_end.append(leave)

    async def renew(self) -> Caller:
        """The same caller with its key read again, because the cached one was stale.

        Raises:
            GatewayError: as `find_key`.
        """
        directory = self.runtime.directory
        with asking:
            if self.presented.provider_secret:
                await directory.passed_through(than=self.key)
            for secret in self.presented.secrets:
                await directory.refresh(secret, than=self.key)
        return replace(self, key=await find_key(self.runtime, self.presented))

    async def after(self, verdict: str) -> Caller:
        """The caller to ask the arbiter about next, after a verdict that did not admit.

        Raises:
            GatewayError: the verdict stands, or as `find_key`.
        """
        self.runtime.passing.distrust(self.key)
        if verdict in verdicts.GONE and len(self.presented.secrets) > 1:
            # If there are several credentials, one that still works wins.
            others = replace(self.presented, secrets=self.presented.secrets[1:])
            return await replace(self, presented=others).renew()
        if verdict != "stale":
            raise verdicts.refusal(verdict)
        return await self.renew()

    async def permit(self, endpoint: str) -> Caller:
        """Ask the arbiter about the key alone, with nothing held. Returns the caller with its current key.

        Raises:
            GatewayError: the key may not call, or the arbiter can't say now.
        """
        caller = self
        for _ in range(verdicts.TRIES):
            try:
                verdict = await verdicts.ask(self.runtime.writer, verdicts.nothing(self.http.id, caller.key, endpoint))
            except DatabaseAway:
                if caller.may_pass(endpoint):
                    return caller
                raise
            if verdict == "admitted":
                return caller
            caller = await caller.after(verdict)
        raise verdicts.too_fast()

    def may_pass(self, endpoint: str) -> bool:
        """Whether the caller may call without an admission."""
        return self.runtime.passing.may(endpoint, self.presented, self.key)

    def json(self, body: bytes) -> HttpResponse:
        """The gateway's own answer."""
        response = HttpResponse(body, content_type="application/json")
        response["request-id"] = response["x-bf-request-id"] = request_id(self.http.id)
        return response


async def find_key(runtime: Runtime, presented: Presented) -> KnownKey:
    """The virtual key that a request's credentials open: that of the first known credential.

    Raises:
        GatewayError: 401, there is no such key; 503, the database is unavailable and it isn't known yet.
    """
    with asking:
        if presented.provider_secret:
            return await let_passed_key_in(runtime, presented)
        for secret in presented.secrets:
            key = await runtime.directory.find(secret)
            if key is not None:
                return key
    raise errors.unauthenticated("This credential was never issued, or was deleted.", reason="unknown_key")


async def let_passed_key_in(runtime: Runtime, presented: Presented) -> KnownKey:
    """The hidden virtual key, with the provider's own key in the request as its only route.

    Raises:
        GatewayError: 401 or 429, the key is refused; 502 or 503, the provider doesn't say now whether it accepts the
        key. psycopg.Error: the database can't be asked.
    """
    key = await runtime.directory.passed_through()
    if key is None:
        raise errors.unavailable(
            "The customer for provider's own keys is not set up: restart the gateway.", reason="no_passthrough"
        )
    base_url = runtime.configuration.passthrough_base_url.rstrip("/")
    own = KnownProviderKey(None, "(passed through)", "anthropic", base_url, presented.provider_secret, ())
    await runtime.passed_keys.check(runtime.providers[own.provider], own, presented.address)
    return key.with_route(own)
