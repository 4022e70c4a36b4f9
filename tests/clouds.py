"""Provider keys of clouds, in front of fake ones."""

from __future__ import annotations

import json
from typing import Any

from keys import provider_keys
from tests.gateway import Caller, Web, issue
from tests.upstream import Seen


def issue_for(provider: str, secret: str, base_url: str, **terms: Any) -> Caller:
    """A virtual key that maps to a cloud's."""
    provider_key = provider_keys.add_provider_key(
        name=provider, provider=provider, base_url=base_url, secret=secret, **terms
    )
    return issue(None, provider_keys=[(provider_key, 1)])


def sent(seen: Seen) -> dict[str, Any]:
    """The body that a cloud got."""
    members: dict[str, Any] = json.loads(seen.body)
    return members


def says_nothing_of(web: Web, *secrets: str) -> None:
    """Check that none of these is in the log of the gateway."""
    log = web.log.read_text(errors="replace")
    assert not [secret[:4] for secret in secrets if secret in log]
