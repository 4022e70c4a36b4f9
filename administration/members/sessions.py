"""Sessions at /my/: a virtual key opens one, and it ends with the key.

The browser gets a cookie of its own, which says nothing of the key. The session's row on the server has the id of the
credential. Whether that still works is asked for each page.
"""

from __future__ import annotations

from datetime import timedelta
from importlib import import_module
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from keys import credentials, sign_in
from keys.audit import notes
from keys.models import VirtualKey
from usage import bars
from usage.bars import Judged

LASTS = timedelta(hours=1)
CREDENTIAL = "credential"

MISTYPED = "This is not a whole virtual key: it is mistyped or cut off."
FOREIGN = "This is not a virtual key of this gateway: those begin with sk-bf-."
UNKNOWN = "This virtual key was never issued, or was deleted."
REVOKED = "This virtual key was revoked."
EXPIRED = "This virtual key has expired."
REPLACED = "This secret was replaced: the virtual key was rotated. Ask for the new one."


class WrongKey(Exception):
    """A text that opens no session. Its words are for the person, and contain no part of the text."""


def _store(key: str | None = None) -> Any:
    return import_module(settings.SESSION_ENGINE).SessionStore(key)


def open_with(secret: str, address: str) -> Any:
    """Open a session with a virtual key or gateway token.

    Raises:
        WrongKey: it doesn't work.
        sign_in.Refused: it doesn't work, and this network has sent too many that don't; or it has opened too many
            sessions.
    """
    found = bars.of_secret(secret) if credentials.is_intact(secret) else None
    if found is None or found.end:
        sign_in.count_failure("virtual key", address)
        raise WrongKey(fault(secret) if found is None else ended(found))
    sign_in.count_key_session(found.credential)
    notes.note("signed in", VirtualKey._meta.db_table, str(found.virtual_key))
    session = _store()
    session[CREDENTIAL] = found.credential
    session.set_expiry(LASTS)
    session.create()
    return session


def fault(secret: str) -> str:
    """What is wrong with a text that is no credential."""
    if not credentials.is_ours(secret):
        return FOREIGN
    return UNKNOWN if credentials.is_intact(secret) else MISTYPED


def ended(found: Judged) -> str:
    """Why a credential doesn't work any more. The key itself may: a rotation ends its older secrets."""
    if found.end == "revoked":
        return REVOKED
    return EXPIRED if VirtualKey.objects.get(pk=found.virtual_key).state == "expired" else REPLACED


def send(response: HttpResponse, session: Any) -> None:
    """Have the browser keep a session's cookie. It ends with the browser, and on the server after `LASTS`."""
    response.set_cookie(
        settings.MEMBER_COOKIE_NAME,
        session.session_key,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def of(request: HttpRequest) -> Judged | None:
    """The credential of a request's session, as it is now. A session whose credential has ended is deleted.

    Returns None without a session. `Judged.end` of the answer says why a session has ended.
    """
    cookie = request.COOKIES.get(settings.MEMBER_COOKIE_NAME)
    if not cookie:
        return None
    session = _store(cookie)
    credential = session.get(CREDENTIAL)
    if not isinstance(credential, int):
        return None
    found = bars.of_credential(credential)
    if found is None or found.end:
        session.delete()
    return found


def close(request: HttpRequest, response: HttpResponse) -> None:
    """End a request's session, on the server and in the browser."""
    cookie = request.COOKIES.get(settings.MEMBER_COOKIE_NAME)
    if cookie:
        session = _store(cookie)
        if CREDENTIAL in session:
            session.delete()
    response.delete_cookie(settings.MEMBER_COOKIE_NAME, samesite="Lax")
