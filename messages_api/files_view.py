"""POST and GET /v1/files, and /v1/files/{id} with its content."""

from __future__ import annotations

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from rest_framework.request import Request

from messages_api import file_list, files
from messages_api.arbiter import permit
from messages_api.call import Endpoint
from messages_api.views import ApiView, identified
from usage.request_ids import request_id


class FileCall(ApiView):
    """What every call here begins with."""

    # A relayed HEAD would be answered with a length, and no body to it.
    http_method_names = ["get", "post", "delete"]  # noqa: RUF012
    head = None

    async def relay(self, request: Request, endpoint: Endpoint, file: str) -> HttpResponseBase:
        """A call about one file."""
        self.endpoint = endpoint.name
        here, http, presented, key = await identified(request)
        return await files.relay_one(here, http, presented, key, endpoint, file)


class FilesView(FileCall):
    """Uploads, and the list of the team's files."""

    async def post(self, request: Request) -> HttpResponseBase:
        self.endpoint = files.UPLOAD.name
        here, http, presented, key = await identified(request)
        http.refuse_what_cannot_be_read(here.configuration.max_file_bytes)
        return await files.upload(here, http, presented, key)

    async def get(self, request: Request) -> HttpResponseBase:
        self.endpoint = files.LIST.name
        here, http, presented, key = await identified(request)
        if key.passthrough:
            return await files.relay_list(here, http, presented, key)
        wanted = file_list.Wanted.read(request.query_params)
        key = await permit(here, http, presented, key, self.endpoint)
        response = HttpResponse(await file_list.page(here, http, key, wanted), content_type="application/json")
        response["request-id"] = response["x-bf-request-id"] = request_id(http.id)
        return response


class FileView(FileCall):
    """One file: what it is, and its end."""

    async def get(self, request: Request, file: str) -> HttpResponseBase:
        return await self.relay(request, files.GET, file)

    async def delete(self, request: Request, file: str) -> HttpResponseBase:
        return await self.relay(request, files.DELETE, file)


class FileContentView(FileCall):
    """A file's bytes, as they come."""

    async def get(self, request: Request, file: str) -> HttpResponseBase:
        return await self.relay(request, files.CONTENT, file)
