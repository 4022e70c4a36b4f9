"""GET /v1/quota: how the budgets and limits of the caller's own key stand."""

from __future__ import annotations

import msgspec
from django.http import HttpResponse
from rest_framework.request import Request

from messages_api import errors, quota
from messages_api.views import ApiView
from usage.standing import STANDING


class QuotaView(ApiView):
    """What is left, and when it is filled up again."""

    endpoint = "quota"

    async def get(self, request: Request) -> HttpResponse:
        if self.presented.provider_secret:
            # We know nothing of who has a provider's key: the calls of all of them are one customer's, with their cost.
            raise errors.forbidden(
                "A provider's own key has no quota here: send a virtual key.", reason="passed_through"
            )
        # A key that has used up its limits may still ask how they stand.
        caller = await (await self.caller(own_limits=False)).permit(self.endpoint)
        rows = await caller.runtime.records.ask(STANDING, {"virtual_key": caller.key.id})
        return caller.json(msgspec.json.encode(quota.shown(rows[0][0], caller.key)))
