"""GET /v1/models and /v1/models/{id}: what the caller's key may use, from memory."""

from __future__ import annotations

import psycopg
from django.http import HttpResponse
from rest_framework.request import Request

from keys.directory import KnownKey
from messages_api import errors, model_list
from messages_api.arbiter import permit
from messages_api.handler import ApiRequest
from messages_api.model_list import Lists
from messages_api.paging import Wanted
from messages_api.runtime import DATABASE_AWAY, Runtime
from messages_api.views import ApiView, identified
from usage.request_ids import request_id


class ModelsView(ApiView):
    """The list, a page at a time."""

    endpoint = "models"

    async def get(self, request: Request) -> HttpResponse:
        wanted, lifecycles = Wanted.read(request.query_params), model_list.lifecycles(request.query_params)
        here, key = await self.admit(request)
        lists = await listed(here)
        models = model_list.usable(key, lists, here.providers).values()
        return self.answer(request, model_list.page(models, wanted, lifecycles))

    async def admit(self, request: Request) -> tuple[Runtime, KnownKey]:
        """The key that calls, once the arbiter lets it.

        Raises:
            GatewayError: it may not call, or that can't be said now.
        """
        here, http, presented, key = await identified(request)
        return here, await permit(here, http, presented, key, self.endpoint)

    def answer(self, request: Request, body: bytes) -> HttpResponse:
        http: ApiRequest = request._request  # type: ignore[assignment]
        response = HttpResponse(body, content_type="application/json")
        response["request-id"] = response["x-bf-request-id"] = request_id(http.id)
        return response


class ModelView(ModelsView):
    """One model."""

    async def get(self, request: Request, model: str) -> HttpResponse:  # type: ignore[override]
        http: ApiRequest = request._request  # type: ignore[assignment]
        http.requested_model = model
        here, key = await self.admit(request)
        lists = await listed(here)
        return self.answer(request, model_list.find(key, lists, here.providers, model).info.encode())


async def listed(here: Runtime) -> Lists:
    """What providers listed, as new as what the arbiter goes by.

    Raises:
        GatewayError: 503, the database is away and it isn't known yet.
    """
    try:
        return await here.model_lists.at(here.directory.catalogue_revision)
    except psycopg.Error:
        raise errors.unavailable(DATABASE_AWAY, reason="database_away", retry_after=2) from None
