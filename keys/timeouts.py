"""The timeouts of calls to a provider."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Timeouts in seconds. None stands for the deployment's setting.

    Attributes:
        connect: to connect.
        first_byte: from the end of a request to the head of its answer.
        between_bytes: between two pieces of the answer.
        total: for the whole call.
    """

    connect: float | None = None
    first_byte: float | None = None
    between_bytes: float | None = None
    total: float | None = None


DEPLOYMENTS = Timeouts()
