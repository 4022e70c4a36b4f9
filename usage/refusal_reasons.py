"""Why calls are refused: the codes in the log, with a sentence for administrators."""

from __future__ import annotations

SENTENCES = {
    "A budget has too little left": ("budget",),
    "A limit is reached: too many calls or tokens at a time": ("limit", "body_limit"),
    "No credential was sent": ("no_credential",),
    "The credential is mistyped": ("mistyped",),
    "The credential is not one of this gateway's": (
        "foreign_credential",
        "unknown_key",
        "passed_through",
        "passed_key_refused",
        "no_passthrough",
    ),
    "The credential was revoked": ("revoked", "cut"),
    "The credential has expired": ("expired",),
    "The key, its team, its customer or the gateway is paused": ("paused",),
    "The key may not use this model": ("model_not_allowed",),
    "No provider key of this virtual key serves this model": ("unknown_model",),
    "The model has no price": ("unpriced_model",),
    "max_tokens is above the ceiling": ("max_tokens",),
    "The request is malformed": (
        "invalid_request",
        "method",
        "content_type",
        "query",
        "compressed",
        "not_translatable",
    ),
    "The request is too large": ("too_large",),
    "The request did not arrive in time": ("stalled",),
    "There is no such endpoint": (
        "no_endpoint",
        "no_endpoint_there",
        "no_batches",
        "no_file_provider",
    ),
    "The request names something that is not there or not this key's": (
        "unknown_batch",
        "unknown_container",
        "unknown_file",
        "unknown_signature",
        "lost_batch",
        "lost_container",
        "lost_file",
        "lost_signature",
        "file_out_of_reach",
        "contradictory_bindings",
    ),
    "The gateway could not reach its database in time": ("database_away", "no_hold", "stale"),
    "The gateway was overloaded": ("overloaded", "body_memory"),
    "The gateway was being restarted": ("stopping",),
    "The gateway failed": ("internal", "batch_reader", "body_reader"),
    "The provider limits the rate": ("provider_limit",),
    "The provider failed or did not answer": (
        "provider_unreachable",
        "provider_timeout",
        "provider_broke_off",
        "provider_failing",
        "provider_status",
        "files_undescribed",
        "batch_unsettled",
    ),
    "The provider refuses the gateway's own key or account": ("provider_account",),
}

SENTENCE_OF = {code: sentence for sentence, codes in SENTENCES.items() for code in codes}


def sentence(code: str) -> str:
    """The reason as a sentence; the code itself if this version doesn't know it."""
    return SENTENCE_OF.get(code, code)
