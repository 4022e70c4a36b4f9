from __future__ import annotations

import threading
from decimal import Decimal

import pytest
from django.core.management import CommandError, load_command_class
from django.db import connection

from keys.models import Customer, Team, VirtualKey
from tests.keys.test_commands import refusal, run
from tests.support.issued import make_key, make_provider_key
from usage import budget_terms, owners
from usage.models import AlertTarget, Budget, Limit, TopUp

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def alice(settings, tmp_path):
    settings.VAR_DIR = tmp_path
    return make_key()[0]


def terms(budget):
    return f"{budget.amount.normalize():f} {budget.unit} {budget.period} {budget.enforcement}"


def test_a_key_is_issued_with_budgets_and_limits():
    run(
        *(
            "issue_virtual_key",
            "bob",
            "--budget",
            "100/month",
            "0.5/day/soft",
            "--budget",
            "5000000tokens/week/expected",
        ),
        *("--rpm", "60", "--input-tpm", "40000", "--output-tpm", "8000", "--parallel", "4"),
    )
    bob = VirtualKey.objects.get(name="bob")
    assert [terms(budget) for budget in bob.budgets.order_by("pk")] == [
        "100 usd month hard",
        "0.5 usd day soft",
        "5000000 tokens week expected",
    ]
    assert dict(bob.limits.values_list("kind", "rate")) == {
        "rpm": 60,
        "input_tpm": 40_000,
        "output_tpm": 8_000,
        "parallel": 4,
    }


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--budget", "100"], "expected AMOUNT/PERIOD[/KIND], such as 100/month"),
        (["--budget", "much/month"], "“much” isn't an amount"),
        (["--budget", "-1/month"], "“-1” isn't an amount"),
        (["--budget", "1e9/month"], "“1e9” isn't an amount"),
        (["--budget", "9999999999999999/month"], "is too large: a budget can be at most"),
        (["--budget", "1/fortnight"], "“fortnight” isn't a period: expected minute, hour, day"),
        (
            ["--budget", "1/month/firm"],
            "“firm” in “1/month/firm” isn't a kind of budget: expected hard, soft, expected",
        ),
        (["--budget", "1/month/"], "isn't a kind of budget"),
        (["--budget", "0.5tokens/month"], "isn't a whole number of tokens"),
        (["--budget", "5/prepaid"], "a prepaid balance starts at 0"),
        (["--budget", "1/day", "2/day"], "two budgets have the same period"),
        (["--rpm", "0"], "“0” isn't a limit: expected a whole number of at least 1"),
        (["--parallel", "some"], "“some” isn't a limit"),
    ],
)
def test_a_key_with_impossible_terms_is_not_issued(arguments, complaint):
    # With =, or else an argument that begins with a dash is an option.
    option, value, *more = arguments
    arguments = [f"{option}={value}", *(f"{option}={value}" for value in more)]
    assert complaint in refusal("issue_virtual_key", "bob", *arguments)
    assert not VirtualKey.objects.filter(name="bob").exists()
    assert not Budget.objects.exists()
    assert not Limit.objects.exists()


@pytest.mark.parametrize(
    ("owner", "said"),
    [
        ("customer:Acme", "customer Acme"),
        ("team:Acme/Research", "team Acme / Research"),
        ("key:alice", "virtual key alice of Acme / Research"),
    ],
)
def test_a_budget_is_set_and_set_again(owner, said):
    for amount in ("100", "100", "250"):
        out, _ = run("set_budget", owner, f"{amount}/month", "--thresholds", "80,50")
        assert out == f"${amount} a month for {said}, alerts at 50, 80 %\n"
    budget = Budget.objects.get()
    assert (budget.amount, budget.enforcement, budget.thresholds) == (Decimal(250), "hard", [50, 80])


def test_terms_that_are_left_out_keep_their_values():
    run("set_budget", "key:alice", "5/day/soft", "--thresholds", "50,100")
    run("set_budget", "key:alice", "7/day")
    budget = Budget.objects.get()
    assert (budget.amount, budget.enforcement, budget.thresholds) == (Decimal(7), "soft", [50, 100])
    run("set_budget", "key:alice", "7/day/hard", "--thresholds", "")
    budget.refresh_from_db()
    assert (budget.enforcement, budget.thresholds) == ("hard", [])


