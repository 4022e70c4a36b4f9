"""The arbiter without web processes: its SQL functions, asked directly, with a clock that the test sets."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import psycopg

from keys.models import Credential, VirtualKey
from tests.support.gateway import admin_connection
from tests.support.ledger_rows import Cast, make_cast
from usage.admission import ASK
from usage.arbitration import Admission, Settlement, Verdict
from usage.request_ids import new_id

# The clock is the tables', not a version's (usage/functions.py).
REAL_TIME = "CREATE OR REPLACE FUNCTION public.usage_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT {}'"

TOTALS = """
SELECT w.budget_id, w.start, w.spent, w.held,
    coalesce((SELECT sum(c.amount) FROM usage_ledgerentry e, unnest(e.charges) c
        WHERE c.budget = w.budget_id AND c.start = w.start), 0)
    + coalesce((SELECT sum(CASE WHEN c.tokens THEN a.input_tokens + a.output_tokens + a.cache_read_input_tokens
            + a.cache_creation_5m_input_tokens + a.cache_creation_1h_input_tokens ELSE coalesce(a.charge, a.cost) END)
        FROM usage_adjustment a JOIN usage_ledgerentry e ON e.id = a.entry_id, unnest(e.charges) c
        WHERE c.budget = w.budget_id AND c.start = w.start), 0),
    coalesce((SELECT sum(c.amount) FROM usage_hold h, unnest(h.charges) c
        WHERE c.budget = w.budget_id AND c.start = w.start), 0)
    + coalesce((SELECT sum(c.amount) FROM usage_retained r, unnest(r.charges) c
        WHERE c.budget = w.budget_id AND c.start = w.start), 0)
FROM usage_window w ORDER BY 1, 2
"""


@dataclass
class Arbiter:
    """One process's way to the arbiter, a group at a time."""

    link: psycopg.Connection[Any]
    process: UUID = field(default_factory=new_id)
    fence: int = 0
    clock: datetime | None = None

    def start(self) -> None:
        """Register as a process would."""
        self.process, self.fence = new_id(), 1
        self.link.execute("INSERT INTO usage_process (id, host, pid) VALUES (%s, 'test', 1)", [self.process])
        self.link.execute("INSERT INTO usage_writer (process, fence, groups) VALUES (%s, 1, 0)", [self.process])

    def one(self, query: str, *values: object) -> Any:
        """The only value of a query."""
        found = self.link.execute(query, values).fetchone()
        assert found is not None
        return found[0]

    def set_clock(self, moment: datetime | None) -> None:
        """Set the arbiter's clock to this moment, for admissions and counts; None: the real time."""
        self.clock = moment
        now = f"timestamptz ''{moment.isoformat()}''" if moment else "clock_timestamp()"
        self.link.execute(REAL_TIME.format(now))

    def ask(self, key: VirtualKey, ceiling: object = "0.25", **changes: Any) -> Admission:
        """A call of this key that may cost this much."""
        credential, revision = self.link.execute(
            "SELECT c.id, v.revision FROM keys_credential c JOIN keys_virtualkey v ON v.id = c.virtual_key_id"
            " WHERE v.id = %s",
            [key.pk],
        ).fetchone() or (0, 0)
        values: dict[str, Any] = {
            "id": new_id(),
            "credential": credential,
            "revision": revision,
            "catalogue_revision": self.one("SELECT catalogue_revision FROM keys_gateway"),
            "hold": True,
            "endpoint": "messages",
            "requested_model": "claude-opus-5-5",
            "provider": "echo",
            "ceiling": Decimal(str(ceiling)),
            "input_tokens": 100,
            "input_cost": Decimal("0.01"),
            "input_ceiling": 200,
            "max_tokens": 1000,
            "output_price": Decimal(20),
            "price_version": "test",
        }
        return Admission(**(values | changes))

    def group(
        self,
        admissions: Sequence[Admission] = (),
        settlements: Sequence[Settlement] = (),
        releases: Sequence[UUID] = (),
    ) -> list[Verdict]:
        """The verdicts on these admissions, in one group with these settlements and releases."""
        values = [
            self.process,
            self.fence,
            msgspec.json.encode(settlements).decode() if settlements else None,
            list(releases) or None,
            msgspec.json.encode(admissions).decode() if admissions else None,
        ]
        while True:
            try:
                rows = psycopg.RawCursor(self.link).execute(ASK, values).fetchall()
                break
            except psycopg.Error as error:
                if error.sqlstate != "BF002":  # a window ended meanwhile
                    raise
        found = {call: Verdict(word, detail) for call, word, detail in rows}
        return [found[admission.id] for admission in admissions]

    def admit(self, key: VirtualKey, ceiling: object = "0.25", **changes: Any) -> tuple[Admission, Verdict]:
        """A call, and the verdict on it."""
        call = self.ask(key, ceiling, **changes)
        return call, self.group([call])[0]

    def settle(self, call: Admission, cost: object = "0.002", **changes: Any) -> None:
        """Settle a call."""
        self.group(settlements=[settlement(call, cost, **changes)])

    def reap(self) -> int:
        """This process dies, and its holds are taken over; it goes on under a new id."""
        self.link.execute(
            "UPDATE usage_process SET heartbeat_at = heartbeat_at - interval '1 hour' WHERE id = %s", [self.process]
        )
        reaped: int = self.one("SELECT usage_reap('0 s', 100)")
        self.start()
        return reaped

    def counters(self) -> dict[tuple[int, datetime], tuple[Decimal, Decimal]]:
        """Spent and held of every window, which are what ledger and holds say."""
        found = {}
        for budget, start, spent, held, rows, holds in self.link.execute(TOTALS):
            assert (spent, held) == (rows, holds), f"budget {budget} from {start}"
            found[budget, start] = (spent, held)
        return found


def settlement(call: Admission, cost: object = "0.002", **changes: Any) -> Settlement:
    """How a call ended."""
    values: dict[str, Any] = {
        "id": call.id,
        "model": call.requested_model,
        "provider": call.provider,
        "provider_key_id": call.provider_key,
        "provider_request_id": "req_1",
        "status": "completed",
        "http_status": 200,
        "stop_reason": "end_turn",
        "input_tokens": 90,
        "output_tokens": 10,
        "cost": Decimal(str(cost)),
        "price_version": "test",
        "time_to_first_byte_ms": 5,
        "duration_ms": 20,
    }
    return Settlement(**(values | changes))


@contextlib.contextmanager
def arbiter() -> Iterator[Arbiter]:
    """An arbiter on Django's database, whose clock is right again afterwards."""
    with admin_connection() as link:
        asked = Arbiter(link)
        asked.start()
        try:
            yield asked
        finally:
            if asked.clock:
                asked.set_clock(None)


def give_credential(key: VirtualKey) -> VirtualKey:
    """The key, with a credential whose secret is not known."""
    Credential.objects.create(kind="virtual_key", virtual_key=key, digest=new_id().bytes * 2, pepper="0")
    return key


def cast_with_credentials(*names: str) -> Cast:
    """The cast of tests/support/ledger_rows.py. The callers of these names have a credential."""
    cast = make_cast()
    for name in names:
        give_credential(getattr(cast, name))
    return cast


def later(moment: datetime, **spans: float) -> datetime:
    """The moment and a while."""
    return moment + timedelta(**spans)
