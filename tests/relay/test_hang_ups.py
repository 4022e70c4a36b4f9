"""A client that disconnects while a provider's own tools work pays what they did: never less, nor more than is held."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

from tests.support.fake_provider import broken, pieces, whole
from tests.support.gateway import CLIENT, ask, credentials, event, events, message, post, rows, wait_until
from tests.support.searching import END, FEE, FOUND, INPUT, OUTPUT, PROMPT, RESULT, SEARCH, block, searching, started
from usage.models import Budget, Hold, Window


def hang_up(web, key, parts, **members):
    """Call, and hang up once these bytes have come."""
    body = ask(stream=True, max_tokens=2000, tools=[SEARCH]) | members
    expected = sum(map(len, parts))
    with CLIENT.stream("POST", web.url + "/v1/messages", json=body, headers=credentials(key)) as answer:
        if answer.status_code != 200:
            return False
        got, chunks = 0, answer.iter_raw()
        while got < expected:
            got += len(next(chunks))
    return True


TURN = {
    "role": "system",
    "content": [{"type": "tool_addition", "tool": {"type": "tool_definition", "definition": SEARCH}}],
}


def test_a_call_that_defines_its_search_in_a_turn_pays_alike(web, upstream, alice):
    parts, bill = searching(10)
    upstream.answer = [*pieces(200, parts)[:-1], threading.Event()]
    assert hang_up(web, alice.key, parts, tools=None, messages=[*ask()["messages"], TURN])
    (entry,) = rows(1)
    assert (entry.status, entry.estimated) == ("client_disconnected", True)
    assert bill[-1] <= entry.cost <= entry.held


def test_a_client_that_hangs_up_in_a_loop_of_searches_pays_what_was_done_within_what_was_held(web, upstream, alice):
    parts, bill = searching(10)
    points = [1, 2, 4, 6, 7, 12, 30, 31, 61, 63, len(parts)]
    held = set()
    for count, point in enumerate(points, 1):
        upstream.answer = [*pieces(200, parts[:point])[:-1], threading.Event()]
        assert hang_up(web, alice.key, parts[:point])
        entry = rows(count)[-1]
        assert (entry.status, entry.estimated) == ("client_disconnected", True)
        assert bill[point - 1] <= entry.cost <= entry.held, point
        held.add(entry.held)
    assert len(held) == 1
    # Who reads all of it pays the provider's report, to the last digit.
    total = {"input_tokens": 474_000, "output_tokens": 300, "server_tool_use": {"web_search_requests": 10}}
    upstream.answer = pieces(200, [*parts, event("message_delta", delta=END, usage=total), event("message_stop")])
    post(web, alice.key, ask(stream=True, max_tokens=2000, tools=[SEARCH]))
    entry = rows(len(points) + 1)[-1]
    assert (entry.estimated, entry.cost) == (False, 474_000 * INPUT + 300 * OUTPUT + 10 * FEE)


def test_an_honest_client_that_hangs_up_early_pays_for_what_was_done_only(web, upstream, alice):
    parts, bill = searching(1)
    upstream.answer = [*pieces(200, parts)[:-1], threading.Event()]
    assert hang_up(web, alice.key, parts)
    (entry,) = rows(1)
    assert entry.web_search_requests == 1
    assert bill[-1] <= entry.cost <= bill[-1] * Decimal("1.3")
    assert entry.cost < entry.held / 10


def test_a_provider_that_breaks_off_in_the_loop_is_reckoned_alike(web_once, upstream, alice):
    parts, bill = searching(3)
    upstream.answer = broken(parts)
    post(web_once, alice.key, ask(stream=True, max_tokens=2000, tools=[SEARCH]))
    (entry,) = rows(1)
    assert (entry.status, entry.estimated, entry.web_search_requests) == ("failed", True, 3)
    assert bill[-1] <= entry.cost <= entry.held


def test_a_hard_budget_is_never_passed_by_what_sixty_clients_that_hang_up_have_set_in_motion(web, upstream, alice):
    parts, bill = searching(10)
    amount = Decimal(9)
    Budget.objects.create(team=alice.team, amount=amount, period="month")
    upstream.answer = [*pieces(200, parts)[:-1], threading.Event()]
    with ThreadPoolExecutor(60) as pool:
        called = list(pool.map(lambda _: hang_up(web, alice.key, parts), range(60)))
    while hang_up(web, alice.key, parts):
        called.append(True)
        wait_until(lambda: not Hold.objects.exists())
    assert 2 <= sum(called) == len(upstream.seen)
    assert sum(called) * bill[-1] <= amount
    assert Window.objects.get().spent + Window.objects.get().held <= amount
    assert sum(entry.cost for entry in rows(sum(called))) == Window.objects.get().spent


def test_searches_that_an_answer_leaves_out_are_paid_by_who_hangs_up_too(web, upstream, alice):
    tools = [
        SEARCH | {"type": "web_search_20260318", "response_inclusion": "excluded"},
        {"type": "code_execution_20260521", "name": "code_execution"},
    ]
    use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "code_execution", "input": {}}
    text = block(1, {"type": "text", "text": ""}, *({"type": "text_delta", "text": "ab"} for _ in range(40)))
    # Before any code was run, there is nothing to leave out.
    for count, (parts, searches) in enumerate((([*started(), *text], 0), ([*started(), *block(0, use), *text], 10)), 1):
        upstream.answer = [*pieces(200, parts)[:-1], threading.Event()]
        assert hang_up(web, alice.key, parts, tools=tools)
        entry = rows(count)[-1]
        assert (entry.status, entry.estimated, entry.web_search_requests) == ("client_disconnected", True, searches)
        assert searches * FEE <= entry.cost <= entry.held


# Clients that don't read


def read_nothing(web, key, upstream, seconds, **members):
    """Call, take nothing of the answer for a while, and hang up."""
    content = json.dumps(ask(stream=True, max_tokens=2000) | members).encode()
    with socket.socket() as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        link.connect(web.address)
        lines = [f"{name}: {value}" for name, value in credentials(key).items()]
        head = "\r\n".join(["POST /v1/messages HTTP/1.1", "host: x", f"content-length: {len(content)}", *lines])
        link.sendall(head.encode() + b"\r\n\r\n" + content)
        wait_until(lambda: upstream.seen)
        time.sleep(seconds)


# More than there is room for on the way.
PADDING = [event("ping", padding="x" * 60_000)] * 300


def test_a_client_that_does_not_read_pays_for_what_may_have_been_written_meanwhile(web, upstream, alice):
    words = block(0, {"type": "text", "text": ""}, *({"type": "text_delta", "text": "ab"} for _ in range(600)))
    upstream.answer = [*pieces(200, [*started(), *PADDING, *words])[:-1], threading.Event()]
    read_nothing(web, alice.key, upstream, 4)
    (entry,) = rows(1)
    assert (entry.status, entry.estimated) == ("client_disconnected", True)
    assert 300 <= entry.output_tokens <= 2000


def test_a_client_that_does_not_read_pays_for_the_searches_that_may_have_been_made_meanwhile(web, upstream, alice):
    parts, _ = searching(10)
    upstream.answer = [*pieces(200, [parts[0], *PADDING, *parts[1:]])[:-1], threading.Event()]
    read_nothing(web, alice.key, upstream, 4, tools=[SEARCH])
    (entry,) = rows(1)
    assert (entry.status, entry.estimated) == ("client_disconnected", True)
    assert 3 <= entry.web_search_requests <= 10
    assert entry.cost <= entry.held


def test_a_client_that_reads_late_but_all_pays_what_is_reported(web, upstream, alice):
    upstream.answer = pieces(200, [*started(), *PADDING, *events("Hi")[1:]])
    body = ask(stream=True)
    with CLIENT.stream("POST", web.url + "/v1/messages", json=body, headers=credentials(alice.key)) as answer:
        time.sleep(2)
        answer.read()
    (entry,) = rows(1)
    assert (entry.status, entry.estimated, entry.output_tokens) == ("completed", False, 7)


# Answers in one piece


def test_an_answer_in_one_piece_is_read_to_its_end_without_the_client(web, upstream, alice):
    usage = {"input_tokens": 120_000, "output_tokens": 300, "server_tool_use": {"web_search_requests": 5}}
    answers, done = whole(200, message(usage=usage)), threading.Event()
    upstream.answer = [done, *answers]
    leave(web, alice.key, upstream)
    assert Hold.objects.exists()
    done.set()
    (entry,) = rows(1)
    assert (entry.status, entry.estimated, entry.http_status) == ("client_disconnected", False, 200)
    assert entry.cost == 120_000 * INPUT + 300 * OUTPUT + 5 * FEE
    assert not upstream.last.gone.is_set()


def test_a_stream_that_comes_in_one_piece_is_read_to_its_end_without_the_client(web, upstream, alice):
    usage = {"input_tokens": 120_000, "output_tokens": 300, "server_tool_use": {"web_search_requests": 5}}
    pieces_of_it = whole(200, message(usage=usage))
    head_of_it, _, rest = b"".join(pieces_of_it).partition(b"\r\n\r\n")
    cases: tuple[list[bytes], ...] = ([], [head_of_it + b"\r\n\r\n"])
    for count, before in enumerate(cases, 1):
        done = threading.Event()
        upstream.answer = [*before, done, rest] if before else [done, *pieces_of_it]
        leave(web, alice.key, upstream, stream=True)
        assert Hold.objects.exists()
        done.set()
        entry = rows(count)[-1]
        assert (entry.status, entry.estimated, entry.http_status) == ("client_disconnected", False, 200)
        assert entry.cost == 120_000 * INPUT + 300 * OUTPUT + 5 * FEE
        assert not upstream.last.gone.is_set()


def test_a_stream_that_has_not_begun_is_closed_once_it_has(web, upstream, alice):
    parts, bill = searching(2)
    begun, unused = pieces(200, parts), threading.Event()
    for count, before in enumerate((0, 1), 1):
        done = threading.Event()
        upstream.answer = [*begun[:before], done, *begun[before:2], unused, *begun[2:]]
        leave(web, alice.key, upstream, stream=True)
        assert Hold.objects.exists()
        done.set()
        entry = rows(count)[-1]
        assert (entry.status, entry.estimated, entry.web_search_requests) == ("client_disconnected", True, 0)
        assert bill[0] <= entry.cost < entry.held / 10
        assert upstream.last.gone.wait(30)


def test_a_stream_that_has_not_begun_and_is_not_read_on_is_charged_for_all_that_may_be_under_way(
    served, start_web, upstream, alice
):
    web = start_web(read_on_calls=1, read_on_seconds=2)
    head_of_it = pieces(200, [])[0]
    for count, before in enumerate(([], [head_of_it]), 1):
        upstream.answer = [*before, threading.Event()]
        leave(web, alice.key, upstream, stream=True)
        entry = rows(count)[-1]
        assert (entry.status, entry.estimated, entry.web_search_requests) == ("client_disconnected", True, 10)
        assert entry.held * Decimal("0.8") < entry.cost <= entry.held
        assert upstream.last.gone.wait(30)


def test_an_answer_that_is_not_read_on_is_charged_for_all_uses_that_may_be_under_way(
    served, start_web, upstream, alice
):
    upstream.answer = [threading.Event()]
    web = start_web(read_on_calls=1, read_on_seconds=1)  # of its own, for it is closed
    for _ in range(2):
        leave(web, alice.key, upstream)
    for entry in rows(2):
        assert (entry.status, entry.estimated, entry.web_search_requests) == ("client_disconnected", True, 10)
        assert entry.held * Decimal("0.8") < entry.cost <= entry.held
    # Nothing that the provider runs: what it may have written in the time, as ever.
    leave(web, alice.key, upstream, tools=[])
    assert rows(3)[-1].cost < Decimal("0.05")
    # One that a stop ends has its row, too.
    leave(web, alice.key, upstream)
    web.close()
    assert rows(4)[-1].status == "client_disconnected"


def test_what_answers_in_one_piece_without_counts_is_reckoned_by_its_blocks(web, upstream, alice):
    use = {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "how much"}}
    found = {"type": "web_search_tool_result", "tool_use_id": use["id"], "content": [FOUND]}
    content = [use, found, {"type": "text", "text": "word " * 900}]
    upstream.answer = whole(200, message(content=content, usage={"input_tokens": PROMPT}))
    post(web, alice.key, ask(max_tokens=2000, tools=[SEARCH]))
    (entry,) = rows(1)
    assert (entry.status, entry.estimated, entry.web_search_requests) == ("completed", True, 1)
    assert entry.input_tokens >= 2 * PROMPT + RESULT
    assert entry.output_tokens >= 900


def leave(web, key, upstream, **members):
    """Call, and hang up while the provider works, until the gateway has noticed: it closes its side, too."""
    body, before = ask(stream=False, max_tokens=2000, tools=[SEARCH]) | members, len(upstream.seen)
    content = json.dumps(body).encode()
    with socket.create_connection(web.address) as link:
        lines = [f"{name}: {value}" for name, value in credentials(key).items()]
        head = "\r\n".join(["POST /v1/messages HTTP/1.1", "host: x", f"content-length: {len(content)}", *lines])
        link.sendall(head.encode() + b"\r\n\r\n" + content)
        wait_until(lambda: len(upstream.seen) > before)
        link.shutdown(socket.SHUT_WR)
        link.settimeout(60)
        with contextlib.suppress(ConnectionResetError):
            while link.recv(1 << 16):
                pass
