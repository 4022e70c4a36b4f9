"""How long a provider may take."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds to connect, from the end of a request to the head of its answer, between two pieces of that, and for a
    call in all. None: as the deployment says."""

    connect: float | None = None
    first_byte: float | None = None
    between_bytes: float | None = None
    total: float | None = None


DEPLOYMENTS = Timeouts()
