"""Demo data of `manage.py generate_usage`: plausible, exact, the same again, and never beside real data.

One small deployment of its own is filled for all tests that only look at it.
"""

from __future__ import annotations

import io
from collections import defaultdict
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from itertools import zip_longest
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.db.models import F, Sum
from django.test import Client

from keys import provider_keys
from keys.audit import seals
from keys.audit import verification as audit_verification
from keys.demo_data import DemoData
from keys.errors import Unusable
from keys.issuing import ensure_passthrough_key
from keys.models import AuditEvent, Customer, ProviderKey, VirtualKey
from reconciliation import admin_keys
from reconciliation.models import AdminKey
from tests.support.databases import new_database, using
from tests.support.ledger_rows import make_cast, make_entry
from usage import verification
from usage.demo import calendar, cast, generate
from usage.demo.options import Options
from usage.models import Adjustment, LedgerEntry, OwnerDay, Refusal, Rollup, Window
from usage.pricing import load_price_book
from usage.tokens import TOKEN_COLUMNS, TokenCounts

# A year of calls is made once, in many seconds.
pytestmark = pytest.mark.long

UNTIL = datetime(2026, 11, 20, 15, tzinfo=UTC)
SMALL = Options(rows=2500, months=12, customers=3, teams=6, keys=14, seed=8, until=UNTIL)
GIVEN = ("--rows=2500", "--customers=3", "--teams=6", "--keys=14", "--seed=8", "--until=2026-11-20T15:00Z")
TABLES = ("usage_ledgerentry", "usage_window", "usage_budget", "keys_virtualkey", "keys_credential")


