"""An attempt of a call that failed, and an answer that was read already."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from messages_api.errors import GatewayError
from messages_api.metering import JsonMeter, Reading
from messages_api.routing import Target
from messages_api.upstream import Answer, Headers


@dataclass(slots=True)
class Kept:
    """An answer, or the beginning of one, that was read already.

    Attributes:
        meter: what it says, where all of it was read; `understood`, if it is a JSON object.
    """

    status: int
    headers: Headers
    parts: list[bytes]
    rest: Answer | None = None
    meter: JsonMeter | None = None
    understood: bool = False

    @property
    def body(self) -> bytes:
        """What was read and is not yet read again."""
        return b"".join(self.parts)

    async def read(self) -> bytes:
        if self.parts:
            return self.parts.pop(0)
        return await self.rest.read() if self.rest is not None else b""

    def close(self) -> None:
        if self.rest is not None:
            self.rest.close()


@dataclass(slots=True)
class Failure:
    """An attempt that another one may mend.

    Attributes:
        error: what the caller hears if none does, unless it is the provider's own `answer`.
        unseen_tokens: it may have cost something: the output tokens that it is reckoned to have come to. None: nothing.
        hopeless: the same place would fail again.
        unsure: the provider may be at it still.
        wait: seconds, as the provider says.
        ended: when, by the monotonic clock.
    """

    target: Target
    error_type: str
    error: GatewayError | None = None
    answer: Kept | None = None
    reading: Reading = field(default_factory=Reading)
    http_status: int | None = None
    provider_request_id: str = ""
    refused: bool = False
    hopeless: bool = False
    unseen_tokens: int | None = None
    unsure: bool = False
    wait: float | None = None
    ended: float = field(default_factory=time.monotonic)
