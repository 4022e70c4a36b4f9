"""Why calls are refused: the codes in the log, with a sentence for administrators.

The sentences are in English; the catalogues in usage/locale translate them.
"""

from __future__ import annotations

from django.utils.translation import gettext, gettext_noop

SENTENCES = {
    gettext_noop("A budget has too little left"): ("budget",),
    gettext_noop("A limit is reached: too many calls or tokens at a time"): ("limit", "body_limit"),
    gettext_noop("No credential was sent"): ("no_credential",),
    gettext_noop("The credential is mistyped"): ("mistyped",),
    gettext_noop("The credential is not one of this gateway's"): (
        "foreign_credential",
        "unknown_key",
        "guesses",
        "passed_through",
        "passed_key_refused",
        "no_passthrough",
    ),
    gettext_noop("The credential was revoked"): ("revoked", "cut"),
    gettext_noop("The credential has expired"): ("expired",),
    gettext_noop("The key, its team, its customer or the gateway is paused"): ("paused",),
    gettext_noop("The key may not use this model"): ("model_not_allowed",),
    gettext_noop("No provider key of this virtual key serves this model"): ("unknown_model",),
    gettext_noop("The model has no price"): ("unpriced_model",),
    gettext_noop("max_tokens is above the ceiling"): ("max_tokens",),
    gettext_noop("The request is malformed"): (
        "invalid_request",
        "method",
        "content_type",
        "query",
        "compressed",
        "not_translatable",
    ),
    gettext_noop("The request is too large"): ("too_large",),
    gettext_noop("The request did not arrive in time"): ("stalled",),
    gettext_noop("There is no such endpoint"): (
        "no_endpoint",
        "no_endpoint_there",
        "no_batches",
        "no_file_provider",
    ),
    gettext_noop("The request names something that is not there or not this key's"): (
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
    gettext_noop("The gateway could not reach its database in time"): ("database_away", "no_hold", "stale"),
    gettext_noop("The gateway was overloaded"): ("overloaded", "body_memory"),
    gettext_noop("The gateway was being restarted"): ("stopping",),
    gettext_noop("The gateway failed"): ("internal", "batch_reader", "body_reader"),
    gettext_noop("The provider limits the rate"): ("provider_limit",),
    gettext_noop("The provider failed or did not answer"): (
        "provider_unreachable",
        "provider_timeout",
        "provider_broke_off",
        "provider_failing",
        "provider_status",
        "files_undescribed",
        "batch_unsettled",
    ),
    gettext_noop("The provider refuses the gateway's own key or account"): ("provider_account",),
}

SENTENCE_OF = {code: sentence for sentence, codes in SENTENCES.items() for code in codes}


def sentence(code: str) -> str:
    """The reason in the active language; the code itself if this version doesn't know it."""
    known = SENTENCE_OF.get(code)
    return gettext(known) if known else code