def run(*arguments):
    """The command's output."""
    out = io.StringIO()
    call_command("generate_usage", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def digest(tables=TABLES):
    """Of all rows of these tables, except for what says when they were written."""
    found = []
    with connection.cursor() as cursor:
        for table in tables:
            rows = f"SELECT (to_jsonb(t) - 'xid')::text AS row FROM {table} t"
            cursor.execute(f"SELECT md5(string_agg(row, ',' ORDER BY row)) FROM ({rows}) AS t")
            found.append(cursor.fetchone()[0])
    return found


@pytest.fixture(scope="module")
def filled(django_db_setup, django_db_blocker):
    """A deployment with demo data, made in three parts."""
    with pytest.MonkeyPatch.context() as patch, django_db_blocker.unblock():
        patch.setattr(calendar, "PART", 1000)
        with new_database("demo") as name, using(name):
            assert "2,500 rows in" in run(*GIVEN)
            yield digest()


@pytest.fixture
def page(filled):
    """The pages of the demo, for someone who may see them all. What a test changes is taken back."""
    with transaction.atomic():
        client = Client()
        client.force_login(User.objects.create_superuser("boss"))
        yield client
        transaction.set_rollback(True)


def test_a_cost_is_what_pricing_says_for_the_tokens_model_and_time_of_the_row(filled):
    book = load_price_book()
    rows = list(LedgerEntry.objects.all())
    assert len(rows) == SMALL.rows
    seen = set()
    for row in rows:
        price = book.price(row.provider, row.model, row.admitted_at)
        counts = TokenCounts(*(getattr(row, name) for name in TOKEN_COLUMNS))
        terms: Any = {"speed": row.speed, "service_tier": row.service_tier, "inference_geo": row.inference_geo}
        assert row.cost == price.cost(counts, **terms), row.pk
        parts = zip_longest(row.cost_split or (), price.costs(counts, **terms), fillvalue=Decimal(0))
        assert all(abs(one - other) < Decimal("1e-11") for one, other in parts), row.pk
        assert sum(row.cost_split or ()) == row.cost, row.pk
        tiered = price.for_tier(row.service_tier)
        assert (row.price_version, row.price_flag) == (tiered.version, tiered.flag)
        assert row.thinking_tokens <= row.output_tokens
        assert row.held >= row.cost or row.service_tier == "batch"
        seen |= {row.service_tier, row.status, row.price_flag, row.stop_reason, row.endpoint, row.provider}
        seen |= {name for name in TOKEN_COLUMNS if getattr(row, name)}
    assert seen >= {"batch", "unpriced", "failed", "refused_by_provider", "client_disconnected", "batches.request"}
    assert seen >= {"tool_use", "end_turn", "openai", *TOKEN_COLUMNS}


def test_an_adjustment_takes_off_tokens_at_the_rates_of_its_row(filled):
    book = load_price_book()
    adjustments = list(Adjustment.objects.all())
    assert adjustments
    for adjustment in adjustments:
        row = LedgerEntry.objects.get(pk=adjustment.entry_id)
        price = book.price(row.provider, row.model, row.admitted_at)
        terms: Any = {"speed": row.speed, "service_tier": row.service_tier, "inference_geo": row.inference_geo}
        prompt = TokenCounts(*(getattr(row, name) for name in TOKEN_COLUMNS))
        less = TokenCounts(*(getattr(adjustment, name) for name in TOKEN_COLUMNS))
        assert adjustment.cost == price.cost(prompt + less, **terms) - row.cost < 0


def test_calls_follow_the_working_days_of_their_customer_and_grow_over_the_year(filled):
    weekdays, hours, months = ([0] * size for size in (7, 24, 13))
    coding = LedgerEntry.objects.filter(client_labels__has_key="claude_code_session")
    for row in coding.select_related("customer"):
        local = row.admitted_at.astimezone(ZoneInfo(row.customer.time_zone))
        weekdays[local.weekday()] += 1
        hours[local.hour] += 1
    assert sum(weekdays[:5]) > 10 * sum(weekdays[5:])
    assert sum(hours[8:19]) > 8 * sum(hours[:6] + hours[22:])
    for at in LedgerEntry.objects.values_list("admitted_at", flat=True):
        assert SMALL.since <= at < UNTIL
        months[(at - SMALL.since).days // 30] += 1
    assert sum(months[9:12]) > 1.5 * sum(months[:3])
    launched = LedgerEntry.objects.filter(model="claude-sonnet-5-5").earliest("admitted_at").admitted_at
    assert launched >= SMALL.since + (UNTIL - SMALL.since) * 0.79


def test_a_session_keeps_its_model_writes_a_cache_first_and_reads_it_later(filled):
    sessions = defaultdict(list)
    rows = LedgerEntry.objects.filter(provider="anthropic", status="completed").order_by("admitted_at")
    for row in rows.filter(client_labels__has_key="claude_code_session"):
        sessions[row.client_labels["claude_code_session"]].append(row)
    long = [calls for calls in sessions.values() if len(calls) >= 4]
    assert long
    for calls in long:
        assert len({(row.model, row.virtual_key_id) for row in calls}) == 1
    written = [row.cache_creation_5m_input_tokens + row.cache_creation_1h_input_tokens for row, *_ in long]
    read = [sum(row.cache_read_input_tokens for row in calls[1:]) for calls in long]
    assert sum(read) > 2 * sum(written) > 0


def test_no_key_calls_before_it_is_made_or_after_it_is_gone(filled):
    keys = VirtualKey.objects.in_bulk()
    assert any(key.revoked_at or key.expires_at for key in keys.values())
    assert VirtualKey.objects.filter(credentials__expires_at__isnull=False).exists()
    for key, at in LedgerEntry.objects.values_list("virtual_key", "admitted_at"):
        gone = keys[key].revoked_at or keys[key].expires_at or UNTIL
        assert keys[key].created_at <= at < gone


def test_counters_of_budgets_the_audit_log_and_roll_ups_fit_the_ledger(filled):
    assert verification.verify() == []
    assert Window.objects.count() > 50
    over = Window.objects.filter(spent__gt=F("budget__amount")).exclude(budget__enforcement="soft")
    assert not over.exists()
    seals.seal()
    assert audit_verification.verify(lambda *_: None) > 0
    assert AuditEvent.objects.filter(action="generated demo data").count() == 1
    parts = [model.objects.aggregate(cost=Sum("cost"))["cost"] for model in (LedgerEntry, Adjustment)]
    assert Rollup.objects.aggregate(cost=Sum("cost"))["cost"] == sum(parts)
    assert Rollup.objects.aggregate(calls=Sum("calls"))["calls"] == SMALL.rows
    customers = [key * 4 for key in Customer.objects.values_list("pk", flat=True)]
    assert OwnerDay.objects.filter(owner__in=customers).aggregate(cost=Sum("cost"))["cost"] == sum(parts)


def test_a_run_that_is_cut_off_goes_on_and_makes_the_same_rows(filled, django_db_blocker):
    class Cut(Exception):
        pass

    def cut(added, missing):
        raise Cut

    with django_db_blocker.unblock(), new_database("demo_again") as name, using(name):
        with pytest.raises(Cut):
            generate.generate(SMALL, cut)
        assert 0 < LedgerEntry.objects.count() < SMALL.rows
        with pytest.raises(CommandError, match="--rows 2500 --months 12"):
            run("--rows=2501")
        run()
        assert digest() == filled


@pytest.mark.parametrize(("customers", "teams"), [(40, 200), (8, 32), (1, 30), (1000, 2000)])
def test_names_of_teams_and_customers_occur_once(customers, teams):
    options = replace(SMALL, customers=customers, teams=teams)
    made = cast.make(options, defaultdict(lambda: 1))
    assert len({customer.name for customer in made.customers}) == customers
    assert len({(team.customer_id, team.name) for team in made.teams}) == teams


def test_a_second_run_is_refused_and_says_what_to_do(filled):
    with pytest.raises(CommandError, match=r"has its demo data already .2,500 rows.*use a new database") as refused:
        run()
    assert refused.value.returncode == 2
    assert digest() == filled


@pytest.mark.parametrize(
    "what",
    ["ledger rows", "refused calls", "a provider's secret", "a provider's admin key", "PASSTHROUGH_CUSTOMER"],
)
def test_a_deployment_with_anything_real_is_refused(db, what, settings):
    ProviderKey.objects.create(name="echo", provider="echo")
    match what:
        case "ledger rows":
            make_entry(make_cast().alice)
        case "refused calls":
            Refusal.objects.create(id=UUID(int=1), refused_at=UNTIL, http_status=429, reason="limit")
        case "a provider's secret":
            provider_keys.add_provider_key(name="a", provider="anthropic", secret="sk-ant-" + "a" * 90)
        case "a provider's admin key":
            admin_keys.save(AdminKey(name="reports", provider="anthropic"), "sk-ant-admin01-" + "a" * 90)
        case "PASSTHROUGH_CUSTOMER":
            settings.CONFIGURATION = settings.CONFIGURATION.model_copy(update={"passthrough_customer": "Acme"})
    before = digest((*TABLES, "keys_customer", "keys_auditevent"))
    with pytest.raises(CommandError, match=f"this deployment has {what}.*use a new database") as refused:
        run("--rows=100")
    assert refused.value.returncode == 2
    assert digest((*TABLES, "keys_customer", "keys_auditevent")) == before
    assert not DemoData.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--rows=0"], "--rows must be between 1 and"),
        (["--keys=many"], "“many” is not a whole number"),
        (["--teams=2", "--customers=3"], "--teams must be at least --customers"),
        (["--until=someday"], "“someday” is not an ISO 8601 time"),
    ],
)
def test_bad_input_changes_nothing(db, arguments, said):
    with pytest.raises(CommandError, match=said) as refused:
        run(*arguments)
    assert refused.value.returncode == 2
    assert not DemoData.objects.exists()


