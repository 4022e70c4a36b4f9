"""Reads which kind of credential a request has, and whether it is intact, without a look-up or query.

Anthropic's clients send one in `x-api-key` or as `Authorization: Bearer` (SDK 2), sometimes in both; `x-bf-vk` is the
gateway's own, for callers whose client uses the other two for something else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.conf import settings
from rest_framework.authentication import BaseAuthentication

from keys import credentials
from keys.client_address import client_address
from messages_api.callers import passed_keys
from messages_api.server.errors import unauthenticated

HEADERS = frozenset((b"authorization", b"x-api-key", b"x-bf-vk"))
# The most credentials of a request that are looked up. Clients send one or two, and each look-up is a query.
MOST = 3
ADVICE = "Send a virtual key (sk-bf-…) as x-api-key, as Authorization: Bearer, or as x-bf-vk."


@dataclass(frozen=True, slots=True)
class Presented:
    """The credentials of a request: the gateway's own, intact, in order; or a provider's own key, to be passed through,
    and the client's address.
    """

    secrets: tuple[str, ...] = field(repr=False)
    provider_secret: str = field(default="", repr=False)
    address: str = ""

    @property
    def hint(self) -> str:
        """The ends of the credential, by which support finds it; empty for a provider's own key."""
        return "…".join(credentials.ends(self.secrets[0])) if self.secrets else ""


def present(headers: list[tuple[bytes, bytes]], address: Callable[[], str] = str) -> Presented:
    """The credentials in the headers of a request; of many, the first few.

    Args:
        address: returns the client's address. It is called only for a provider's own key, which needs it.

    Raises:
        GatewayError: 401, the request has no credential, or no possible one of this gateway.
    """
    values: dict[str, None] = {}
    for name, value in headers:
        text = credential(value) if name in HEADERS else ""
        if name == b"authorization" and not (value[:7].lower() == b"bearer " or credentials.is_ours(text)):
            text = ""
        if text:
            values[text] = None
            if len(values) == MOST:
                break
    intact = tuple(text for text in values if credentials.is_intact(text))
    if intact:
        return Presented(intact)
    if not values:
        raise unauthenticated(f"No credential was sent. {ADVICE}", reason="no_credential")
    if any(credentials.is_ours(text) for text in values):
        raise unauthenticated(
            "The credential is mistyped or cut off: its checksum doesn't match. It was never looked up.",
            reason="mistyped",
        )
    foreign = next(iter(values))
    if settings.CONFIGURATION.passthrough_customer and passed_keys.looks_like_one(foreign):
        return Presented((), foreign, address())
    raise unauthenticated(f"The credential is not one of this gateway's. {ADVICE}", reason="foreign_credential")


def credential(value: bytes) -> str:
    """A header's credential. People also write `Bearer` into `x-api-key`, or leave it out of `Authorization`."""
    text = value.strip().decode("latin-1")
    return text[7:].strip() if text[:7].lower() == "bearer " else text


class CredentialAuthentication(BaseAuthentication):
    """DRF's authentication step: it sets `request.auth` to a `Presented`. `Caller.of` finds the key that it opens, and
    the arbiter decides whether that key may call.
    """

    def authenticate(self, request: Any) -> tuple[None, Presented]:
        scope = request.scope
        return None, present(scope["headers"], partial(client_address, scope))

    def authenticate_header(self, request: Any) -> str:
        return "Bearer"
