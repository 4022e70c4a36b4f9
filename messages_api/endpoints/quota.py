"""GET /v1/quota: the state of the budgets and limits of the caller's own key."""

from __future__ import annotations

import msgspec
from django.http import HttpResponse
from rest_framework.request import Request

from messages_api.callers import quota
from messages_api.endpoints.view import ApiView
from messages_api.server import errors


class QuotaView(ApiView):
    """Show what is left, and when each budget and limit resets."""

    endpoint = "quota"

    async def get(self, request: Request) -> HttpResponse:
        if self.presented.provider_secret:
            # All callers with a provider's own key share one customer. Its state would show them each other's cost.
            raise errors.forbidden(
                "A provider's own key has no quota here: send a virtual key.", reason="passed_through"
            )
        # A key that has used up its limits may still ask for their state.
        caller = await (await self.caller(own_limits=False)).permit(self.endpoint)
        return caller.json(msgspec.json.encode(await quota.state(caller.runtime.records.ask, caller.key)))
