"""A person's sessions: the list of them, and their ends."""

from __future__ import annotations

from typing import Any

from allauth.usersessions.internal.flows.sessions import end_sessions
from allauth.usersessions.models import UserSession
from django.http import HttpRequest

from keys.audit import notes

# How programs are called, and what their `User-Agent` has. The first that fits counts: most name several others too.
PROGRAMS = {"Edge": "Edg", "Opera": "OPR/", "Firefox": "Firefox/", "Chrome": "Chrome/", "Safari": "Safari/"}
SYSTEMS = {
    **{"Android": "Android", "an iPhone": "iPhone", "an iPad": "iPad"},
    **{"Windows": "Windows", "macOS": "Mac OS X", "Linux": "Linux"},
}

# The key of the session's row, in the session.
RECORDED = "recorded_as"


def program(user_agent: str) -> str:
    """The browser and system in words, as `Chrome on Linux`; the beginning of an unknown `User-Agent`."""
    browser = next((name for name, mark in PROGRAMS.items() if mark in user_agent), "")
    system = next((name for name, mark in SYSTEMS.items() if mark in user_agent), "")
    if browser and system:
        return f"{browser} on {system}"
    return user_agent[:60] or "An unknown program"


def record(request: HttpRequest) -> None:
    """Have the session of a request in the table, under its present key."""
    key, recorded = request.session.session_key, request.session.get(RECORDED)
    if key and key == recorded:
        return
    UserSession.objects.filter(session_key=recorded, user_id=request.user.pk).delete()
    UserSession.objects.create_from_request(request)
    request.session[RECORDED] = request.session.session_key


def of(request: HttpRequest) -> list[UserSession]:
    """The open sessions of the person, the newest first. The one of this request is among them."""
    record(request)
    found = UserSession.objects.purge_and_list(request.user)
    return sorted(found, key=lambda session: session.created_at, reverse=True)


def end(request: HttpRequest, sessions: list[UserSession]) -> None:
    """End sessions of the person."""
    for session in sessions:
        note(session)
    end_sessions(request, sessions)


def end_others(request: HttpRequest) -> int:
    """End all sessions of the person except this one, and return how many there were."""
    others = [session for session in of(request) if not session.is_current()]
    end(request, others)
    return len(others)


def end_all_of(user: Any) -> None:
    """End all sessions of a person, whose sign-in has changed."""
    for session in UserSession.objects.filter(user=user):
        note(session)
        session.end()


def note(session: UserSession) -> None:
    """Note in the audit log that a session ends."""
    notes.note("session ended", notes.USERS, str(session.user_id), began=session.created_at, address=session.ip)
