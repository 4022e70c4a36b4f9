"""Guessing passwords is slow across all processes, and logged; it locks no user out from elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, ClassVar

import httpx
import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.utils import timezone

from keys import sign_in
from keys.models import SignInCount
from keys.tasks import forget_sign_ins
from tests.support.gateway import Web

PASSWORD, WRONG = "correct-horse-battery", "wrong-horse-battery"


@pytest.fixture
def alice(served: None) -> Iterator[User]:
    user = User.objects.create_superuser("alice", password=PASSWORD)
    yield user
    while Visitor.open:
        Visitor.open.pop().close()


@pytest.fixture
def behind_proxy(served: None, start_web: Callable[..., Web]) -> Web:
    """Two processes behind a proxy, which is this test."""
    return start_web(2, trusted_proxies="127.0.0.1")


class Visitor:
    """A browser at the page to sign in."""

    open: ClassVar[list[httpx.Client]] = []

    def __init__(self, web: Web, address: str = "") -> None:
        headers = {"x-forwarded-for": address} if address else {}
        self.http = httpx.Client(base_url=web.url, trust_env=False, headers=headers, timeout=60)
        self.open.append(self.http)
        self.http.get("/admin/login/")

    def post(self, path: str, **fields: str) -> httpx.Response:
        return self.http.post(path, data={"csrfmiddlewaretoken": self.http.cookies["csrftoken"], **fields})

    def sign_in(self, password: str, user: str = "alice") -> int:
        return self.post("/admin/login/", username=user, password=password).status_code

    def guess(self) -> httpx.Response:
        return self.post("/admin/login/", username="alice", password=WRONG)


@pytest.mark.usefixtures("alice")
def test_of_twenty_guesses_at_once_twenty_count_over_all_processes(behind_proxy: Web) -> None:
    before = behind_proxy.log.stat().st_size
    visitors = [Visitor(behind_proxy, "198.51.100.1") for _ in range(20)]
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(Visitor.guess, visitors))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] * sign_in.PAIR.failures + [429] * (20 - sign_in.PAIR.failures)
    assert all(0 < int(answer.headers["retry-after"]) <= 60 for answer in answers if answer.status_code == 429)
    log = behind_proxy.log.read_bytes()[before:].decode()
    assert log.count("user 'alice' from 198.51.100.1") == 20
    assert WRONG not in log
    # The right password doesn't help there now, and does from elsewhere.
    assert Visitor(behind_proxy, "198.51.100.1").sign_in(PASSWORD) == 429
    assert Visitor(behind_proxy, "203.0.113.9").sign_in(PASSWORD) == 302


@pytest.mark.usefixtures("alice")
def test_a_right_password_within_the_allowance_takes_the_failures_back(web: Web) -> None:
    before = web.log.stat().st_size
    for _ in range(2):
        for _ in range(sign_in.PAIR.failures - 1):
            assert Visitor(web).sign_in(WRONG) == 200
        assert Visitor(web).sign_in(PASSWORD) == 302
    assert "sign-in succeeded: user 'alice' from 127.0.0.1" in web.log.read_bytes()[before:].decode()


@pytest.mark.usefixtures("alice")
def test_neither_unknown_names_nor_made_up_headers_get_more_tries(web: Web) -> None:
    for user in ("mallory", "alice"):
        statuses = [Visitor(web, f"198.51.100.{at}").sign_in(WRONG, user) for at in range(sign_in.PAIR.failures + 1)]
        assert statuses == [200] * sign_in.PAIR.failures + [429]


@pytest.mark.usefixtures("alice")
def test_names_are_logged_bounded_and_on_one_line(web: Web) -> None:
    before = web.log.stat().st_size
    Visitor(web).sign_in(WRONG, "eve\u2028\x1b[31m" + "x" * 150)
    (line,) = [line for line in web.log.read_bytes()[before:].decode().splitlines() if "sign-in" in line]
    assert "user 'eve\\u2028\\x1b[31m" + "x" * (sign_in.NAME_LENGTH - 9) + "' from" in line


def test_the_page_to_change_a_password_counts_too(web: Web, alice: User) -> None:
    visitor = Visitor(web)
    assert visitor.sign_in(PASSWORD) == 302
    new = {"new_password1": PASSWORD + "-2", "new_password2": PASSWORD + "-2"}
    for expected in [200] * sign_in.PAIR.failures + [429]:
        assert visitor.post("/admin/password_change/", old_password=WRONG, **new).status_code == expected
    SignInCount.objects.all().delete()
    assert visitor.post("/admin/password_change/", old_password=PASSWORD, **new).status_code == 302
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD + "-2")


def fail(user: str, address: str) -> None:
    with pytest.raises(ValidationError), sign_in.counted(user, address):
        raise ValidationError("wrong")


def succeed(user: str, address: str) -> None:
    with sign_in.counted(user, address):
        pass


@pytest.mark.django_db
def test_many_networks_together_have_an_allowance_that_does_not_bind_who_is_known() -> None:
    succeed("alice", "192.0.2.1")
    for number in range(sign_in.USER.failures):
        fail("alice", f"198.51.{number}.1")
    with pytest.raises(sign_in.Refused):
        succeed("alice", "203.0.113.9")
    succeed("alice", "192.0.2.1")
    succeed("bob", "203.0.113.9")


@pytest.mark.django_db
def test_one_network_has_an_allowance_for_all_names_that_does_not_bind_who_is_known() -> None:
    succeed("alice", "2001:db8::1")
    for number in range(sign_in.NETWORK.failures):
        fail(f"user-{number}", f"2001:db8::{number:x}")
    for _ in range(50):
        with pytest.raises(sign_in.Refused):
            succeed("bob", "2001:db8::ffff")
    rows = SignInCount.objects.count()
    with pytest.raises(sign_in.Refused):
        succeed("a-name-that-is-made-up", "2001:db8::1")
    assert SignInCount.objects.count() == rows
    succeed("alice", "2001:db8::1")
    succeed("bob", "2001:db8:0:1::1")


@pytest.mark.django_db
def test_a_try_that_found_the_process_busy_is_no_failure() -> None:
    for _ in range(2 * sign_in.PAIR.failures):
        with pytest.raises(sign_in.Busy), sign_in.counted("alice", "192.0.2.1"):
            raise sign_in.Busy(1)
    succeed("alice", "192.0.2.1")


def test_one_password_is_looked_at_at_a_time_and_few_wait() -> None:
    gate = sign_in.Gate(at_once=1, waiting=1, seconds=60)
    inside, leave, waits = threading.Event(), threading.Event(), threading.Event()
    seen = list[Any]()

    def first() -> None:
        with gate.entered():
            inside.set()
            leave.wait()
            seen.append("first")

    def second() -> None:
        waits.set()
        with gate.entered():
            seen.append("second")

    with ThreadPoolExecutor(2) as pool:
        pool.submit(first)
        inside.wait()
        pool.submit(second)
        waits.wait()
        while gate.places.acquire(blocking=False):  # until the second one has its place
            gate.places.release()
        with pytest.raises(sign_in.Busy), gate.entered():
            seen.append("third")
        assert seen == []
        leave.set()
    assert seen == ["first", "second"]


@pytest.mark.django_db
def test_old_counts_are_swept() -> None:
    now = timezone.now()
    for subject, ago, succeeded in (
        ("recent", -1, None),
        ("over", 1, None),
        ("known", 1, now - timedelta(days=80)),
        ("left", 1, now - timedelta(days=91)),
    ):
        forgotten_at = now - timedelta(hours=ago)
        SignInCount.objects.create(subject=subject, forgotten_at=forgotten_at, succeeded_at=succeeded)
    forget_sign_ins()
    assert set(SignInCount.objects.values_list("subject", flat=True)) == {"recent", "known"}
