"""A provider's message batches, to test against: it keeps what it was sent, and answers when a test says so."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.support.fake_provider import Seen, Step, pieces, whole
from tests.support.gateway import MODEL

PATH = re.compile(r"/v1/messages/batches(?:/([A-Za-z0-9_-]+))?(/cancel|/results)?(?:\?.*)?")


class BatchProvider:
    """What `Upstream.answer` may be. Every request of a batch uses 100 input and 20 output tokens, unless
    `results` says otherwise for its custom id."""

    def __init__(self) -> None:
        self.batches: dict[str, dict[str, Any]] = {}
        self.requests: dict[str, list[dict[str, Any]]] = {}
        self.results: dict[str, dict[str, Any]] = {}
        self.headers: list[tuple[str, str]] = [("request-id", "req_batches")]
        self.read = 0
        # What is answered for results instead, by batch.
        self.instead: dict[str, list[Step]] = {}

    def __call__(self, seen: Seen) -> list[Step]:
        found = PATH.fullmatch(seen.target)
        if found is None:
            return self.error(404, "not_found_error")
        name, verb = found.groups()
        if name is None:
            return self.create(seen) if seen.method == "POST" else self.page()
        if name not in self.batches:
            return self.error(404, "not_found_error")
        if verb == "/results":
            return self.lines(name)
        batch = self.batches[name]
        if verb == "/cancel":
            batch |= {"processing_status": "canceling", "cancel_initiated_at": now()}
        if seen.method == "DELETE":
            if batch["processing_status"] != "ended":
                return self.error(400, "invalid_request_error")
            del self.batches[name]
            return self.answer({"id": name, "type": "message_batch_deleted"})
        return self.answer(batch)

    def create(self, seen: Seen) -> list[Step]:
        name = f"msgbatch_{len(self.requests) + 1:04}"
        self.requests[name] = json.loads(seen.body)["requests"]
        counts = {"processing": len(self.requests[name]), "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        self.batches[name] = {
            "id": name,
            "type": "message_batch",
            "processing_status": "in_progress",
            "request_counts": counts,
            "ended_at": None,
            "created_at": now(),
            "expires_at": now(hours=24),
            "archived_at": None,
            "cancel_initiated_at": None,
            "results_url": None,
        }
        return self.answer(self.batches[name])

    def end(self, name: str = "msgbatch_0001") -> None:
        """The batch has been processed."""
        self.batches[name] |= {
            "processing_status": "ended",
            "ended_at": now(),
            "results_url": f"https://api.anthropic.com/v1/messages/batches/{name}/results",
        }

    def lines(self, name: str) -> list[Step]:
        if self.batches[name]["processing_status"] != "ended":
            return self.error(404, "not_found_error")
        self.read += 1
        if name in self.instead:
            return self.instead[name]
        text = b"".join(self.line(request["custom_id"]) for request in self.requests[name])
        parts = [text[start : start + 1000] for start in range(0, len(text), 1000)]
        return pieces(200, parts, ("content-type", "application/x-jsonl"), *self.headers)

    def line(self, custom_id: str) -> bytes:
        result = self.results.get(custom_id) or {"type": "succeeded", "message": message()}
        return json.dumps({"custom_id": custom_id, "result": result}).encode() + b"\n"

    def page(self) -> list[Step]:
        names = list(reversed(self.batches))
        first, last = (names[0], names[-1]) if names else (None, None)
        return self.answer(
            {"data": [self.batches[name] for name in names], "has_more": False, "first_id": first, "last_id": last}
        )

    def answer(self, body: dict[str, Any]) -> list[Step]:
        return list(whole(200, json.dumps(body).encode(), *self.headers))

    def error(self, status: int, kind: str) -> list[Step]:
        body = {"type": "error", "error": {"type": kind, "message": "as the provider says"}, "request_id": "req_b"}
        return list(whole(status, json.dumps(body).encode(), *self.headers))


def message(input_tokens: int = 100, output_tokens: int = 20, **usage: Any) -> dict[str, Any]:
    """What a model answered within a batch."""
    return {
        "id": "msg_in_batch",
        "type": "message",
        "role": "assistant",
        "model": MODEL,
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": input_tokens, "output_tokens": output_tokens, "service_tier": "batch"} | usage,
    }


def now(**later: int) -> str:
    return (datetime.now(UTC) + timedelta(**later)).isoformat().replace("+00:00", "Z")
