"""What the OpenAPI document says of message batches and files."""

from __future__ import annotations

from typing import Any

from django.urls import path
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, OpenApiResponse, extend_schema

from messages_api.batches_view import BatchesView, BatchResultsView, BatchView, CancelBatchView
from messages_api.files_view import FileContentView, FilesView, FileView
from messages_api.reference.parts import ANSWER_HEADERS, CALL_HEADERS, QUESTION, SECURITY, failures
from messages_api.reference.shapes import ref

PAGE = [
    OpenApiParameter(
        "limit", {"type": "integer", "minimum": 1, "maximum": 1000, "default": 20}, description="How many at most."
    ),
    OpenApiParameter("after_id", {"type": "string"}, description="The page after this one."),
    OpenApiParameter("before_id", {"type": "string"}, description="The page before this one."),
]
NAME = OpenApiParameter("name", {"type": "string"}, OpenApiParameter.PATH, description="Its id.")
NOT_FOUND = (400, 401, 403, 404, 405, 429, 500, 502, 503, 504, 529)
PARAMS = {"model": "claude-opus-5-5", "max_tokens": 1024, "messages": [QUESTION]}
BATCH = {"requests": [{"custom_id": "question-1", "params": PARAMS}, {"custom_id": "question-2", "params": PARAMS}]}
RESULT = (
    '{"custom_id":"question-1","result":{"type":"succeeded","message":{"id":"msg_1","type":"message",'
    '"role":"assistant","model":"claude-opus-5-5","content":[{"type":"text","text":"Hello!"}],'
    '"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":12,"output_tokens":6,'
    '"service_tier":"batch"}}}}\n{"custom_id":"question-2","result":{"type":"expired"}}\n'
)


def answer(name: str, about: str) -> dict[Any, OpenApiResponse]:
    """What comes back if nothing goes wrong."""
    return {(200, "application/json"): OpenApiResponse(ref(name), description=about)}


class BatchesPage(BatchesView):
    """What is said of /v1/messages/batches."""

    @extend_schema(
        operation_id="create_message_batch",
        summary="Ask many things at half the price",
        tags=["message batches"],
        request={"application/json": ref("BatchCreateRequest")},
        parameters=[*CALL_HEADERS, *ANSWER_HEADERS],
        auth=SECURITY,
        examples=[OpenApiExample("Two questions", BATCH, request_only=True)],
        responses=answer("MessageBatch", "The batch, which is being processed.") | failures(*NOT_FOUND, 408, 413),
    )
    def post(self, request: Any) -> Any:
        """Every request is checked first, and the sum of what they may cost is held until the results are read; then
        each is settled, at batch prices. All models of a batch must be served by one account. The batch belongs to the
        key that made it."""

    @extend_schema(
        operation_id="list_message_batches",
        summary="List this key's batches",
        tags=["message batches"],
        parameters=[*PAGE, *ANSWER_HEADERS],
        auth=SECURITY,
        responses=answer("MessageBatchPage", "A page of them.") | failures(400, 401, 403, 405, 429, 500, 503, 529),
    )
    def get(self, request: Any) -> Any:
        """As the provider described them last: those that run are asked for every minute in their first hour, later
        every ten."""


class BatchPage(BatchView):
    """What is said of /v1/messages/batches/{name}."""

    @extend_schema(
        operation_id="get_message_batch",
        summary="Describe a batch",
        tags=["message batches"],
        parameters=[NAME, *CALL_HEADERS, *ANSWER_HEADERS],
        auth=SECURITY,
        responses=answer("MessageBatch", "The batch.") | failures(*NOT_FOUND),
    )
    def get(self, request: Any, name: str) -> Any:
        """As the provider describes it now."""

    @extend_schema(
        operation_id="delete_message_batch",
        summary="Delete a batch",
        tags=["message batches"],
        parameters=[NAME, *CALL_HEADERS, *ANSWER_HEADERS],
        auth=SECURITY,
        responses=answer("DeletedMessageBatch", "It is gone.") | failures(*NOT_FOUND),
    )
    def delete(self, request: Any, name: str) -> Any:
        """Once it has ended. What it cost is settled before."""


