"""Two accounts at a provider, and what their answers bind."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from keys import provider_keys
from keys.models import ProviderKey, VirtualKeyRoute
from tests.support.fake_provider import Upstream, pieces, whole
from tests.support.gateway import (
    PROVIDER_SECRET,
    Caller,
    Web,
    ask,
    event,
    events,
    issue,
    message,
    post,
    wait_until,
)

FAVOURITE = 1_000_000


class Made:
    """What an account makes in a test: web processes remember what others made."""

    container = file = signature = sealed = ""

    def anew(self) -> None:
        self.container, self.file = f"container_{secrets.token_hex(12)}", f"file_{secrets.token_hex(12)}"
        self.signature, self.sealed = (f"EuMD/+{secrets.token_hex(200)}==" for _ in range(2))


made = Made()


@pytest.fixture(autouse=True)
def _made_anew() -> None:
    made.anew()


@dataclass
class Account:
    """An account with a provider, and the provider key for it."""

    name: str
    upstream: Upstream
    provider_key: ProviderKey

    @property
    def ids(self) -> tuple[str, str]:
        return f"org-{self.name}", f"wrkspc-{self.name}"

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        organization, workspace = self.ids
        return ("anthropic-organization-id", organization), ("anthropic-workspace-id", workspace)

    def answers(self, body: bytes) -> None:
        self.upstream.answer = whole(200, body, *self.headers)

    def streams(self, *parts: bytes) -> None:
        self.upstream.answer = pieces(200, parts, *self.headers)


@pytest.fixture
def second_upstream() -> Iterator[Upstream]:
    with Upstream() as upstream:
        yield upstream


def account(name: str, upstream: Upstream) -> Account:
    secret = PROVIDER_SECRET + name
    key = provider_keys.add_provider_key(name=name, provider="anthropic", base_url=upstream.url, secret=secret)
    new = Account(name, upstream, key)
    new.answers(message())
    return new


@pytest.fixture
def here(served: None, upstream: Upstream) -> Account:
    return account("here", upstream)


@pytest.fixture
def there(served: None, second_upstream: Upstream) -> Account:
    return account("there", second_upstream)


@pytest.fixture
def alice(here: Account, there: Account) -> Caller:
    """Alice's key leads to both accounts."""
    return issue(here.upstream, provider_keys=[(here.provider_key, 1), (there.provider_key, 1)])


def prefer(caller: Caller, account: Account) -> None:
    """What is bound to nothing goes to this account from now on."""
    routes = VirtualKeyRoute.objects.filter(virtual_key=caller.virtual_key)
    routes.update(weight=1)
    routes.filter(provider_key=account.provider_key).update(weight=FAVOURITE)


def leave_out(caller: Caller, account: Account) -> None:
    """The key no longer leads to this account."""
    VirtualKeyRoute.objects.filter(virtual_key=caller.virtual_key, provider_key=account.provider_key).delete()


def goes_to(web: Web, caller: Caller, body: dict[str, Any] | bytes, path: str = "/v1/messages") -> str:
    """Call; the secret of the provider key that was used tells whose account answered."""
    answer = post(web, caller.key, body, path)
    assert answer.status_code == 200, answer.text
    seen = max((each for upstream in Upstreams for each in upstream.seen), key=lambda each: each.arrived)
    return seen.values("x-api-key")[0].removeprefix(PROVIDER_SECRET)


Upstreams: list[Upstream] = []


@pytest.fixture(autouse=True)
def _upstreams(request: pytest.FixtureRequest) -> None:
    if "here" in request.fixturenames:
        Upstreams[:] = [request.getfixturevalue("upstream"), request.getfixturevalue("second_upstream")]


# What answers bind, in JSON and in events


def container(hours: float = 1, name: str = "") -> dict[str, str]:
    return {
        "id": name or made.container,
        "expires_at": (datetime.now(UTC) + timedelta(hours=hours)).isoformat().replace("+00:00", "Z"),
    }


def made_file(*name: Any) -> dict[str, Any]:
    """The result of a tool that made a file, of another name if there is one."""
    output = {"type": "bash_code_execution_output", "file_id": name[0] if name else made.file}
    result = {"type": "bash_code_execution_result", "stdout": "", "stderr": "", "return_code": 0, "content": [output]}
    return {"type": "bash_code_execution_tool_result", "tool_use_id": "srvtoolu_1", "content": result}


def thinking(signature: str = "") -> dict[str, Any]:
    return {"type": "thinking", "thinking": "Hm.", "signature": signature or made.signature}


def redacted() -> dict[str, Any]:
    return {"type": "redacted_thinking", "data": made.sealed}


def stream_of(*blocks: dict[str, Any], **first: Any) -> list[bytes]:
    """The events of an answer with these blocks; `first` are members of the message in message_start."""
    start, *_, delta, stop = events("x")
    body = json.loads(start.split(b"data: ")[1])["message"] | first
    parts = [event("message_start", message=body)]
    for index, block in enumerate(blocks):
        begun = block | {"thinking": "", "signature": ""} if block["type"] == "thinking" else block
        parts.append(event("content_block_start", index=index, content_block=begun))
        if block["type"] == "thinking":
            for delta_type, member in (("thinking_delta", "thinking"), ("signature_delta", "signature")):
                part = {"type": delta_type, member: block[member]}
                parts.append(event("content_block_delta", index=index, delta=part))
        parts.append(event("content_block_stop", index=index))
    return [*parts, delta, stop]


def late_container(**container: str) -> list[bytes]:
    """A stream that names its container at the end, as Anthropic's do."""
    *parts, _, stop = events("x")
    delta = {"stop_reason": "end_turn", "stop_sequence": None, "container": container}
    return [*parts, event("message_delta", delta=delta, usage={"output_tokens": 7}), stop]


def binds(account: Account, kind: str, *, streamed: bool) -> None:
    """Let the account's next answers bind something of this kind."""
    blocks = {"file": made_file(), "signature": thinking(), "sealed": redacted()}
    if kind == "container":
        if streamed:
            account.streams(*late_container(**container()))
        else:
            account.answers(message(container=container()))
    elif streamed:
        account.streams(*stream_of(blocks[kind]))
    else:
        account.answers(message(content=[blocks[kind]]))


def carrying(kind: str, **members: Any) -> dict[str, Any]:
    """A request that carries it."""
    if kind == "container":
        return ask(container=made.container, **members)
    block = {
        "file": {"type": "container_upload", "file_id": made.file},
        "signature": thinking(),
        "sealed": redacted(),
    }[kind]
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": [block]}]
    if kind == "file":
        turns = [{"role": "user", "content": [block]}]
    return ask(messages=turns, **members)


KINDS = ["container", "file", "signature", "sealed"]


def made_by_alice(web: Web, alice: Caller, there: Account) -> None:
    """Alice's team has a container and a file, there."""
    there.answers(message(container=container(), content=[made_file()]))
    prefer(alice, there)
    goes_to(web, alice, ask())
    there.answers(message())


def learn_accounts(web: Web, caller: Caller, *accounts: Account) -> None:
    """Call each, and wait until the gateway knows what they are."""
    for each in accounts:
        prefer(caller, each)
        goes_to(web, caller, ask())
    for each in accounts:
        wait_until(ProviderKey.objects.filter(pk=each.provider_key.pk).exclude(organization_id="").exists)
