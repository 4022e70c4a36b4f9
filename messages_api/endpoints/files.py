"""POST and GET /v1/files, and /v1/files/{id} with its content."""

from __future__ import annotations

from django.http.response import HttpResponseBase
from rest_framework.request import Request

from messages_api.endpoints.view import ApiView
from messages_api.relay.call import Endpoint
from messages_api.stored import file_list, files


class FileCall(ApiView):
    """The first steps of every call about files."""

    # A relayed HEAD would have a length, but no body.
    http_method_names = ["get", "post", "delete"]  # noqa: RUF012
    head = None

    async def relay(self, endpoint: Endpoint, file: str) -> HttpResponseBase:
        """A call about one file."""
        self.endpoint = endpoint.name
        return await files.relay_one(await self.caller(), endpoint, file)


class FilesView(FileCall):
    """Upload a file, or list the team's files."""

    async def post(self, request: Request) -> HttpResponseBase:
        self.endpoint = files.UPLOAD.name
        caller = await self.caller()
        self.http.refuse_what_cannot_be_read(caller.runtime.configuration.max_file_bytes)
        return await files.upload(caller)

    async def get(self, request: Request) -> HttpResponseBase:
        self.endpoint = files.LIST.name
        caller = await self.caller()
        if caller.key.passthrough:
            return await files.relay_list(caller)
        wanted = file_list.FileQuery.read(request.query_params)
        caller = await caller.permit(self.endpoint)
        return caller.json(await file_list.page(caller, wanted))


class FileView(FileCall):
    """Describe a file, or delete it."""

    async def get(self, request: Request, file: str) -> HttpResponseBase:
        return await self.relay(files.GET, file)

    async def delete(self, request: Request, file: str) -> HttpResponseBase:
        return await self.relay(files.DELETE, file)


class FileContentView(FileCall):
    """Download a file's content."""

    async def get(self, request: Request, file: str) -> HttpResponseBase:
        return await self.relay(files.CONTENT, file)
