"""Reads a Messages request, or one to count its tokens, and plans its targets."""

from __future__ import annotations

from keys.directory import KnownKey
from messages_api.json_text import byte_edits
from messages_api.process import long_bodies
from messages_api.relay import bindings, routing
from messages_api.relay.call import Endpoint
from messages_api.relay.caller import Caller
from messages_api.relay.incoming import Incoming
from messages_api.relay.routing import Plan
from messages_api.request import conversation, markers, reading
from messages_api.server import headers


async def read(caller: Caller, endpoint: Endpoint, body: bytes) -> Incoming:
    """Read a request, and remove the members that are only for the gateway.

    Raises:
        GatewayError: 400, the request is wrong; or the caller may not call.
    """
    here, http = caller.runtime, caller.http
    given = http.scope["headers"]
    found = await long_bodies.run(
        reading.read,
        body,
        betas=headers.betas(given),
        counting=endpoint.free,
        signatures=bindings.several_accounts(caller.key),
        opening=caller.key.has_choice and not conversation.session_of(given),
    )
    messages = found.request
    if markers.are_in(messages):
        # Only current data shows whether a model really has such a name.
        caller = await caller.permit(endpoint.name)
        real = await here.models.marked(caller.key)
        messages = markers.without(messages, real)
        ours = ("fallbacks",) if messages.fallbacks else ()
        body = byte_edits.apply(body, await long_bodies.run(markers.edits, body, real, without=ours))
    elif messages.fallbacks:
        body = byte_edits.apply(body, await long_bodies.run(byte_edits.cut, body, "fallbacks"))
    http.requested_model = messages.model
    http.note_understood()
    bound = await here.bindings.of_request(caller.key, found.carried)

    def plan(key: KnownKey) -> Plan:
        def name() -> str:
            return conversation.name(key.id, given, found.opening)

        models = (messages.model, *(messages.fallbacks or map(markers.meant, key.fallbacks)))
        return routing.plan(key, models, here.providers, name, bound, here.performances.share)

    return Incoming(caller, endpoint, messages, body, plan, file_tokens=bindings.file_tokens(bound))