def test_budgets_of_other_units_periods_and_scopes_are_others(alice):
    for arguments in (
        ["1/day"],
        ["1/day", "--tokens"],
        ["1tokens/day", "--models", "claude-opus-*", "claude-haiku-*"],
        ["1tokens/day", "--models", "claude-haiku-*", "claude-opus-*"],
        ["1/day", "--rolling"],
        ["1/month"],
        ["1/day", "--provider-key", "echo"],
    ):
        run("set_budget", "key:alice", *arguments)
    assert alice.budgets.count() == 6


def test_a_budget_is_removed_and_removed_again(alice):
    run("set_budget", "key:alice", "5/day")
    run("set_budget", "key:alice", "5tokens/day")
    assert (
        run("set_budget", "key:alice", "day", "--remove")[0]
        == "Removed: $5 a day for virtual key alice of Acme / Research\n"
    )
    out, err = run("set_budget", "key:alice", "7/day", "--remove")
    assert (out, "no such budget" in err) == ("", True)
    assert list(alice.budgets.filter(active=True).values_list("unit", flat=True)) == ["tokens"]
    run("set_budget", "key:alice", "5/day")
    assert alice.budgets.filter(active=True, deleted_at=None).count() == 2


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["Acme", "1/day"], "“Acme” isn't an owner: expected customer:NAME, team:CUSTOMER/TEAM or key:NAME"),
        (["user:Acme", "1/day"], "isn't an owner"),
        (["key:", "1/day"], "isn't an owner"),
        (["customer:Nobody", "1/day"], "there is no customer “Nobody”"),
        (["team:Acme/Nobody", "1/day"], "there is no team “Acme/Nobody”"),
        (["key:nobody", "1/day"], "there is no virtual key “nobody”"),
        (["team:Shared", "1/day"], "“Shared” may mean several teams: team:Acme/Shared, team:Other/Shared"),
        (["key:alice", "1/day", "--thresholds", "50,many"], "“many” isn't a threshold"),
        (["key:alice", "1/day", "--thresholds", "0"], "“0” isn't a threshold"),
        (["key:alice", "1/day", "--models", "a b"], "not a model name or pattern"),
        (["key:alice", "1/day", "--provider-key", "nobody"], "no provider key “nobody”"),
        (["customer:Acme", "1/day", "--provider-key", "echo"], "Only what belongs to a virtual key"),
        (["key:alice", "0/prepaid", "--rolling"], "no windows that could roll"),
        (["key:alice", "day"], "isn't a budget"),
        (["key:alice", "fortnight", "--remove"], "isn't a period"),
        (["key:alice"], "required"),
    ],
)
def test_it_refuses_what_it_cannot_do_and_changes_nothing(arguments, complaint):
    for name in ("Acme", "Other"):
        Team.objects.create(customer=Customer.objects.get_or_create(name=name)[0], name="Shared")
    assert complaint in refusal("set_budget", *arguments)
    assert not Budget.objects.exists()


def test_a_team_may_go_without_its_customer_and_names_may_have_slashes():
    run("set_budget", "team:Research", "1/day")
    team = Team.objects.create(customer=Customer.objects.create(name="A/B"), name="C/D")
    run("set_budget", "team:A/B/C/D", "1/day")
    assert Budget.objects.filter(team=team).count() == 1
    assert Budget.objects.filter(team__name="Research").count() == 1


