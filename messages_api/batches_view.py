"""The endpoints of message batches."""

from __future__ import annotations

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from messages_api import batches
from messages_api.arbiter import permit
from messages_api.paging import Wanted
from messages_api.views import ApiView, identified
from usage.request_ids import request_id


class BatchesView(ApiView):
    """POST and GET /v1/messages/batches."""

    endpoint = "batches"

    async def post(self, request: Request) -> HttpResponseBase:
        """Make one."""
        here, http, presented, key = await identified(request, free=False)
        http.refuse_what_cannot_be_read(here.configuration.max_batch_bytes)
        key = await permit(here, http, presented, key, self.endpoint)
        return await batches.create(here, http, presented, key)

    async def get(self, request: Request) -> HttpResponseBase:
        """The caller's, a page at a time."""
        wanted = Wanted.read(request.query_params)
        here, http, presented, key = await identified(request)
        if key.passthrough:
            return await batches.passed_page(here, http, presented, key)
        key = await permit(here, http, presented, key, self.endpoint)
        response = HttpResponse(await batches.page(here, http, key, wanted), content_type="application/json")
        response["request-id"] = response["x-bf-request-id"] = request_id(http.id)
        return response


class BatchView(ApiView):
    """GET and DELETE /v1/messages/batches/{id}."""

    endpoint = "batches"

    async def get(self, request: Request, name: str) -> HttpResponseBase:
        """Describe it."""
        return await batches.reach(*await identified(request), name, batches.GET)

    async def delete(self, request: Request, name: str) -> HttpResponseBase:
        """Delete it, once it has ended."""
        return await batches.reach(*await identified(request), name, batches.DELETE)


class CancelBatchView(ApiView):
    """POST /v1/messages/batches/{id}/cancel."""

    endpoint = "batches"

    async def post(self, request: Request, name: str) -> HttpResponseBase:
        """Cancel what of it has not begun."""
        return await batches.reach(*await identified(request), name, batches.CANCEL)


class BatchResultsView(ApiView):
    """GET /v1/messages/batches/{id}/results."""

    endpoint = "batches"

    async def get(self, request: Request, name: str) -> HttpResponseBase:
        """What its requests came to, a line of JSON each."""
        return await batches.results(*await identified(request), name)
