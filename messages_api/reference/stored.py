"""The schemas of what is stored at a provider, message batches and files, for the OpenAPI document."""

from __future__ import annotations

from messages_api.reference.shapes import Schema, array, boolean, const, enum, integer, obj, ref, string
from messages_api.request.batch_body import MOST_REQUESTS

WHEN = {"type": "string", "format": "date-time"}
MAYBE_WHEN = {"type": ["string", "null"], "format": "date-time"}
MAYBE_ID = {"type": ["string", "null"]}


def when(about: str, *, maybe: bool = False) -> Schema:
    """The schema of a time in RFC 3339."""
    return (MAYBE_WHEN if maybe else WHEN) | {"description": about}


def page_of(name: str, about: str, **more: Schema) -> Schema:
    """The schema of a page of a list."""
    return obj(
        about,
        "data has_more first_id last_id",
        data=array(ref(name), "The entries, the newest first."),
        has_more=boolean("Whether more entries follow in the direction of this page."),
        first_id=MAYBE_ID | {"description": "The id of the first entry: the `before_id` for the previous page."},
        last_id=MAYBE_ID | {"description": "The id of the last entry: the `after_id` for the next page."},
        **more,
    )


COUNTS = {
    "processing": "Requests that are not finished.",
    "succeeded": "Requests with an answer.",
    "errored": "Requests that failed.",
    "canceled": "Requests that were cancelled before they started.",
    "expired": "Requests that did not start in time.",
}

SCHEMAS: dict[str, Schema] = {
    "BatchRequest": obj(
        "One request of a batch.",
        "custom_id params",
        custom_id=string(
            "Identifies the result of the request; unique in the batch.", "question-1", minLength=1, maxLength=64
        ),
        params=ref("MessagesRequest", "The request for a message."),
    ),
    "BatchCreateRequest": obj(
        "A batch of requests for messages.",
        "requests",
        requests=array(ref("BatchRequest"), "The requests.", minItems=1, maxItems=MOST_REQUESTS),
    ),
    "MessageBatch": obj(
        "A batch as its provider describes it.",
        "id type processing_status request_counts created_at expires_at results_url",
        id=string("The batch's id.", "msgbatch_013Zva2CMHLNnXjNJJKqJ2EF"),
        type=const("message_batch"),
        processing_status=enum("The state of the batch.", "in_progress", "canceling", "ended"),
        request_counts=obj(
            "The number of requests in each state. The provider counts them when the whole batch has ended.",
            " ".join(COUNTS),
            **{name: integer(about, minimum=0) for name, about in COUNTS.items()},
        ),
        created_at=when("When the batch was created."),
        expires_at=when("When requests that have not started expire: 24 hours after the creation."),
        ended_at=when("When the batch ended.", maybe=True),
        cancel_initiated_at=when("When the batch was cancelled.", maybe=True),
        archived_at=when("When the provider removed the results.", maybe=True),
        results_url={
            "type": ["string", "null"],
            "description": "The address of the results at this gateway; null until the batch has ended.",
            "examples": ["http://127.0.0.1:8000/v1/messages/batches/msgbatch_013Zva2CMHLNnXjNJJKqJ2EF/results"],
        },
    ),
    "MessageBatchPage": page_of("MessageBatch", "A page of the key's batches."),
    "DeletedMessageBatch": obj(
        "A deleted batch.", "id type", id=string("The batch's id."), type=const("message_batch_deleted")
    ),
    "BatchResult": obj(
        "A line of a batch's results: the result of one request.",
        "custom_id result",
        custom_id=string("The `custom_id` of the request.", "question-1"),
        result=obj(
            "A `message` if the request succeeded, an `error` if it failed.",
            "type",
            type=enum("How the request ended.", "succeeded", "errored", "canceled", "expired"),
            message=ref("Message", "The answer to a request that succeeded."),
            error=ref("Error", "The error of a request that failed."),
        ),
    ),
    "File": obj(
        "A file as its provider describes it.",
        "id type filename mime_type size_bytes created_at",
        id=string("The file's id, for `file_id` in a source.", "file_011CNha8iCJcU1wXNR6q4V8w"),
        type=const("file"),
        filename=string("The file's name.", "report.pdf"),
        mime_type=string("The type of the contents.", "application/pdf"),
        size_bytes=integer("The size in bytes.", 48213, minimum=0),
        created_at=when("When the file was uploaded."),
        scope=obj(
            "What a file that a model made belongs to.",
            type=string("The kind of the owner.", "session"),
            id=string("The owner's id."),
        ),
        downloadable=boolean("Whether the contents can be downloaded: true only for files that a model made."),
        expires_at=when("When the provider deletes the file.", maybe=True),
    ),
    "FilePage": page_of(
        "File",
        "A page of the team's files.",
        next_page=MAYBE_ID | {"description": "The `page` for the next page, for clients that use this parameter."},
    ),
    "DeletedFile": obj("A deleted file.", "id type", id=string("The file's id."), type=const("file_deleted")),
    "FileUpload": obj(
        "A form.",
        "file",
        file=string("The file.", format="binary"),
        expires_in_seconds=integer(
            "Seconds after which the provider deletes the file.", minimum=3600, maximum=7_776_000
        ),
    ),
}