class CancelBatchPage(CancelBatchView):
    """What is said of POST /v1/messages/batches/{name}/cancel."""

    @extend_schema(
        operation_id="cancel_message_batch",
        summary="Cancel what has not begun",
        tags=["message batches"],
        request=None,
        parameters=[NAME, *CALL_HEADERS, *ANSWER_HEADERS],
        auth=SECURITY,
        responses=answer("MessageBatch", "The batch, which is being cancelled.") | failures(*NOT_FOUND),
    )
    def post(self, request: Any, name: str) -> Any:
        """What was done by then is paid for, and among the results."""


class BatchResultsPage(BatchResultsView):
    """What is said of GET /v1/messages/batches/{name}/results."""

    @extend_schema(
        operation_id="get_message_batch_results",
        summary="Read a batch's results",
        tags=["message batches"],
        parameters=[NAME, *CALL_HEADERS, *ANSWER_HEADERS],
        auth=SECURITY,
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
        """Once it has ended, for 29 days."""


FILE_ID = OpenApiParameter("file_id", {"type": "string"}, OpenApiParameter.PATH, description="Its id.")


class FilesPage(FilesView):
    """What is said of /v1/files."""

    @extend_schema(
        operation_id="upload_file",
        summary="Upload a file",
        tags=["files"],
        request={"multipart/form-data": ref("FileUpload")},
        parameters=[*CALL_HEADERS, *ANSWER_HEADERS],
        auth=SECURITY,
        responses=answer("File", "The file.") | failures(*NOT_FOUND, 408, 413),
    )
    def post(self, request: Any) -> Any:
        """It passes through as it comes, to the provider's account that keeps the team's files, and belongs to the team
        of the key; to the key itself where that has none."""

    @extend_schema(
        operation_id="list_files",
        summary="List the team's files",
        tags=["files"],
        parameters=[
            *PAGE,
            OpenApiParameter("page", {"type": "string"}, description="`next_page` of the page before this one."),
            OpenApiParameter(
                "ids[]",
                {"type": "array", "items": {"type": "string"}, "maxItems": 100},
                description="These only, in one page; those that there aren't are left out.",
            ),
            *ANSWER_HEADERS,
        ],
        auth=SECURITY,
        responses=answer("FilePage", "A page of them.") | failures(400, 401, 403, 405, 429, 500, 503, 529),
    )
    def get(self, request: Any) -> Any:
        """Those that were uploaded through the gateway, and those that a model made for the team."""


class FilePage(FileView):
    """What is said of /v1/files/{file_id}."""

    @extend_schema(
        operation_id="get_file",
        summary="Describe a file",
        tags=["files"],
        parameters=[FILE_ID, *CALL_HEADERS, *ANSWER_HEADERS],
        auth=SECURITY,
        responses=answer("File", "The file.") | failures(*NOT_FOUND),
    )
    def get(self, request: Any, file_id: str) -> Any:
        """As the provider describes it."""

    @extend_schema(
        operation_id="delete_file",
        summary="Delete a file",
        tags=["files"],
        parameters=[FILE_ID, *CALL_HEADERS, *ANSWER_HEADERS],
        auth=SECURITY,
        responses=answer("DeletedFile", "It is gone.") | failures(*NOT_FOUND),
    )
    def delete(self, request: Any, file_id: str) -> Any:
        """At the provider, for everybody."""


class FileContentPage(FileContentView):
    """What is said of GET /v1/files/{file_id}/content."""

    @extend_schema(
        operation_id="download_file",
        summary="Download a file",
        tags=["files"],
        parameters=[FILE_ID, *CALL_HEADERS, *ANSWER_HEADERS],
        auth=SECURITY,
        responses={
            (200, "application/octet-stream"): OpenApiResponse(
                {"type": "string", "format": "binary"}, description="Its bytes, of whatever type they are."
            )
        }
        | failures(*NOT_FOUND),
    )
    def get(self, request: Any, file_id: str) -> Any:
        """Of files that a model made; providers don't hand out what was uploaded."""


PATTERNS = [
    path("v1/messages/batches", BatchesPage.as_view()),
    path("v1/messages/batches/<str:name>", BatchPage.as_view()),
    path("v1/messages/batches/<str:name>/cancel", CancelBatchPage.as_view()),
    path("v1/messages/batches/<str:name>/results", BatchResultsPage.as_view()),
    path("v1/files", FilesPage.as_view()),
    path("v1/files/<str:file_id>", FilePage.as_view()),
    path("v1/files/<str:file_id>/content", FileContentPage.as_view()),
]
