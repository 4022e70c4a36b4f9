"""The shapes of what lives at a provider, message batches and files, for the OpenAPI document."""

from __future__ import annotations

from messages_api.batch_body import MOST_REQUESTS
from messages_api.reference.shapes import Schema, array, boolean, const, enum, integer, obj, ref, string

WHEN = {"type": "string", "format": "date-time"}
MAYBE_WHEN = {"type": ["string", "null"], "format": "date-time"}
MAYBE_ID = {"type": ["string", "null"]}


def when(about: str, *, maybe: bool = False) -> Schema:
    """A moment, as RFC 3339 has it."""
    return (MAYBE_WHEN if maybe else WHEN) | {"description": about}


def page_of(name: str, about: str, **more: Schema) -> Schema:
    """A page of a list."""
    return obj(
        about,
        "data has_more first_id last_id",
        data=array(ref(name), "Newest first."),
        has_more=boolean("Whether more follow in this direction."),
        first_id=MAYBE_ID | {"description": "The first one's id: `before_id` of the page before."},
        last_id=MAYBE_ID | {"description": "The last one's id: `after_id` of the page that follows."},
        **more,
    )


COUNTS = {
    "processing": "Requests that are not done yet.",
    "succeeded": "Requests that were answered.",
    "errored": "Requests that failed.",
    "canceled": "Requests that were cancelled before they began.",
    "expired": "Requests that did not begin in time.",
}

SCHEMAS: dict[str, Schema] = {
    "BatchRequest": obj(
        "One request of a batch.",
        "custom_id params",
        custom_id=string("By which its result is known; each is used once.", "question-1", minLength=1, maxLength=64),
        params=ref("MessagesRequest", "The request for a message."),
    ),
    "BatchCreateRequest": obj(
        "A batch of requests for messages.",
        "requests",
        requests=array(ref("BatchRequest"), "What to ask.", minItems=1, maxItems=MOST_REQUESTS),
    ),
    "MessageBatch": obj(
        "A batch as its provider describes it.",
        "id type processing_status request_counts created_at expires_at results_url",
        id=string("Its id.", "msgbatch_013Zva2CMHLNnXjNJJKqJ2EF"),
        type=const("message_batch"),
        processing_status=enum("How far it is.", "in_progress", "canceling", "ended"),
        request_counts=obj(
            "How many of its requests are how far; they are counted when all of it has ended.",
            " ".join(COUNTS),
            **{name: integer(about, minimum=0) for name, about in COUNTS.items()},
        ),
        created_at=when("When it was made."),
        expires_at=when("When what has not begun by then expires: 24 hours later."),
        ended_at=when("When it ended.", maybe=True),
        cancel_initiated_at=when("When it was cancelled.", maybe=True),
        archived_at=when("When its results were taken away.", maybe=True),
        results_url={
            "type": ["string", "null"],
            "description": "Where its results are, once it has ended: at this gateway.",
            "examples": ["http://127.0.0.1:8000/v1/messages/batches/msgbatch_013Zva2CMHLNnXjNJJKqJ2EF/results"],
        },
    ),
    "MessageBatchPage": page_of("MessageBatch", "A page of the key's batches."),
    "DeletedMessageBatch": obj(
        "A batch that is no more.", "id type", id=string("Its id."), type=const("message_batch_deleted")
    ),
    "BatchResult": obj(
        "A line of a batch's results: what one request came to.",
        "custom_id result",
        custom_id=string("Whose it is.", "question-1"),
        result=obj(
            "A `message` if it succeeded, an `error` if it didn't.",
            "type",
            type=enum("How it ended.", "succeeded", "errored", "canceled", "expired"),
            message=ref("Message", "The answer, of one that succeeded."),
            error=ref("Error", "The error, of one that failed."),
        ),
    ),
    "File": obj(
        "A file as its provider describes it.",
        "id type filename mime_type size_bytes created_at",
        id=string("Its id, for `file_id` in a source.", "file_011CNha8iCJcU1wXNR6q4V8w"),
        type=const("file"),
        filename=string("Its name.", "report.pdf"),
        mime_type=string("What it is.", "application/pdf"),
        size_bytes=integer("How large it is.", 48213, minimum=0),
        created_at=when("When it was uploaded."),
        scope=obj(
            "What it belongs to, of a file that a model made.", type=string("Of what.", "session"), id=string("Its id.")
        ),
        downloadable=boolean("Whether its content can be had: of those that a model made only."),
        expires_at=when("When it goes by itself.", maybe=True),
    ),
    "FilePage": page_of(
        "File",
        "A page of the team's files.",
        next_page=MAYBE_ID | {"description": "`page` of the page that follows, for clients that turn pages so."},
    ),
    "DeletedFile": obj("A file that is no more.", "id type", id=string("Its id."), type=const("file_deleted")),
    "FileUpload": obj(
        "A form.",
        "file",
        file=string("The file.", format="binary"),
        expires_in_seconds=integer("Seconds after which it goes by itself.", minimum=3600, maximum=7_776_000),
    ),
}
