"""The search box finds what a person may see, by what people have at hand, and keeps secrets out of URLs."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from django.contrib.auth.models import Permission, User
from django.db import connection
from django.test import Client
from django.urls import reverse

from administration import search
from keys import issuing, key_search
from keys.models import Customer, GatewayToken, ProviderKey, Team, VirtualKey
from messages_api.models import Batch, File
from tests.support.issued import SECRET, make_key, make_provider_key
from tests.support.ledger_rows import empty_ledger, make_entry
from usage import request_ids
from usage.models import Hold, Refusal

pytestmark = pytest.mark.django_db
MANY_KEYS = """
INSERT INTO keys_virtualkey (
    name, customer_id, owner, active, allowed_models, denied_models, labels, passthrough, revision)
SELECT 'key-' || lpad(number::text, 6, '0'), %s, '', true, '{}', '{}', '{}', false, 1
FROM generate_series(1, 30000) AS number
"""
# The only row of the ledger, 30,000 times.
MANY_CALLS = """
INSERT INTO usage_ledgerentry
SELECT (jsonb_populate_record(l, jsonb_build_object('id', left(l.id::text, 24) || lpad(to_hex(number), 12, '0')))).*
FROM usage_ledgerentry l, generate_series(1, 30000) AS number
"""
SESSION = "0f3c8a52-6b1e-4c55-9d0c-6a6a1f1f7d11"


@pytest.fixture(autouse=True)
def own_secrets(settings, tmp_path):
    settings.VAR_DIR = tmp_path
    empty_ledger()


def find(client: Client, text: str):
    return client.post(reverse("admin:find"), {"find": text})


def row_page(row) -> str:
    """The page that is made for a row, or else that of its columns."""
    own = {VirtualKey: "key", Customer: "customer", Team: "team"}.get(type(row))
    return reverse(f"admin:{own or f'{row._meta.app_label}_{row._meta.model_name}_change'}", args=[row.pk])


def leads_to(client: Client, text: str, row) -> bool:
    """Whether the text finds this row and nothing else."""
    answer = find(client, text)
    return bool(answer.status_code == 302 and answer.headers["location"] == row_page(row))


def bob_with(*permissions: str) -> Client:
    bob = User.objects.create(username="bob", is_staff=True)
    bob.user_permissions.set(Permission.objects.filter(codename__in=permissions))
    client = Client()
    client.force_login(bob)
    return client


def test_a_key_is_found_by_its_name_the_beginning_of_it_its_owners_and_its_number(admin_client):
    key, _ = make_key("deploy-bot")
    make_key("other")
    for text in ("deploy-bot", "deploy", "Deploy", " deploy-b ", "bot", "Acme/Research/deploy-bot", f"id:{key.pk}"):
        assert leads_to(admin_client, text, key), text


def test_a_key_is_found_by_its_last_characters_and_by_the_whole_secret(admin_client):
    key, plain = make_key("deploy-bot")
    for text in (plain[-4:], f"…{plain[-4:]}", plain, f" {plain}\n"):
        assert leads_to(admin_client, text, key), "the end or the whole"


def test_a_gateway_token_is_found_by_the_whole_secret(admin_client):
    key, _ = make_key("deploy-bot")
    plain = issuing.issue_gateway_token("laptop", key)
    assert leads_to(admin_client, plain, GatewayToken.objects.get(name="laptop"))


def test_customers_teams_and_provider_keys_are_found_by_a_part_of_their_name(admin_client):
    make_provider_key("frankfurt", provider="anthropic", secret=SECRET)
    ours = Customer.objects.create(name="Northern Lights")
    team = Team.objects.create(customer=ours, name="Spectrography")
    assert leads_to(admin_client, "lights", ours)
    assert leads_to(admin_client, "trograph", team)
    assert leads_to(admin_client, "Northern / Spectro", team)
    frankfurt = ProviderKey.objects.get(name="frankfurt")
    answer = find(admin_client, "ankfur")
    assert answer.headers["location"] == reverse("admin:provider_key", args=[frankfurt.pk])
    assert find(admin_client, f"…{SECRET[-4:]}").status_code == 302


def test_a_call_is_found_by_our_request_id_and_by_the_providers(admin_client):
    key, _ = make_key()
    call = make_entry(key, provider_request_id="req_011CVQ")
    page = reverse("admin:call", args=[request_ids.request_id(call)])
    for text in (request_ids.request_id(call), str(call), "req_011CVQ"):
        assert find(admin_client, text).headers["location"] == page, text


def test_a_call_in_progress_and_a_refused_one_are_found_by_their_ids(admin_client):
    key, _ = make_key()
    hold, refused = request_ids.new_id(), request_ids.new_id()
    Hold.objects.create(
        **{"id": hold, "admitted_at": datetime.now(UTC), "credential": 1, "virtual_key": key, "customer": key.customer},
        **{"labels": {}, "client_labels": {}, "endpoint": "messages", "requested_model": "m", "stream": False},
        **{"provider": "echo", "ceiling": 1, "input_tokens": 1, "input_cost": 0, "max_tokens": 1, "output_price": 0},
        price_version="test",
    )
    Refusal.objects.create(
        id=refused, refused_at=datetime.now(UTC), http_status=429, error_type="x", reason="limit", message="m"
    )
    assert leads_to(admin_client, request_ids.request_id(hold), Hold.objects.get())
    assert leads_to(admin_client, request_ids.request_id(refused), Refusal.objects.get())


def test_calls_of_a_session_are_found_among_the_latest(admin_client):
    key, _ = make_key()
    calls = [make_entry(key, client_labels={"claude_code_session": SESSION}) for _ in range(2)]
    make_entry(key, client_labels={"claude_code_session": "another"})
    shown = find(admin_client, SESSION).content.decode()
    assert all(request_ids.request_id(call) in shown for call in calls)
    assert shown.count("of this session") == 2


def test_batches_and_files_are_found_by_the_providers_id(admin_client):
    key, _ = make_key()
    provider_key = key.provider_keys.get()
    terms = {"virtual_key": key, "provider_key": provider_key}
    batch = Batch.objects.create(
        id=request_ids.new_id(), provider_batch_id="msgbatch_01", requests=1, ceiling=1, custom_ids="", **terms
    )
    file = File.objects.create(id="file_01", **terms)
    assert leads_to(admin_client, "msgbatch_01", batch)
    assert leads_to(admin_client, "file_01", file)


def test_several_things_of_one_name_are_listed_with_what_they_are(admin_client):
    key, _ = make_key("atlas")
    Customer.objects.create(name="Atlas")
    shown = find(admin_client, "atlas").content.decode()
    assert row_page(key) in shown
    for kind in ("Virtual key", "Customer"):
        assert f'<span class="found-kind">{kind}</span>' in shown


def test_a_person_finds_only_what_they_may_see():
    key, plain = make_key("atlas")
    Customer.objects.create(name="Atlas")
    call = make_entry(key)
    bob = bob_with("view_customer")
    assert leads_to(bob, "atlas", Customer.objects.get(name="Atlas"))
    for text in ("Research", plain, plain[-4:], request_ids.request_id(call), "req_upstream", "echo"):
        answer = find(bob, text)
        assert answer.status_code == 200
        assert "Nothing that you may see matches" in answer.content.decode()


def test_a_stranger_has_to_sign_in_first(client):
    assert find(client, "x").headers["location"].startswith(reverse("admin:login"))


@pytest.mark.parametrize("text", ["", " ", "\0", "a" * 300, "%", "_", "/", "//", "id:", "x/" * 120, "ﬀ" * 100])
def test_hostile_texts_are_no_error(admin_client, text):
    make_key("deploy-bot")
    assert find(admin_client, text).status_code in (200, 302)


def test_no_secret_is_ever_part_of_an_address_or_shown_again(admin_client):
    _, plain = make_key("atlas")
    for secret in (plain, plain[:-1] + "x", SECRET, "sk-ant-api03-" + "x" * 80):
        answer = find(admin_client, secret)
        assert secret not in answer.headers.get("location", "")
        assert secret not in answer.content.decode()
        assert "no-store" in answer.headers["cache-control"]
        in_list = {"list": "keys.virtualkey", "q": secret, "filters": "?state=active"}
        listed = admin_client.post(reverse("admin:find_in_list"), in_list).headers["location"]
        assert secret not in listed
        assert "state=active" in listed


def test_every_search_box_sends_its_text_in_the_body(admin_client):
    """Without a script too, since the form itself says so."""
    make_key("atlas")
    shown = admin_client.get(reverse("admin:keys_virtualkey_changelist")).content.decode()
    assert f'<form class="site-search" method="post" action="{reverse("admin:find")}"' in shown
    assert f'<form id="changelist-search" method="post" action="{reverse("admin:find_in_list")}"' in shown


def test_a_search_in_a_list_keeps_its_filters_and_leads_to_that_list_only(admin_client):
    url = reverse("admin:find_in_list")
    answer = admin_client.post(url, {"list": "keys.team", "q": "Re search", "filters": "?paused__exact=0&q=old&p=3"})
    assert answer.headers["location"] == reverse("admin:keys_team_changelist") + "?paused__exact=0&q=Re+search"
    for elsewhere in ("https://evil.example/", "sessions.session", "keys", "", "//evil.example"):
        assert admin_client.post(url, {"list": elsewhere, "q": "x"}).status_code == 404


def plan_of(queryset) -> str:
    """How PostgreSQL runs a query."""
    return str(queryset.explain())


def test_look_ups_of_large_tables_use_their_indexes():
    """With as many keys as change the plan."""
    customer = Customer.objects.create(name="Acme")
    with connection.cursor() as cursor:
        # Without triggers: it is about the plan, and nothing else reads these rows.
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(MANY_KEYS, [customer.pk])
        cursor.execute("SET LOCAL session_replication_role = DEFAULT")
        cursor.execute("ANALYZE keys_virtualkey")
    by_name = plan_of(VirtualKey.objects.order_by().filter(key_search.fits("key-0123"))[: search.MOST])
    assert "Index" in by_name
    assert "Seq Scan" not in by_name


def test_a_session_is_looked_for_among_the_latest_calls_only():
    """The ledger is read backwards by its ids, so no other rows are touched."""
    make_entry(make_key()[0])
    with connection.cursor() as cursor:
        cursor.execute(MANY_CALLS)
        cursor.execute("ANALYZE usage_ledgerentry")
        cursor.execute(f"EXPLAIN {search.OF_SESSION}", [2000, search.SESSION, SESSION, search.CALLS_OF_SESSION])
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert re.search(r"Limit.*Index Scan Backward", plan, re.S), plan
    assert not re.search(r"Seq Scan on usage_ledgerentry_2", plan), plan
