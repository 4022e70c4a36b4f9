"""The operations on batches and files in the OpenAPI document. The docstrings of methods are its descriptions."""

from __future__ import annotations

from typing import Any

from django.urls import path
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse

from messages_api.endpoints.batches import BatchesView, BatchResultsView, BatchView, CancelBatchView
from messages_api.endpoints.files import FileContentView, FilesView, FileView
from messages_api.reference.parts import CALL_HEADERS, QUESTION, answer, failures, operation
from messages_api.reference.shapes import ref

PAGE = [
    OpenApiParameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20},
        description="The most entries on the page.",
    ),
    OpenApiParameter("after_id", {"type": "string"}, description="Returns the page after this entry."),
    OpenApiParameter("before_id", {"type": "string"}, description="Returns the page before this entry."),
]
NAME = OpenApiParameter("name", {"type": "string"}, OpenApiParameter.PATH, description="The batch's id.")
LISTED = (400, 401, 403, 405, 429, 500, 503, 529)
NOT_FOUND = (400, 401, 403, 404, 405, 429, 500, 502, 503, 504, 529)
PARAMS = {"model": "claude-opus-5-5", "max_tokens": 1024, "messages": [QUESTION]}
BATCH = {"requests": [{"custom_id": "question-1", "params": PARAMS}, {"custom_id": "question-2", "params": PARAMS}]}
RESULT = (
    '{"custom_id":"question-1","result":{"type":"succeeded","message":{"id":"msg_1","type":"message",'
    '"role":"assistant","model":"claude-opus-5-5","content":[{"type":"text","text":"Hello!"}],'
    '"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":12,"output_tokens":6,'
    '"service_tier":"batch"}}}}\n{"custom_id":"question-2","result":{"type":"expired"}}\n'
)


# Each operation is written out, even if another one has the same parts: a reader of the reference finds its text here,
# and an operation changes on its own.
class BatchesPage(BatchesView):
    @operation(
        "create_message_batch",
        "Send many requests at half the price",
        "message batches",
        *CALL_HEADERS,
        request={"application/json": ref("BatchCreateRequest")},
        examples=[OpenApiExample("Two questions", BATCH, request_only=True)],
        responses=answer("MessageBatch", "The batch, which is being processed.") | failures(*NOT_FOUND, 408, 413),
    )
    def post(self, request: Any) -> Any:
        """Create a batch. The gateway checks each request first, and the budgets hold the sum of their highest possible
        costs until the results are read; then each request is settled at batch prices. One account must serve all
        models of a batch. The batch belongs to the key that created it."""

    @operation(
        "list_message_batches",
        "List this key's batches",
        "message batches",
        *PAGE,
        responses=answer("MessageBatchPage", "A page of batches.") | failures(*LISTED),
    )
    def get(self, request: Any) -> Any:
        """List the batches as the provider last described them: the gateway asks about a running batch every minute in
        its first hour, and every ten minutes later."""


class BatchPage(BatchView):
    @operation(
        "get_message_batch",
        "Describe a batch",
        "message batches",
        NAME,
        *CALL_HEADERS,
        responses=answer("MessageBatch", "The batch.") | failures(*NOT_FOUND),
    )
    def get(self, request: Any, name: str) -> Any:
        """Describe a batch as the provider describes it now."""

    @operation(
        "delete_message_batch",
        "Delete a batch",
        "message batches",
        NAME,
        *CALL_HEADERS,
        responses=answer("DeletedMessageBatch", "The batch is deleted.") | failures(*NOT_FOUND),
    )
    def delete(self, request: Any, name: str) -> Any:
        """Delete a batch that has ended. The gateway settles its cost first."""


class CancelBatchPage(CancelBatchView):
    @operation(
        "cancel_message_batch",
        "Cancel requests that have not started",
        "message batches",
        NAME,
        *CALL_HEADERS,
        request=None,
        responses=answer("MessageBatch", "The batch, which is being cancelled.") | failures(*NOT_FOUND),
    )
    def post(self, request: Any, name: str) -> Any:
        """Cancel a batch. Requests that are finished by then are billed, and their results are available."""


class BatchResultsPage(BatchResultsView):
    @operation(
        "get_message_batch_results",
        "Read a batch's results",
        "message batches",
        NAME,
        *CALL_HEADERS,
        responses={
            (200, "application/x-jsonl"): OpenApiResponse(
                ref("BatchResult"),
                description="A line of JSON for each request, in any order.",
                examples=[OpenApiExample("Two", RESULT, media_type="application/x-jsonl", response_only=True)],
            )
        }
        | failures(*NOT_FOUND),
    )
    def get(self, request: Any, name: str) -> Any:
        """Read the results of a batch that has ended. They are available for 29 days."""


FILE_ID = OpenApiParameter("file_id", {"type": "string"}, OpenApiParameter.PATH, description="The file's id.")


class FilesPage(FilesView):
    @operation(
        "upload_file",
        "Upload a file",
        "files",
        *CALL_HEADERS,
        request={"multipart/form-data": ref("FileUpload")},
        responses=answer("File", "The file.") | failures(*NOT_FOUND, 408, 413),
    )
    def post(self, request: Any) -> Any:
        """Upload a file to the provider's account that stores the team's files. The gateway passes the bytes on while
        they arrive. The file belongs to the key's team, or to the key itself if it has no team."""

    @operation(
        "list_files",
        "List the team's files",
        "files",
        *PAGE,
        OpenApiParameter("page", {"type": "string"}, description="The `next_page` of the previous page."),
        OpenApiParameter(
            "ids[]",
            {"type": "array", "items": {"type": "string"}, "maxItems": 100},
            description="Returns only these files, in one page; unknown ids are skipped.",
        ),
        responses=answer("FilePage", "A page of files.") | failures(*LISTED),
    )
    def get(self, request: Any) -> Any:
        """List the files that the team uploaded through the gateway, and those that a model made for it."""


class FilePage(FileView):
    @operation(
        "get_file",
        "Describe a file",
        "files",
        FILE_ID,
        *CALL_HEADERS,
        responses=answer("File", "The file.") | failures(*NOT_FOUND),
    )
    def get(self, request: Any, file_id: str) -> Any:
        """Describe a file as the provider describes it."""

    @operation(
        "delete_file",
        "Delete a file",
        "files",
        FILE_ID,
        *CALL_HEADERS,
        responses=answer("DeletedFile", "The file is deleted.") | failures(*NOT_FOUND),
    )
    def delete(self, request: Any, file_id: str) -> Any:
        """Delete a file at the provider, for the whole team."""


class FileContentPage(FileContentView):
    @operation(
        "download_file",
        "Download a file",
        "files",
        FILE_ID,
        *CALL_HEADERS,
        responses={
            (200, "application/octet-stream"): OpenApiResponse(
                {"type": "string", "format": "binary"}, description="The contents, of any type."
            )
        }
        | failures(*NOT_FOUND),
    )
    def get(self, request: Any, file_id: str) -> Any:
        """Download a file that a model made. Providers don't return uploaded files."""


PATTERNS = [
    path("v1/messages/batches", BatchesPage.as_view()),
    path("v1/messages/batches/<str:name>", BatchPage.as_view()),
    path("v1/messages/batches/<str:name>/cancel", CancelBatchPage.as_view()),
    path("v1/messages/batches/<str:name>/results", BatchResultsPage.as_view()),
    path("v1/files", FilesPage.as_view()),
    path("v1/files/<str:file_id>", FilePage.as_view()),
    path("v1/files/<str:file_id>/content", FileContentPage.as_view()),
]
