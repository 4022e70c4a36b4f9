"""Names are one of a kind among what isn't revoked of one owner; who names several by one is shown which."""

from __future__ import annotations

import io
import json
import re
import threading

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from django.urls import reverse
from django.utils import timezone

from keys import issuing, names, virtual_keys
from keys.errors import Unusable
from keys.models import Credential, Customer, GatewayToken, ProviderKey, Team, VirtualKey
from tests.support.admin_forms import change
from tests.support.fake_provider import whole
from tests.support.gateway import issue as issue_served
from tests.support.gateway import message, post, refused
from tests.support.issued import make_key, make_provider_key, opened_by
from tests.support.owner import boss as boss
from usage.budgets import Budget
from usage.limits import Limit


@pytest.fixture(autouse=True)
def own_secrets(request, settings, tmp_path):
    if "served" not in request.fixturenames:
        settings.VAR_DIR = tmp_path


def owner(customer, team=""):
    whose, _ = Customer.objects.get_or_create(name=customer)
    return {"customer": whose, "team": Team.objects.get_or_create(customer=whose, name=team)[0] if team else None}


def make(name, customer, team=""):
    """A key, and the last characters of its secret."""
    virtual_key, plain = make_key(name, **owner(customer, team))
    return virtual_key, plain[-4:]