def test_a_prepaid_balance_is_topped_up_with_a_reason_and_an_author():
    run("set_budget", "customer:Acme", "0/prepaid")
    run("top_up", "customer:Acme", "500", "--reason", "invoice 7", "--author", "Finance")
    out, _ = run("top_up", "customer:Acme", "-0.5", "--reason", "typing error")
    assert out == "$499.50 prepaid for customer Acme\n"
    first, second = TopUp.objects.order_by("pk")
    assert (first.amount, first.reason, first.author) == (Decimal(500), "invoice 7", "Finance")
    assert (second.amount, bool(second.author)) == (Decimal("-0.5"), True)
    run("set_budget", "customer:Acme", "0/prepaid/soft", "--thresholds", "80")
    assert Budget.objects.get().amount == Decimal("499.5")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["customer:Acme", "5", "--reason", "x"], "“Acme” has no prepaid balance: create one with set_budget"),
        (["key:alice", "5", "--reason", "x", "--tokens"], "set_budget OWNER 0tokens/prepaid"),
        (["key:alice", "5"], "--reason"),
        (["key:alice", "5", "--reason", "  "], "--reason is empty: say why"),
        (["key:alice", "0", "--reason", "x"], "The amount of a top-up can't be zero"),
        (["key:alice", "much", "--reason", "x"], "“much” isn't an amount"),
        (["team:Nobody", "5", "--reason", "x"], "no team"),
    ],
)
def test_it_tops_up_nothing_where_something_is_wrong(arguments, complaint):
    run("set_budget", "key:alice", "0/prepaid")
    assert complaint in refusal("top_up", *arguments)
    assert not TopUp.objects.exists()


def test_a_top_up_of_several_prepaid_balances_is_refused():
    run("set_budget", "key:alice", "0/prepaid")
    run("set_budget", "key:alice", "0/prepaid", "--models", "claude-*")
    assert "more than one prepaid balance" in refusal("top_up", "key:alice", "5", "--reason", "x")


