"""The endpoints of message batches."""

from __future__ import annotations

from django.http.response import HttpResponseBase
from rest_framework.request import Request

from messages_api.endpoints.view import ApiView
from messages_api.server.paging import Wanted
from messages_api.stored import batch_making, batches


class BatchesView(ApiView):
    """POST and GET /v1/messages/batches."""

    endpoint = "batches"

    async def post(self, request: Request) -> HttpResponseBase:
        """Make one."""
        caller = await self.caller(free=False)
        self.http.refuse_what_cannot_be_read(caller.runtime.configuration.max_batch_bytes)
        return await batch_making.create(await caller.permit(self.endpoint))

    async def get(self, request: Request) -> HttpResponseBase:
        """List the caller's batches, a page at a time."""
        wanted = Wanted.read(request.query_params)
        caller = await self.caller()
        if caller.key.passthrough:
            return await batches.relay_page(caller)
        caller = await caller.permit(self.endpoint)
        return caller.json(await batches.page(caller, wanted))


class BatchView(ApiView):
    """GET and DELETE /v1/messages/batches/{id}."""

    endpoint = "batches"

    async def get(self, request: Request, name: str) -> HttpResponseBase:
        """Describe it."""
        return await batches.reach(await self.caller(), name, batches.GET)

    async def delete(self, request: Request, name: str) -> HttpResponseBase:
        """Delete the batch, once it has ended."""
        return await batches.reach(await self.caller(), name, batches.DELETE)


class CancelBatchView(ApiView):
    """POST /v1/messages/batches/{id}/cancel."""

    endpoint = "batches"

    async def post(self, request: Request, name: str) -> HttpResponseBase:
        """Cancel the requests of the batch that have not begun."""
        return await batches.reach(await self.caller(), name, batches.CANCEL)


class BatchResultsView(ApiView):
    """GET /v1/messages/batches/{id}/results."""

    endpoint = "batches"

    async def get(self, request: Request, name: str) -> HttpResponseBase:
        """Return the results of the batch, one line of JSON per request."""
        return await batches.results(await self.caller(), name)
