"""A request that becomes a call: its caller, its body, and the plan of its targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

import msgspec

from keys.directory import KnownKey
from keys.model_names import identity, own_name
from messages_api.json_text import byte_edits
from messages_api.json_text.byte_edits import Edit, Edits, MemberPlaces
from messages_api.process import long_bodies
from messages_api.relay.call import Call, Endpoint
from messages_api.relay.caller import Caller
from messages_api.relay.holds import CallHold
from messages_api.relay.routing import Plan, Planner, Target
from messages_api.relay.runtime import Runtime
from messages_api.request import estimates, max_tokens, minted
from messages_api.request.schema import MessagesRequest
from messages_api.server.handler import ApiRequest
from messages_api.upstream.client import Body
from usage.arbitration import clean

MESSAGES = Endpoint("messages", "/v1/messages", free=False)
COUNT_TOKENS = Endpoint("count_tokens", "/v1/messages/count_tokens", free=True)

# Headers in which clients describe themselves. They become labels of the ledger row, never an identity.
CLIENT_LABELS = {
    b"x-request-id": "request_id",
    b"x-claude-code-session-id": "claude_code_session",
    b"x-claude-code-agent-id": "claude_code_agent",
    b"x-claude-code-parent-agent-id": "claude_code_parent_agent",
}


@dataclass(slots=True)
class Incoming:
    """A request that was read and checked.

    Attributes:
        path: at the provider, if it differs from the endpoint's.
        method: at the provider, if it differs from the caller's.
        held: the hold, if it isn't computed from the body.
        opens: the class of the admitted call.
        id: of the call, if the request makes more than one.
        file_tokens: the most tokens of the files that it names, by their ids, where their size is known.
        members: the places of the body's members; `cuts`: the edits that remove the gateway's own signatures. Both are
            computed on first use.
    """

    caller: Caller
    endpoint: Endpoint
    messages: MessagesRequest
    body: Body
    plan: Planner
    path: str = ""
    method: str = ""
    held: CallHold | None = None
    opens: type[Call] = Call
    id: UUID | None = None
    file_tokens: Mapping[str, int] = field(default_factory=dict)
    members: MemberPlaces | None = None
    cuts: list[Edit] | None = None
    # Of the caller, at hand because each step needs them.
    http: ApiRequest = field(init=False)
    runtime: Runtime = field(init=False)

    def __post_init__(self) -> None:
        self.http, self.runtime = self.caller.http, self.caller.runtime

    @property
    def relayed(self) -> bool:
        """Whether the call may be retried at another target."""
        return self.endpoint in (MESSAGES, COUNT_TOKENS)

    def estimate(self, plan: Plan) -> estimates.Estimate:
        """The estimated tokens of the prompt, at the model of the plan that counts most."""
        if not isinstance(self.body, bytes):
            return estimates.NOTHING
        asked = self.messages
        others = {target.model for targets in plan for target in targets} - {asked.model, ""}
        planned = [own_name(identity(model)) for model in others] if others else ()
        found = estimates.estimate(asked.contents, asked.model, asked.added, asked.extras, others=planned)
        return found.with_files(self.file_tokens)

    def labels(self) -> dict[str, str]:
        """The labels that the client's headers give."""
        return {
            CLIENT_LABELS[name]: clean(value.decode("latin-1"))
            for name, value in self.http.scope["headers"]
            if name in CLIENT_LABELS
        }

    async def body_for(self, key: KnownKey, target: Target) -> Body:
        """The body for this target: with the key's default for a missing `max_tokens`, the provider's name of the
        model, and without thinking that this provider would refuse.
        """
        body = self.body
        if not isinstance(body, bytes):
            return body
        renamed = target.model not in ("", self.messages.model)
        unsigned = self.messages.contents.minted and target.provider_key.kind.signs_thinking
        default = max_tokens.stand_in(key, self.messages) if self.messages.lacks_max_tokens else None
        if not renamed and not unsigned and default is None:
            return body
        if renamed and self.members is None:
            self.members = await members_of(body)
        edits = Edits(body, self.members)
        if unsigned:
            if self.cuts is None:
                self.cuts = await long_bodies.run(minted.cuts, body)
            edits.add(self.cuts)
        if renamed:
            edits.replace("model", msgspec.json.encode(target.model))
        if default is not None:
            edits.insert(b'"max_tokens":%d' % default)
        return edits.apply()


async def members_of(body: bytes) -> MemberPlaces:
    """The places of a body's members. For a long body, another process finds them."""
    if not long_bodies.is_long(body):
        return MemberPlaces.of(body)
    return MemberPlaces(iter(()), await long_bodies.run(byte_edits.all_places, body))
