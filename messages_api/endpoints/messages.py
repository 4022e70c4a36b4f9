"""POST /v1/messages, and to count its tokens."""

from __future__ import annotations

from django.http.response import HttpResponseBase
from rest_framework.request import Request

from messages_api.endpoints.view import ApiView
from messages_api.relay import messages, runtime
from messages_api.relay.incoming import COUNT_TOKENS, MESSAGES
from messages_api.relay.story import relay


class MessagesView(ApiView):
    """POST /v1/messages, and endpoints that are relayed in the same way."""

    relayed = MESSAGES

    @property
    def endpoint(self) -> str:  # type: ignore[override]
        return self.relayed.name

    async def post(self, request: Request) -> HttpResponseBase:
        limit = runtime.current().configuration.max_body_bytes
        self.http.refuse_what_cannot_be_read(limit)
        caller = await self.caller(free=self.relayed.free)
        if self.http.may_be_long:
            # Ask first, so that the body of a key that may not call isn't read.
            caller = await caller.permit(self.endpoint)
        body = await self.http.read_body(limit, understood=False)
        return await relay(await messages.read(caller, self.relayed, body))


class CountTokensView(MessagesView):
    """POST /v1/messages/count_tokens: free, but for the same keys and models."""

    relayed = COUNT_TOKENS
