"""A new master key, while calls are made and on machines that have copies of the file."""

from __future__ import annotations

import threading

import pytest
from django.conf import settings

from keys import keyring, provider_keys, secret_files
from keys.errors import Unusable
from keys.models import ProviderKey
from tests.support.fake_provider import whole
from tests.support.gateway import PROVIDER_SECRET, message, post

pytestmark = pytest.mark.usefixtures("kept_master_keys")


@pytest.fixture
def kept_master_keys(served):
    """The master keys of the other tests come back afterwards."""
    before = keyring.lines("master_keys")
    yield
    secret_files.write(settings.VAR_DIR / "secrets" / "master_keys", [*before, *keyring.lines("master_keys")])


def test_no_call_fails_while_the_master_key_is_rotated(alice, web, upstream):
    upstream.answer = whole(200, message())
    seen: list[int] = []
    ended = threading.Event()

    def call_on():
        while not ended.is_set():
            seen.append(post(web, alice.key).status_code)

    callers = [threading.Thread(target=call_on) for _ in range(3)]
    for caller in callers:
        caller.start()
    try:
        for _ in range(3):
            provider_keys.rotate_master_key()
            before = len(seen)
            while len(seen) < before + 6:
                ended.wait(0.01)
        provider_keys.forget_older_master_keys()
        before = len(seen)
        while len(seen) < before + 6:
            ended.wait(0.01)
    finally:
        ended.set()
        for caller in callers:
            caller.join()
    assert set(seen) == {200}
    assert len(keyring.lines("master_keys")) == 1
    # The provider got the same secret all the time.
    assert {value for each in upstream.seen for value in each.values("x-api-key")} == {PROVIDER_SECRET}


def test_a_prepared_key_is_known_to_every_machine_before_anything_is_encrypted_under_it(alice):
    row = ProviderKey.objects.get()
    old = keyring.lines("master_keys")[0]
    with pytest.raises(Unusable, match="--prepare first"):
        keyring_of_one_key(old)
    provider_keys.prepare_master_key()
    first, *_, prepared = keyring.lines("master_keys")
    assert (first, prepared == old) == (old, False)
    provider_keys.use_prepared_master_key()
    assert keyring.lines("master_keys")[0] == prepared
    row.refresh_from_db()
    with keyring.newest_alone():
        assert keyring.decrypt(row.secret_ciphertext) == PROVIDER_SECRET


def keyring_of_one_key(line):
    secret_files.write(settings.VAR_DIR / "secrets" / "master_keys", [line])
    provider_keys.use_prepared_master_key()


def test_an_older_key_that_is_still_needed_is_not_forgotten(alice):
    keyring.add_master_key()
    before = keyring.lines("master_keys")
    with pytest.raises(Unusable, match="no longer in the list"):
        provider_keys.forget_older_master_keys()
    assert keyring.lines("master_keys") == before