def refusal(name, *arguments):
    """The line with which a command refuses, with exit code 2."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.raises(CommandError) as error:
        call_command(name, *arguments, stdout=out, stderr=err)
    assert error.value.returncode == 2
    assert "\n" not in str(error.value)
    assert out.getvalue() == ""
    return str(error.value)


def run(name, *arguments):
    out = io.StringIO()
    call_command(name, *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue().strip()


# What may be called the same


@pytest.mark.django_db
@pytest.mark.parametrize("team", ["", "Platform"])
def test_a_revoked_key_leaves_its_name(team):
    for _ in range(3):
        virtual_key, _ = make("ci", "Acme", team)
        issuing.revoke(virtual_key)
    make("ci", "Acme", team)
    assert VirtualKey.objects.filter(name="ci").count() == 4


@pytest.mark.django_db
def test_owners_do_not_share_names():
    for whose in (("Acme",), ("Acme", "Platform"), ("Acme", "Research"), ("Beta",), ("Beta", "Platform")):
        make("ci", *whose)
    assert VirtualKey.objects.filter(name="ci").count() == 5


@pytest.mark.django_db
@pytest.mark.parametrize(("team", "whose"), [("", "Acme"), ("Platform", "Acme/Platform")])
@pytest.mark.parametrize("state", ["active", "paused", "expired"])
def test_of_one_owner_two_keys_are_not_called_the_same(team, whose, state):
    virtual_key, _ = make("ci", "Acme", team)
    VirtualKey.objects.update(active=state != "paused", expires_at="2020-01-01T00:00Z" if state == "expired" else None)
    with pytest.raises(
        Unusable, match=f"{whose} already has a virtual key “ci”: choose another name, or revoke that one first"
    ):
        make("ci", "Acme", team)
    # The database sees to it, too.
    with pytest.raises(IntegrityError), transaction.atomic():
        VirtualKey.objects.create(name="ci", customer=virtual_key.customer, team=virtual_key.team)


@pytest.mark.django_db
def test_capitals_tell_names_apart():
    make("ci", "Acme")
    other, _ = make("CI", "Acme")
    assert virtual_keys.find("CI") == other


@pytest.mark.django_db
def test_a_gateway_tokens_name_is_free_once_it_is_revoked_and_for_another_key():
    alice, bob = make("alice", "Acme")[0], make("bob", "Acme")[0]
    token = opened_by(issuing.issue_gateway_token("laptop", alice))
    issuing.issue_gateway_token("laptop", bob)
    with pytest.raises(Unusable, match="“alice” already has a gateway token “laptop”"):
        issuing.issue_gateway_token("laptop", alice)
    issuing.revoke_token(token)
    issuing.issue_gateway_token("laptop", alice)
    assert Credential.objects.filter(name="laptop").count() == 3


@pytest.mark.django_db
def test_passed_through_calls_have_one_hidden_key():
    Customer.objects.create(name="Acme")
    hidden = issuing.ensure_passthrough_key("Acme").virtual_key
    other = Customer.objects.create(name="Beta")
    with pytest.raises(IntegrityError), transaction.atomic():
        VirtualKey.objects.create(name=names.PASSTHROUGH, customer=other, passthrough=True)
    assert issuing.ensure_passthrough_key("Beta").virtual_key == hidden


# How one is named


@pytest.fixture
def several(db):
    """Three keys of one name, and a fourth that is revoked."""
    old, _ = make("ci", "Acme", "Platform")
    issuing.revoke(old)
    return [make("ci", "Acme", "Platform"), make("ci", "Acme"), make("ci", "Beta")]


def named(several):
    """Each way to name each of them, with the one that is meant."""
    for (virtual_key, end), address in zip(several, ("Acme/Platform/ci", "Acme/ci", "Beta/ci"), strict=True):
        spaced = address.replace("/", " / ")
        for text in (address, spaced, f"id:{virtual_key.pk}", f" {virtual_key.pk} ", end, f"…{end}", f"...{end}"):
            yield text, virtual_key


@pytest.mark.django_db
def test_a_key_is_named_by_its_owner_its_number_or_its_end(several):
    for text, virtual_key in named(several):
        assert virtual_keys.find(text) == virtual_key, text


@pytest.mark.django_db
@pytest.mark.parametrize(
    "command",
    [
        ("rotate_virtual_key", "{}"),
        ("revoke_virtual_key", "{}", "--cut-streams", "--reason", "lost"),
        ("issue_gateway_token", "bob", "--virtual-key", "{}"),
        ("set_budget", "key:{}", "100/month"),
        ("set_budget", "key:{}", "month", "--remove"),
        ("set_limit", "key:{}", "--rpm", "60"),
        ("set_limit", "key:{}", "--rpm", "--remove"),
        ("top_up", "key:{}", "5", "--reason", "invoice"),
        ("export_usage", "--virtual-key", "{}"),
    ],
)
def test_a_command_lists_several_matching_keys_and_changes_nothing(several, command):
    name, *arguments = command

    def state():
        credentials = list(Credential.objects.order_by("pk").values())
        return (
            credentials,
            list(VirtualKey.objects.order_by("pk").values()),
            Budget.objects.count(),
            Limit.objects.count(),
        )

    before = state()
    complaint = refusal(name, *(argument.format("ci") for argument in arguments))
    for (virtual_key, end), address in zip(several, ("Acme/Platform/ci", "Acme/ci", "Beta/ci"), strict=True):
        assert f"{address} (id:{virtual_key.pk}, …{end})" in complaint
    assert "CUSTOMER/TEAM/NAME" in complaint
    assert state() == before


@pytest.mark.django_db
def test_the_commands_take_every_way_to_name_a_key(several):
    for text, virtual_key in named(several):
        run("set_budget", f"key:{text}", "100/month")
        assert Budget.objects.get().virtual_key == virtual_key
        Budget.objects.all().delete()
        run("set_limit", f"key:{text}", "--rpm", "60")
        assert Limit.objects.get().virtual_key == virtual_key
        Limit.objects.all().delete()
        assert opened_by(run("rotate_virtual_key", text, "--overlap", "1h")).virtual_key == virtual_key
        if not text.endswith(several[0][1]) and virtual_key == several[1][0]:
            break  # a rotation gives it another end


@pytest.mark.django_db
def test_of_a_revoked_key_and_its_successor_the_successor_is_meant():
    old, end = make("ci", "Acme")
    run("revoke_virtual_key", "ci", "--reason", "lost")
    new, _ = make("ci", "Acme")
    assert virtual_keys.find("ci") == virtual_keys.find("Acme/ci") == new
    assert virtual_keys.find(f"id:{old.pk}") == virtual_keys.find(end) == old
    run("revoke_virtual_key", "ci", "--reason", "lost")
    assert not VirtualKey.objects.filter(revoked_at=None).exists()
    assert f"id:{old.pk}, …{end}, revoked 20" in refusal("revoke_virtual_key", "ci")


@pytest.mark.django_db
def test_a_rotated_key_keeps_its_name():
    make("ci", "Acme")
    make("ci", "Beta")
    assert opened_by(run("rotate_virtual_key", "Beta/ci")).virtual_key.name == "ci"
    assert VirtualKey.objects.count() == 2


@pytest.mark.django_db
def test_a_name_goes_before_what_else_a_text_may_mean():
    first, end = make("first", "Acme")
    for name in (str(first.pk), f"id:{first.pk}", end, "Acme/first"):
        made, _ = make(name, "Beta")
        assert virtual_keys.find(name) == made


@pytest.mark.django_db
@pytest.mark.parametrize(
    "text", ["unheard-of", "", "/", "Acme/", "/ci", "id:", "id:0", "9" * 18, "Acme/Platform/Research/ci"]
)
def test_a_text_that_matches_no_key_is_refused(text):
    make("ci", "Acme", "Platform")
    with pytest.raises(Unusable, match="there is no virtual key"):
        virtual_keys.find(text)


@pytest.mark.django_db
def test_a_message_lists_only_some_of_many_matching_keys():
    for number in range(12):
        make("ci", f"Customer {number:02}")
    complaint = refusal("rotate_virtual_key", "ci")
    assert complaint.count("(id:") == virtual_keys.LISTED
    assert ", and more" in complaint


def test_a_new_key_of_an_old_name_is_let_in_and_the_old_one_is_not(web, upstream, alice):
    upstream.answer = whole(200, message())
    issuing.revoke(alice.virtual_key)
    again = issue_served(upstream)
    assert post(web, again.key).status_code == 200
    refused(post(web, alice.key), 401, "authentication_error")


# The admin


def filled_in(virtual_key=None, **fields):
    """The form of a key, as a browser sends it."""
    form = {"name": "ci", "labels": "", "routes-TOTAL_FORMS": 1, "routes-MIN_NUM_FORMS": 1, "routes-0-weight": 1}
    form |= {"routes-0-provider_key": ProviderKey.objects.get().pk, "routes-INITIAL_FORMS": 0}
    if virtual_key is not None:
        route = virtual_key.routes.get()
        form |= {"routes-INITIAL_FORMS": 1, "routes-0-id": route.pk, "routes-0-virtual_key": virtual_key.pk}
        for part in ("credentials", "budgets", "limits"):
            form |= {f"{part}-TOTAL_FORMS": 0, f"{part}-INITIAL_FORMS": 0}
    return form | fields


def fault_at(field, page):
    """The fault that a page shows beside a field."""
    form = page.context["adminform"].form
    assert list(form.errors) == [field], form.errors
    return form.errors[field][0]


@pytest.mark.django_db
def test_the_form_shows_a_name_that_is_taken_at_the_name(boss):
    taken, _ = make("ci", "Acme", "Platform")
    other, _ = make("other", "Acme", "Platform")
    url = reverse("admin:keys_virtualkey_add")
    form = {"name": "ci", "team": taken.team_id, "period": "month", "enforcement": "hard"}
    form |= {"provider_keys": list(taken.provider_keys.values_list("pk", flat=True))}
    refused = boss.post(url, form).context["form"].errors
    assert refused.keys() == {"name"}
    assert "Acme/Platform already has a virtual key “ci”" in refused["name"][0]
    renamed = reverse("admin:keys_virtualkey_change", args=[other.pk])
    assert "already" in fault_at("name", change(boss, renamed, filled_in(other, team=other.team_id)))
    boss.post(url, form | {"team": "", "customer": taken.customer_id})
    alone = VirtualKey.objects.get(name="ci", team=None)
    moved = reverse("admin:keys_virtualkey_change", args=[alone.pk])
    assert "already" in fault_at("name", change(boss, moved, filled_in(alone, team=taken.team_id)))
    assert change(boss, moved, filled_in(alone, team="", owner="Bob")).status_code == 302


@pytest.mark.django_db
def test_the_form_of_a_gateway_token_shows_a_name_that_is_taken_at_the_name(boss):
    alice, bob = make("alice", "Acme")[0], make("alice", "Beta")[0]
    url = reverse("admin:keys_gatewaytoken_add")
    assert boss.post(url, {"name": "laptop", "virtual_key": alice.pk}).status_code == 200
    assert "already" in fault_at("name", boss.post(url, {"name": "laptop", "virtual_key": alice.pk}))
    issuing.revoke_token(GatewayToken.objects.get(name="laptop"))
    for virtual_key in (alice, bob):
        shown = boss.post(url, {"name": "laptop", "virtual_key": virtual_key.pk})
        assert b'<code id="secret">' in shown.content
    listed = boss.get(reverse("admin:keys_gatewaytoken_changelist")).content.decode()
    assert "Acme/alice" in listed
    assert "Beta/alice" in listed


@pytest.mark.django_db
def test_choices_of_keys_say_whose_each_is(boss, several):
    for app, model in (("usage", "budget"), ("keys", "gatewaytoken")):
        query = {"app_label": app, "model_name": model, "field_name": "virtual_key", "term": "ci"}
        suggested = json.loads(boss.get(reverse("admin:autocomplete"), query).content)["results"]
        for address in ("Acme/Platform/ci", "Acme/ci", "Beta/ci"):
            assert address in [each["text"] for each in suggested]


@pytest.mark.django_db
@pytest.mark.parametrize("model", ["customer", "team", "modelalias", "providerkey", "virtualkey"])
def test_a_name_that_is_taken_while_a_form_is_open_is_an_answer_not_a_crash(boss, monkeypatch, model):
    virtual_key, _ = make("ci", "Acme", "Platform")
    boss.post(reverse("admin:keys_modelalias_add"), {"name": "fast", "target": "m"})
    form = {
        "customer": {"name": "Acme", "time_zone": "UTC", "fiscal_year_month": 1, "language": "en"},
        "team": {"name": "Platform", "customer": virtual_key.customer_id},
        "modelalias": {"name": "fast", "target": "other"},
        "providerkey": {"name": "echo", "provider": "echo", "base_url": "", "model_patterns": "", "secret": ""},
        "virtualkey": {"name": "ci", "team": virtual_key.team_id, "period": "month", "enforcement": "hard"}
        | {"provider_keys": list(virtual_key.provider_keys.values_list("pk", flat=True))},
    }[model]
    for what in ("validate_unique", "validate_constraints"):
        monkeypatch.setattr(f"django.db.models.Model.{what}", lambda *args, **kwargs: None)
    monkeypatch.setattr(virtual_keys, "check_name", lambda virtual_key: None)
    parts = {
        f"{part}-{forms}_FORMS": 0 for part in ("budgets", "limits", "key_rules") for forms in ("TOTAL", "INITIAL")
    }
    answer = boss.post(reverse(f"admin:keys_{model}_add"), parts | form, follow=True)
    assert answer.status_code == 200
    said = answer.content.decode()
    assert re.search("Nothing was (saved: |issued)(.|\n)+ (already (has|exists)|is named)", said)


# Two at the same time


@pytest.mark.parametrize("of", ["customer", "team"])
def test_one_of_two_keys_of_the_same_name_that_are_issued_at_once_is_refused(apart, monkeypatch, of):
    make_provider_key()
    terms = owner("Acme", "Platform" if of == "team" else "")
    provider_key = (ProviderKey.objects.get(), 1)
    gate = threading.Barrier(2)
    outcomes = []
    check = virtual_keys.check_name

    def check_and_meet(virtual_key):
        check(virtual_key)
        gate.wait(30)

    def issue():
        try:
            issuing.issue_virtual_key(name="ci", provider_keys=[provider_key], **terms)
            outcomes.append("issued")
        except Unusable as error:
            outcomes.append(str(error))
        finally:
            connection.close()

    monkeypatch.setattr(virtual_keys, "check_name", check_and_meet)
    threads = [threading.Thread(target=issue) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes, key=len)[0] == "issued"
    assert "already has a virtual key “ci”" in sorted(outcomes, key=len)[1]
    assert VirtualKey.objects.filter(name="ci").count() == Credential.objects.count() == 1


@pytest.mark.django_db
def test_a_provider_keys_name_that_is_taken_meanwhile_is_refused():
    make_provider_key("main")
    with pytest.raises(Unusable, match="taken"), names.unique("taken"):
        ProviderKey.objects.create(name="main", provider="echo")
    # What else is wrong with a row is no name that is taken.
    with pytest.raises(IntegrityError), names.unique("taken"), transaction.atomic():
        ProviderKey.objects.create(name=None, provider="echo")  # type: ignore[misc]
    assert ProviderKey.objects.count() == 1


# Databases that are there already


@pytest.mark.long
def test_keys_that_are_there_keep_their_names(apart):
    executor = MigrationExecutor(connection)
    then = executor.migrate([("keys", "0012_provider_key_checks")]).apps
    customers, keys = then.get_model("keys", "Customer").objects, then.get_model("keys", "VirtualKey").objects
    try:
        acme = customers.create(name="Acme")
        kept = [keys.create(name=name, customer=acme) for name in ("ci", "CI", "ci ", "c/i")]
        keys.filter(pk=kept[0].pk).update(revoked_at=timezone.now())
        with pytest.raises(IntegrityError):
            keys.create(name="ci", customer=customers.create(name="Beta"))
    finally:
        MigrationExecutor(connection).migrate(MigrationExecutor(connection).loader.graph.leaf_nodes())
    VirtualKey.objects.create(name="ci", customer_id=acme.pk)
    assert VirtualKey.objects.count() == 5
