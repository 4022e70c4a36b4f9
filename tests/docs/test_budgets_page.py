"""docs/budgets.md says what is so: its commands print what it shows, and its amounts are those that are held."""

from __future__ import annotations

import json
import re
import shlex
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from bench import holds
from keys.models import VirtualKey
from tests.keys.test_commands import run
from tests.support.batch_provider import BatchProvider
from tests.support.fake_provider import whole
from tests.support.gateway import ROOT, message, post, rows
from tests.support.issued import make_provider_key
from usage.models import Budget, Hold

PAGE = (ROOT / "docs" / "budgets.md").read_text()
SIZES = PAGE.partition("\n## How large a budget must be\n")[2].partition("\n## ")[0]
STEP = re.compile(r"^\$ manage\.py (.+)\n((?:[^$`].*\n|\$[0-9].*\n)*)", re.MULTILINE)
KEY = re.compile(r"sk-bf-[0-9A-Za-z]{49}")


def steps():
    """The commands of the page, in order, and what each prints."""
    blocks = re.findall(r"^```console\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [(shlex.split(command), printed) for block in blocks for command, printed in STEP.findall(block)]


@pytest.mark.django_db
def test_each_command_of_the_page_prints_what_it_shows(settings, tmp_path):
    settings.VAR_DIR = tmp_path
    make_provider_key()
    for arguments, printed in steps():
        out, _ = run(*arguments)
        assert KEY.sub("sk-bf-…", out) == printed, shlex.join(arguments)
    assert PAGE.count("\n$ manage.py ") == len(steps())
    assert VirtualKey.objects.get(name="nightly").max_tokens == 8000
    assert Budget.objects.filter(active=True).count() == 6


def test_the_table_of_the_page_is_what_its_command_prints():
    assert holds.table() in SIZES, f"run bench/holds.py and put its table there:\n{holds.table()}"


def test_the_amounts_around_the_table_follow_from_it():
    held = {kind.name: holds.Weighed(kind.body, holds.PRICES_OF).held for kind in holds.KINDS}
    late = held["the same, late in a long session"]
    less = holds.Weighed(json.dumps(holds.agent(holds.OPUS, 32_000, 500_000)).encode(), holds.PRICES_OF).held
    derived = {holds.dollars(amount) for amount in (5 * late, less)}
    derived |= {f"${times * late:.2f}" for times in (10, 20)}
    told = set(re.findall(r"\$[0-9]+\.[0-9]{2,3}\b", SIZES.replace(holds.table(), "")))
    assert told - set(re.findall(r"\$[0-9.]+", holds.table())) == derived


def test_a_call_has_the_hold_that_the_page_names(web, alice, upstream):
    upstream.answer = whole(200, message())
    now = datetime.now(UTC)
    expected = []
    for kind in holds.KINDS:
        if not kind.calls:
            assert post(web, alice.key, kind.body).status_code == 200
            expected.append(holds.Weighed(kind.body, now).held)
    assert [row.held for row in rows(len(expected))] == expected


def test_a_batch_has_the_hold_that_the_page_names(web, alice, upstream):
    kind = next(kind for kind in holds.KINDS if kind.calls)
    upstream.answer = BatchProvider()
    body = {"requests": [{"custom_id": f"q{n}", "params": kind.request} for n in range(10)]}
    # As the page's sizes do, without spaces: what is sent is what is reckoned.
    content = json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
    assert post(web, alice.key, content, "/v1/messages/batches").status_code == 200
    held = Hold.objects.get(process__isnull=True).ceiling
    assert held == 10 * holds.Weighed(kind.body, datetime.now(UTC), batched=True).held
    assert held > Decimal(0)
