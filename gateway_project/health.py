"""What a load balancer or an orchestrator asks a web process: `/healthz` and `/health/live` (it answers), and
`/health/ready` (it can do its work, and isn't about to stop).

`/health/ready` is about calls, or about pages where the process serves no calls; `?role=` asks about another role.
"""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qs

from django.conf import settings

from gateway_project import draining
from usage import readiness

PATHS = ("/healthz", "/health/live", "/health/ready")
Answer = tuple[int, bytes, list[tuple[bytes, bytes]]]

_kept = readiness.Kept()


async def answer(scope: Any) -> Answer:
    """The status, body and headers of an answer."""
    if scope["path"] == "/healthz":
        return 200, b"ok\n", [(b"content-type", b"text/plain")]
    if scope["path"] == "/health/live":
        return _json(200, {"status": "live"})
    role = parse_qs(scope["query_string"].decode("latin-1")).get("role", [_own_role()])[-1]
    if role not in readiness.ROLES:
        return _json(400, {"status": "unknown role", "roles": list(readiness.ROLES)})
    if draining.begun:
        return _json(503, {"status": "draining", "role": role, "checks": []})
    found = await _kept.ask(role)
    return _json(200 if found.ready else 503, found.as_json())


def _own_role() -> str:
    return "api" if "api" in settings.CONFIGURATION.roles else "admin"


def _json(status: int, body: dict[str, Any]) -> Answer:
    headers = [(b"content-type", b"application/json"), (b"cache-control", b"no-store")]
    return status, json.dumps(body, indent=1).encode() + b"\n", headers
