"""GET /v1/quota: how the budgets and limits of the caller's own key stand."""

from __future__ import annotations

import msgspec
from django.http import HttpResponse
from rest_framework.request import Request

from messages_api import errors, quota
from messages_api.arbiter import permit
from messages_api.authentication import Presented
from messages_api.views import ApiView, identified
from usage.request_ids import request_id
from usage.standing import STANDING


class QuotaView(ApiView):
    """What is left, and when it is filled up again."""

    endpoint = "quota"

    async def get(self, request: Request) -> HttpResponse:
        presented: Presented = request.auth  # type: ignore[assignment]
        if presented.provider_secret:
            # Who has some provider's key is nobody to us: its calls are one customer's, and so is what they cost.
            raise errors.forbidden(
                "A provider's own key has no quota here: send a virtual key.", reason="passed_through"
            )
        # A key that has used up its limits may still ask how they stand.
        here, http, presented, key = await identified(request, own_limits=False)
        key = await permit(here, http, presented, key, self.endpoint)
        rows = await here.record(STANDING, {"virtual_key": key.id})
        response = HttpResponse(msgspec.json.encode(quota.shown(rows[0][0], key)), content_type="application/json")
        response["request-id"] = response["x-bf-request-id"] = request_id(http.id)
        return response
