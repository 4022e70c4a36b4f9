"""A request on its way into a call: who makes it, what it asks for, and how to plan where it goes."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

import msgspec

from keys.directory import KnownKey
from messages_api import estimates, long_bodies, max_tokens, minted, splice
from messages_api.call import Call, Endpoint
from messages_api.caller import Caller
from messages_api.handler import ApiRequest
from messages_api.holds import Held
from messages_api.routing import Planner, Target
from messages_api.runtime import Runtime
from messages_api.schema import MessagesRequest
from messages_api.splice import Edit, Edits, Members
from messages_api.upstream import Body
from usage.arbitration import clean

MESSAGES = Endpoint("messages", "/v1/messages", free=False)
COUNT_TOKENS = Endpoint("count_tokens", "/v1/messages/count_tokens", free=True)

# What a client says about itself, kept with the ledger row; never an identity.
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
        path: the provider's, where it isn't the endpoint's.
        method: likewise, where it isn't the caller's.
        held: what to hold, where it isn't reckoned from the body.
        opens: the kind of call that it becomes once it is admitted.
        id: the call's, where the request makes more than one.
        members: where those of the body are, and `cuts` what takes our own signatures out of it, once they were needed.
    """

    caller: Caller
    endpoint: Endpoint
    messages: MessagesRequest
    body: Body
    plan: Planner
    path: str = ""
    method: str = ""
    held: Held | None = None
    opens: type[Call] = Call
    id: UUID | None = None
    members: Members | None = None
    cuts: list[Edit] | None = None

    @property
    def http(self) -> ApiRequest:
        """The request as it came."""
        return self.caller.http

    @property
    def runtime(self) -> Runtime:
        """What its process has open."""
        return self.caller.runtime

    @property
    def relayed(self) -> bool:
        """Whether it may be made again elsewhere."""
        return self.endpoint in (MESSAGES, COUNT_TOKENS)

    def estimate(self) -> estimates.Estimate:
        """The tokens of its prompt, by its body."""
        if not isinstance(self.body, bytes):
            return estimates.NOTHING
        asked = self.messages
        return estimates.estimate(asked.contents, asked.model, asked.added, asked.extras)

    def labels(self) -> dict[str, str]:
        """What the client says about itself."""
        return {
            CLIENT_LABELS[name]: clean(value.decode("latin-1"))
            for name, value in self.http.scope["headers"]
            if name in CLIENT_LABELS
        }

    async def body_for(self, key: KnownKey, target: Target) -> Body:
        """The body as it goes out with this key: with the `max_tokens` that the caller left out, the model's name as
        the target's provider knows it, and only the thinking that this provider can take."""
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


async def members_of(body: bytes) -> Members:
    """Where the members of a body are; of a long one, another process finds that out."""
    if not long_bodies.is_long(body):
        return Members.of(body)
    return Members(iter(()), await long_bodies.run(splice.all_places, body))
