"""A deployment of any size, made by the database itself: customers, teams, keys, calls, roll-ups, refusals, changes.

The first customer has half of everything, and each of the others a small part of the rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from usage import rollups
from usage.ledger_cells import WRITTEN
from usage.levels import LEVELS
from usage.summed import ROLLUPS

UNWATCH = "SELECT keys_audit_unwatch(tgrelid::regclass::text) FROM pg_trigger WHERE tgname = 'keys_audit_rows'"
OWNERS = """
INSERT INTO keys_providerkey (id, name, provider, base_url, secret_ciphertext, secret_hint, model_patterns, active,
    organization_id, workspace_id, created_at)
SELECT n, 'provider ' || n, 'echo', '', '', '', '{}', true, '', '', now() FROM generate_series(1000001, 1000005) n;
INSERT INTO keys_customer (id, name, paused, created_at)
SELECT n, 'Customer ' || n, false, now() FROM generate_series(1000001, 1000000 + %(customers)s) n;
INSERT INTO keys_team (id, customer_id, name, paused, created_at)
SELECT n, 1000001 + CASE WHEN n %% 2 = 0 THEN 0 ELSE n %% %(customers)s END, 'Team ' || md5(n::text), false, now()
FROM generate_series(1000001, 1000000 + %(teams)s) n;
INSERT INTO keys_virtualkey (id, name, customer_id, team_id, owner, active, allowed_models, denied_models, labels,
    passthrough, revision, created_at)
SELECT n, (ARRAY['Atlas', 'Billing', 'Claims', 'Desk', 'Ember', 'Fleet', 'Grid', 'Harbour'])[1 + n / 6 %% 8]
    || (ARRAY[' production ', ' staging ', ' ci ', ' notebook ', '-batch-', ' assistant '])[1 + n %% 6]
    || substr(md5(n::text), 1, 8), t.customer_id, t.id, 'person' || n %% 50000 || '@example.com', true, '{}', '{}',
    CASE WHEN n %% 4 = 0 THEN jsonb_build_object('project', 'p' || n / 40 %% 5000) ELSE '{}' END, false, 1, now()
FROM generate_series(1000001, 1000000 + %(keys)s) n
JOIN keys_team t ON t.id = 1000001 + n %% %(teams)s;
INSERT INTO keys_virtualkeyroute (virtual_key_id, provider_key_id, weight)
SELECT n, 1000001 + n %% 5, 1 FROM generate_series(1000001, 1000000 + %(keys)s) n;
INSERT INTO keys_credential (kind, name, virtual_key_id, digest, pepper, first, last, created_at)
SELECT 'virtual_key', '', n, sha256(n::text::bytea), '0', 'sk-bf-abc', left(md5('e' || n), 4), now()
FROM generate_series(1000001, 1000000 + %(keys)s) n;
INSERT INTO usage_budget (virtual_key_id, model_patterns, active, unit, amount, period, rolling, enforcement,
    thresholds)
SELECT n, '{}', true, 'usd', 50, 'month', false, 'hard', '{80}' FROM generate_series(1000001, 1000000 + %(keys)s) n;
INSERT INTO usage_budget (team_id, model_patterns, active, unit, amount, period, rolling, enforcement, thresholds)
SELECT n, '{}', true, 'usd', 1000, 'month', false, 'hard', '{80}' FROM generate_series(1000001, 1000000 + %(teams)s) n;
INSERT INTO usage_refusal (id, refused_at, http_status, error_type, reason, message, endpoint, credential_hint,
    virtual_key_id, requested_model, count)
SELECT gen_random_uuid(), now() - n * interval '3 seconds', 429, 'rate_limit_error',
    (ARRAY['limit', 'budget', 'paused'])[1 + n %% 3], 'Too fast.', 'messages', '',
    1000001 + (n * 7919::bigint) %% %(keys)s, 'claude-opus-5-5', 1
FROM generate_series(1, %(refusals)s) n;
"""
# Newest last, over 60 days.
CALLS = """
INSERT INTO usage_ledgerentry (id, admitted_at, ended_at, credential, virtual_key_id, team_id, customer_id, labels,
    client_labels, endpoint, requested_model, model, stream, provider, provider_key_id, provider_request_id, status,
    http_status, error_type, stop_reason, input_tokens, output_tokens, thinking_tokens, cache_read_input_tokens,
    cache_creation_5m_input_tokens, cache_creation_1h_input_tokens, web_search_requests, iterations, service_tier,
    speed, inference_geo, cost, currency, price_version, price_flag, estimated, held, time_to_first_byte_ms,
    duration_ms, attempts)
SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(n::text), 1, 3) || '8'
        || substr(md5(n::text), 4, 15))::uuid,
    at, at + interval '2 seconds', v.id, v.id, v.team_id, v.customer_id, '{"project": "atlas"}',
    CASE WHEN n %% 3 = 0 THEN jsonb_build_object('claude_code_session', 'session-' || n / 30) ELSE '{}' END,
    'messages', model, model, n %% 2 = 0, 'echo', 1000001 + n %% 5, 'req_' || n,
    CASE WHEN n %% 50 = 0 THEN 'failed' ELSE 'completed' END, 200, '',
    CASE WHEN n %% 100000 = 7 THEN 'refusal' ELSE 'end_turn' END,
    1000 + n %% 1000, 100 + n %% 400, 0, 0, 0, 0, 0, '[]', 'standard', '', '', 0.01 + (n %% 997) / 10000.0, 'USD',
    'test', CASE WHEN n %% 5000 = 3 THEN 'unpriced' ELSE '' END, n %% 400 = 1, 0.1, 300, 2000 + n %% 3000,
    '[{"provider_key": "provider 1", "model": "claude-opus-5-5", "http_status": 200, "duration_ms": 2000, "cost": "1"}]'
FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
CROSS JOIN LATERAL (SELECT now() - (%(calls)s - n) * (interval '60 days' / %(calls)s) AS at) AS w
JOIN keys_virtualkey v ON v.id = 1000001 + (n * 7919) %% %(keys)s
CROSS JOIN LATERAL (SELECT (ARRAY['claude-opus-5-5', 'claude-sonnet-5', 'claude-haiku-5-5'])[1 + n %% 3] AS model) AS m
"""
# What usage/rollups.py would add.
PERIODS = """
INSERT INTO usage_summedperiod (level, start)
SELECT DISTINCT '{level}', date_trunc('{grain}', bucket, 'UTC') FROM usage_rollup ON CONFLICT DO NOTHING
"""
SUMMED = ";\n".join(
    (
        f"WITH fresh AS ({WRITTEN}) {ROLLUPS.add_summed('fresh')}".replace("%(start)s", "'0'").replace(
            "%(end)s", "'18446744073709551615'"
        ),
        *(PERIODS.format(level=level.name, grain=level.grain) for level in LEVELS if level.has_periods),
        *(each.add("usage_rollup") for each in rollups.FURTHER),
    )
)
ALL_SUMMED = """
UPDATE usage_rollupstate SET xid = pg_current_xact_id()::text, rolled_up_at = now() + interval '1 day';
"""
# What the pages of budgets, secrets and changes read.
BESIDE = """
INSERT INTO usage_window (budget_id, start, until, spent, held)
SELECT id, date_trunc('month', now(), 'UTC'), date_trunc('month', now(), 'UTC') + interval '1 month', id %% 50, 0
FROM usage_budget;
INSERT INTO usage_alert (budget_id, start, threshold, spent, amount, at, unsent)
SELECT id, date_trunc('month', now(), 'UTC'), 80, 40, 50, now(), 'no_target' FROM usage_budget WHERE id %% 3 = 0;
INSERT INTO usage_override (budget_id, amount, windows, starts_at, until, reason, author)
SELECT id, 40, 1, now() - interval '40 days', now() - interval '9 days', 'launch', 'boss' FROM usage_budget
WHERE id %% 20 = 0;
INSERT INTO usage_limit (virtual_key_id, model_patterns, active, kind, rate, count_cached)
SELECT id, '{}', true, 'rpm', 60, false FROM keys_virtualkey;
INSERT INTO usage_credentialuse (credential, used_at, address)
SELECT id, now() - id %% 1000 * interval '1 minute', '192.0.2.1' FROM keys_credential;
INSERT INTO keys_credential (kind, name, virtual_key_id, digest, pepper, first, last, created_at)
SELECT 'gateway_token', 'token ' || n, n, sha256('t' || n::text::bytea), '0', 'gt-bf-abc', left(md5('t' || n), 4), now()
FROM generate_series(1000001, 1000000 + %(keys)s, 20) n;
INSERT INTO keys_auditevent (at, actor_kind, actor, address, action, table_name, object, about, changes)
SELECT now() - n * interval '1 minute', 'command', '', '', 'changed', 'keys_virtualkey', 1000001 + n %% %(keys)s, '',
    '{"active": {"from": true, "to": false}}' FROM generate_series(%(keys)s, 1, -1) n;
"""
INDEXES = """
SELECT indexrelid::regclass::text, replace(pg_get_indexdef(indexrelid), ' ON ONLY ', ' ON ') FROM pg_index
WHERE indrelid = 'usage_ledgerentry'::regclass AND NOT indisprimary
"""
# Rows of a statement.
PART = 250_000


@dataclass(frozen=True, slots=True)
class Scale:
    """How many rows there are."""

    keys: int
    teams: int
    customers: int
    calls: int
    refusals: int


# Where a plan that scans a table is already the more expensive one.
SMALL = Scale(keys=8_000, teams=800, customers=40, calls=60_000, refusals=30_000)
LARGE = Scale(keys=400_000, teams=40_000, customers=1_000, calls=10_000_000, refusals=1_000_000)


def fill(link: psycopg.Connection, scale: Scale) -> None:
    """Make the rows. The connection commits by itself, and its cursors merge values into statements."""
    values = {name: getattr(scale, name) for name in Scale.__slots__}
    link.execute(UNWATCH)
    link.execute(OWNERS, values)
    # To make an index of all calls takes less time than to add each call to it.
    indexes = link.execute(INDEXES).fetchall()
    for name, _ in indexes:
        link.execute(f"DROP INDEX {name}")
    for first in range(1, scale.calls + 1, PART):
        link.execute(CALLS, values | {"first": first, "last": min(scale.calls, first + PART - 1)})
    for _, definition in indexes:
        link.execute(definition)
    link.execute(SUMMED)
    link.execute(ALL_SUMMED)
    link.execute(BESIDE, values)
    link.execute("VACUUM ANALYZE")