@pytest.mark.django_db(transaction=True)
def test_two_commands_that_set_the_same_budget_at_once_make_one(alice):
    ready = threading.Barrier(4)

    def put():
        ready.wait(30)
        budget_terms.put(alice, budget_terms.parse("5/day"))
        connection.close()

    threads = [threading.Thread(target=put) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert alice.budgets.count() == 1


@pytest.mark.parametrize("name", ["set_budget", "top_up"])
def test_every_command_has_help_with_an_example(name):
    command = load_command_class("usage", name)
    assert "manage.py " in command.help
    assert "OWNER" in command.create_parser("manage.py", name).format_help()


def test_an_owner_of_each_kind_is_found(alice):
    make_provider_key("other")
    assert owners.find(" key:alice ") == alice
    assert owners.field(owners.find("team:Acme / Research")) == "team"


@pytest.mark.parametrize("named", ["day", "day/soft", "5/day", "9/day/hard"])
def test_a_budget_is_removed_by_its_period_even_if_other_terms_differ(alice, named):
    run("set_budget", "key:alice", "5/day/soft")
    run("set_budget", "key:alice", named, "--remove")
    assert not alice.budgets.filter(active=True).exists()


def paces(owner):
    return [
        (limit.kind, limit.rate, limit.burst, limit.count_cached, limit.model_patterns)
        for limit in owner.limits.filter(active=True).order_by("pk")
    ]


def test_limits_are_set_and_set_again(alice):
    owner = "virtual key alice of Acme / Research"
    said = f"60 requests a minute for {owner}, 10 at once\n4 calls at once for {owner}\n"
    for _ in range(2):
        assert run("set_limit", "key:alice", "--rpm", "60", "--parallel", "4")[0] == said
    run("set_limit", "key:alice", "--rpm", "90")
    assert paces(alice) == [("rpm", 90, None, False, []), ("parallel", 4, None, False, [])]


def test_issuing_a_key_names_the_burst():
    out, err = run(
        "issue_virtual_key", "ci", "--customer", "Acme", "--rpm", "60", "--output-tpm", "8000", "--parallel", "4"
    )
    assert out.startswith("sk-bf-")
    assert "60 requests a minute for virtual key ci of Acme, 10 at once." in err
    assert "8,000 output tokens a minute for virtual key ci of Acme, 800 at once." in err
    assert "calls at once for" not in err


def test_thresholds_without_an_alert_target_get_a_warning(alice):
    others = Customer.objects.create(name="Others")
    AlertTarget.objects.create(channel="email", address="theirs@example.com", customer=others)
    ours = AlertTarget.objects.create(channel="email", address="off@example.com", active=False)
    arguments = ("set_budget", "key:alice", "5/day", "--thresholds", "80")
    assert "there is no active alert target" in run(*arguments)[1]
    AlertTarget.objects.filter(pk=ours.pk).update(active=True)
    assert run(*arguments)[1] == ""


@pytest.mark.parametrize("owner", ["customer:Acme", "team:Acme/Research", "key:alice"])
def test_every_owner_can_have_limits(owner):
    run("set_limit", owner, "--output-tpm", "8000")
    assert owners.find(owner).limits.get().rate == 8000


def test_terms_of_a_limit_that_are_left_out_keep_their_values(alice):
    run("set_limit", "key:alice", "--input-tpm", "40000", "--burst", "9000", "--count-cached")
    run("set_limit", "key:alice", "--input-tpm", "50000")
    assert paces(alice) == [("input_tpm", 50_000, 9_000, True, [])]
    run("set_limit", "key:alice", "--input-tpm", "50000", "--burst", "0", "--no-count-cached")
    assert paces(alice) == [("input_tpm", 50_000, None, False, [])]


def test_limits_for_other_models_and_provider_keys_are_others(alice):
    for arguments in ([], ["--models", "claude-opus-*"], ["--models", "claude-opus-*"], ["--provider-key", "echo"]):
        run("set_limit", "key:alice", "--rpm", "60", *arguments)
    assert alice.limits.count() == 3


def test_limits_are_not_removed_by_a_number(alice):
    run("set_limit", "key:alice", "--rpm", "60")
    with pytest.raises(CommandError, match="without a number"):
        run("set_limit", "key:alice", "--rpm", "5", "--remove")
    assert alice.limits.filter(active=True).count() == 1


def test_limits_are_removed_and_removed_again(alice):
    run("set_limit", "key:alice", "--rpm", "60", "--parallel", "4")
    run("set_limit", "key:alice", "--rpm", "30", "--models", "claude-opus-*")
    out, err = run("set_limit", "key:alice", "--rpm", "--remove")
    assert (out, err) == ("Removed: 60 requests a minute for virtual key alice of Acme / Research\n", "")
    out, err = run("set_limit", "key:alice", "--rpm", "--remove")
    assert out == ""
    assert "There is no such limit of requests a minute." in err
    assert [limit[:2] for limit in paces(alice)] == [("parallel", 4), ("rpm", 30)]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["key:alice"], "name at least one limit: --rpm, --input-tpm, --output-tpm, --parallel"),
        (["key:alice", "--remove"], "name at least one limit"),
        (["key:alice", "--rpm"], "--rpm: “” isn't a limit: expected a whole number of at least 1"),
        (["key:alice", "--rpm", "0"], "--rpm: “0” isn't a limit"),
        (["key:alice", "--rpm=-1"], "--rpm: “-1” isn't a limit"),
        (["key:alice", "--rpm", "1e3"], "--rpm: “1e3” isn't a limit"),
        (["key:alice", "--rpm", "99999999999999999999"], "isn't a limit"),
        (["key:alice", "--rpm", "60", "--burst", "x"], "--burst: “x” isn't a limit"),
        (["key:alice", "--rpm", "60", "--parallel", "4", "--burst", "5"], "--burst applies to one limit"),
        (["key:alice", "--parallel", "4", "--burst", "5"], "burst: A limit of calls at once has no burst"),
        (["key:alice", "--rpm", "60", "--count-cached"], "add --input-tpm N"),
        (["key:alice", "--rpm", "60", "--models", "a b"], "“a b”"),
        (["key:alice", "--rpm", "60", "--provider-key", "nobody"], "there is no provider key “nobody”"),
        (["key:alice", "--rpm", "60", "--provider-key", ""], "there is no provider key “”"),
        (["team:Acme/Research", "--rpm", "60", "--provider-key", "echo"], "Only what belongs to a virtual key"),
        (["key:bob", "--rpm", "60"], "there is no virtual key “bob”"),
        (["alice", "--rpm", "60"], "isn't an owner"),
    ],
)
def test_impossible_limits_change_nothing(arguments, complaint):
    run("set_limit", "key:alice", "--rpm", "7")
    assert complaint in refusal("set_limit", *arguments)
    assert Limit.objects.get().rate == 7
