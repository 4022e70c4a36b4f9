"""Whose fault it is that a call went wrong: ours, the caller's or the provider's.

A call that its client ended is the caller's. One that the provider refused is the caller's if it was about the request,
ours if it was about our key or account, and the provider's otherwise. One that failed is the provider's, unless we or
the caller ended it.
"""

from __future__ import annotations

# HTTP statuses and types of errors by which a provider refuses a request, and our key or account.
# https://platform.claude.com/docs/en/api/errors (November 2026); batches have only the types.
ABOUT_THE_REQUEST = (400, 404, 405, 409, 411, 413, 414, 415, 422)
ABOUT_OUR_ACCOUNT = (401, 402, 403)
REQUEST_ERRORS = ("invalid_request_error", "not_found_error", "request_too_large")
ACCOUNT_ERRORS = ("authentication_error", "permission_error", "billing_error")
# `error_type` of calls that failed, where it isn't the provider's doing.
OUR_FAILURES = ("internal", "stopping", "no_hold", "database_away", "never_made", "overloaded", "body_reader")
CALLERS_FAILURES = ("canceled", "cut", "revoked", "not_translatable", "invalid_request", "too_large")


def _quoted(values: tuple[object, ...]) -> str:
    return ", ".join(f"'{each}'" if isinstance(each, str) else str(each) for each in values)


def whose(row: str) -> str:
    """Whose fault, as SQL over a row of the ledger: `ours`, `callers`, `theirs`; null: the call was answered."""
    return f"""CASE {row}.status
    WHEN 'interrupted' THEN 'ours'
    WHEN 'client_disconnected' THEN 'callers'
    WHEN 'refused_by_provider' THEN CASE
        WHEN {row}.http_status IN ({_quoted(ABOUT_THE_REQUEST)}) THEN 'callers'
        WHEN {row}.http_status IN ({_quoted(ABOUT_OUR_ACCOUNT)}) THEN 'ours'
        WHEN {row}.http_status IS NULL AND {row}.error_type IN ({_quoted(REQUEST_ERRORS)}) THEN 'callers'
        WHEN {row}.http_status IS NULL AND {row}.error_type IN ({_quoted(ACCOUNT_ERRORS)}) THEN 'ours'
        ELSE 'theirs' END
    WHEN 'failed' THEN CASE
        WHEN {row}.error_type IN ({_quoted(OUR_FAILURES)}) THEN 'ours'
        WHEN {row}.error_type IN ({_quoted(CALLERS_FAILURES)}) THEN 'callers'
        ELSE 'theirs' END
    END"""