def test_the_mark_stays_and_keeps_providers_secrets_out(page):
    provider_key = ProviderKey.objects.get(name="anthropic-main")
    with pytest.raises(Unusable, match="this deployment has demo data"):
        provider_keys.set_secret(provider_key, "sk-ant-" + "a" * 90)
    with pytest.raises(Unusable, match="this deployment has demo data"):
        ensure_passthrough_key(Customer.objects.earliest("pk").name)
    for change in (
        "UPDATE keys_providerkey SET secret_ciphertext = 'x'",
        "DELETE FROM keys_demodata",
        "TRUNCATE keys_demodata",
    ):
        with pytest.raises(IntegrityError, match="demo data"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(change)
    with pytest.raises(IntegrityError, match="demo data"), transaction.atomic():
        AdminKey.objects.create(name="reports", provider="anthropic", secret_ciphertext=b"x")


@pytest.mark.parametrize("url", ["/admin/", "/admin/usage/report/", "/admin/nothing/", "/my/"])
def test_each_page_says_that_its_data_is_made_up(page, url):
    answer = page.get(url, follow=True)
    assert "Demo data." in answer.content.decode()
    assert answer.headers["Bursar-Data"] == "demo"


def test_files_and_rest_answers_say_so_too(page):
    report = page.get("/admin/usage/report/?format=csv&since=2026-11-01&until=2026-11-20&group=customer")
    assert 'filename="demo-data-usage-2026' in report.headers["Content-Disposition"]
    calls_ = page.get("/admin/keys/auditevent/export/")
    assert calls_.headers["Bursar-Data"] == "demo"
    assert page.get("/api/v1/customers").headers["Bursar-Data"] == "demo"


def test_a_deployment_without_demo_data_says_nothing(db, client):
    client.force_login(User.objects.create_superuser("boss"))
    answer = client.get("/admin/")
    assert "Demo data." not in answer.content.decode()
    assert "Bursar-Data" not in answer.headers
