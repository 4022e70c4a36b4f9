"""Verifies the audit log: events against seals, seals against each other, and both against the file of seals."""

from __future__ import annotations

from collections.abc import Callable

from keys.audit import canonical, seal_file
from keys.audit.models import AuditEvent, AuditSeal
from keys.audit.seals import START, digest

LEAF_BYTES = 32

Progress = Callable[[int, AuditSeal], None]


class DoesNotFit(Exception):
    """The first event or seal that isn't as it was sealed; the message names it."""


def verify(progress: Progress) -> int:
    """Check all sealed events, a seal at a time; how many there are.

    Args:
        progress: called after each seal, with the number of events checked so far.

    Raises:
        DoesNotFit: something was changed, deleted, inserted or reordered.
    """
    filed = seal_file.read()
    if 0 in filed:
        raise DoesNotFit(f"{seal_file.path()} has a line that is no seal: {filed[0]['line'][:80]!r}")
    before, events, checked = START, 0, 0
    first = 0
    number = 0
    for number, seal in enumerate(AuditSeal.objects.order_by("number").iterator(10), 1):
        if seal.number != number:
            raise DoesNotFit(f"seal {number} is missing, before {_said(seal)}")
        # Events first, for a message that names the event.
        events += _check_events(seal, first)
        leaves = bytes(seal.leaves)
        parts = [leaves[at : at + LEAF_BYTES] for at in range(0, len(leaves), LEAF_BYTES)]
        if seal.digest != digest(before, number, seal.made_at, seal.last_event, parts):
            raise DoesNotFit(f"{_said(seal)} doesn't continue the chain: it, or a seal before it, was changed")
        if number in filed and filed[number].get("digest") != seal.digest:
            raise DoesNotFit(f"{_said(seal)} isn't the one in {seal_file.path()}: the seals were computed again")
        if number not in filed and any(each > number for each in filed):
            raise DoesNotFit(f"{_said(seal)} is missing in {seal_file.path()}, which has later ones")
        before, first = seal.digest, seal.last_event
        checked = events
        progress(checked, seal)
    missing = [each for each in sorted(filed) if each > number]
    if missing:
        raise DoesNotFit(
            f"seal {missing[0]} of {str(filed[missing[0]].get('made_at'))[:10]} is missing in the database, and is in "
            f"{seal_file.path()}"
        )
    return checked


def _check_events(seal: AuditSeal, after: int) -> int:
    """Compare the events of a seal with their digests.

    Raises:
        DoesNotFit: one was changed, deleted or inserted.
    """
    sealed = bytes(seal.leaves)
    events = AuditEvent.objects.filter(id__gt=after, id__lte=seal.last_event).order_by("id")
    rows = list(events.values_list(*canonical.COLUMNS)[: seal.events + 1])
    for place, row in enumerate(rows):
        wanted = sealed[place * LEAF_BYTES : (place + 1) * LEAF_BYTES]
        if canonical.leaf(row) != wanted:
            raise DoesNotFit(
                f"event {row[0]} of {row[canonical.AT]:%Y-%m-%d %H:%M:%S} UTC isn't the one in {_said(seal)}: it was "
                "changed or inserted, or one just before it was deleted"
            )
    if len(rows) != seal.events:
        last = f"after event {rows[-1][0]}" if rows else f"after event {after}"
        raise DoesNotFit(f"{_said(seal)} has {seal.events} events, but the log has {len(rows)}: deleted {last}")
    return len(rows)


def _said(seal: AuditSeal) -> str:
    return f"seal {seal.number} of {seal.made_at:%Y-%m-%d}"
