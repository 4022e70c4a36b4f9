"""GET /v1/models and /v1/models/{id}: what the caller's key may use, from memory."""

from __future__ import annotations

from django.http import HttpResponse
from rest_framework.request import Request

from messages_api.endpoints.view import ApiView
from messages_api.server.paging import Wanted
from messages_api.stored import model_list


class ModelsView(ApiView):
    """The list, a page at a time."""

    endpoint = "models"

    async def get(self, request: Request) -> HttpResponse:
        wanted, lifecycles = Wanted.read(request.query_params), model_list.lifecycles(request.query_params)
        caller = await (await self.caller()).permit(self.endpoint)
        runtime = caller.runtime
        models = model_list.usable(caller.key, await runtime.models.lists(), runtime.providers).values()
        return caller.json(model_list.page(models, wanted, lifecycles))


class ModelView(ApiView):
    """One model."""

    endpoint = "models"

    async def get(self, request: Request, model: str) -> HttpResponse:
        self.http.requested_model = model
        caller = await (await self.caller()).permit(self.endpoint)
        runtime = caller.runtime
        found = model_list.find(caller.key, await runtime.models.lists(), runtime.providers, model)
        return caller.json(found.info.encode())
