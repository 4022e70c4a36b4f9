"""An organisation that reports, read without waiting."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.reported import READ_AT, Organisation, moment, organisation


@pytest.fixture
def acme(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Organisation]:
    """An organisation at Anthropic, in the time after its month."""
    monkeypatch.setattr("reconciliation.pacing.time.sleep", lambda seconds: None)
    with organisation() as found:
        moment(monkeypatch, READ_AT)
        yield found


@pytest.fixture
def acme_openai(db: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Organisation]:
    """An organisation at OpenAI."""
    monkeypatch.setattr("reconciliation.pacing.time.sleep", lambda seconds: None)
    with organisation("openai") as found:
        moment(monkeypatch, READ_AT)
        yield found
