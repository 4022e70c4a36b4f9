"""A batch of 256 MB on its way through the gateway, and small calls beside it."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from messages_api.models import Batch
from tests.support.batch_provider import now
from tests.support.fake_provider import whole
from tests.support.gateway import ask, issue, talk

pytestmark = pytest.mark.slow

SIZE = 256 * 1024 * 1024
# Small calls, one after the other, from a process of their own: the seconds that each took.
PROBE = """
import json, sys, time, httpx
url, key, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
body = {"model": "claude-opus-5-5", "max_tokens": 64, "messages": [{"role": "user", "content": "Hello"}]}
took, until = [], time.monotonic() + seconds
with httpx.Client(trust_env=False) as client:
    while time.monotonic() < until:
        began = time.monotonic()
        answer = client.post(url, json=body, headers={"x-api-key": key}, timeout=30)
        assert answer.status_code == 200, answer.text
        took.append(time.monotonic() - began)
json.dump(took, sys.stdout)
"""


def probe(web, key, seconds):
    return subprocess.Popen(
        [sys.executable, "-c", PROBE, f"{web.url}/v1/messages", key, str(seconds)], stdout=subprocess.PIPE
    )


def told(process):
    took = sorted(json.loads(process.communicate(timeout=120)[0]))
    median, p99, longest = (each * 1000 for each in (statistics.median(took), took[len(took) * 99 // 100], took[-1]))
    return f"{len(took)} calls, median {median:.1f} ms, p99 {p99:.1f} ms, longest {longest:.1f} ms"


def memory(web):
    [process] = web.processes
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    [most] = [line.split()[1] for line in lines if line.startswith("VmHWM")]
    return f"{int(most) // 1024} MB at most"


def test_a_batch_of_256_mb_stalls_no_other_call(web, upstream, alice):
    echo = issue(None, "bob")
    made = {
        "id": "msgbatch_large",
        "type": "message_batch",
        "processing_status": "in_progress",
        "request_counts": {"processing": 1},
        "created_at": now(),
        "ended_at": None,
        "results_url": None,
    }
    upstream.answer = whole(200, json.dumps(made).encode())
    one = json.dumps(ask("words and more of them " * 1000))
    count = (SIZE - 200) // (len(one) + 50)
    requests = (f'{{"custom_id":"request-{at:06}","params":{one}}}' for at in range(count))
    body = f'{{"requests":[{",".join(requests)}]}}'.encode()
    head = (
        "POST /v1/messages/batches HTTP/1.1",
        "Host: x",
        f"x-api-key: {alice.key}",
        f"Content-Length: {len(body)}",
        "\r\n",
    )
    print(f"alone: {told(probe(web, echo.key, 5))}; {memory(web)}")
    beside = probe(web, echo.key, 15)
    time.sleep(1)
    began = time.monotonic()
    status, _, answer = talk(web, "\r\n".join(head).encode() + body, seconds=120)
    took = time.monotonic() - began
    assert (status, json.loads(answer)) == (200, made)
    assert upstream.last.body == body
    size = f"{len(body) / 1e6:.0f} MB in {count} requests"
    print(f"beside {size}, which took {took:.1f} s: {told(beside)}; {memory(web)}")
    assert Batch.objects.get().requests == count
