"""Terms of a key, its budgets and its limits are refused by the same rules whichever way they are changed: on pages and
their inlines, by REST, by commands and in a file."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.test import Client

from keys import issuing
from keys.models import Customer, Team, VirtualKey, VirtualKeyRoute
from tests.support.admin_forms import faults, save, send, shown
from tests.support.issued import make_key, make_provider_key
from tests.support.issuing_form import terms as issuing_terms
from tests.support.rest import Program
from usage.models import Budget, Limit

pytestmark = pytest.mark.django_db

Terms = dict[str, Any]


class Ways:
    """The ways to change Alice's key. Each returns why it was refused; empty: it was not."""

    def __init__(self, folder: Path) -> None:
        boss = User.objects.create_superuser("boss")
        self.pages, self.program, self.folder = Client(), Program(boss), folder
        self.pages.force_login(boss)
        self.echo = make_provider_key(model_patterns=["echo-*", "a-*"])
        make_provider_key("spare", model_patterns=["echo-*"])
        self.numbers, self.form = itertools.count(), dict[str, Any]()
        self.key, _ = make_key("alice")
        self.others = Team.objects.create(customer=Customer.objects.create(name="Globex"), name="Sales")

    # Ways to change a key

    def key_page(self, terms: Terms) -> str:
        return self.key_form(**fields(terms))

    def key_rest(self, terms: Terms) -> str:
        return self.said(self.program.patch(f"virtual-keys/{self.key.pk}", self.members(terms)))

    def key_file(self, terms: Terms) -> str:
        return self.applied({"name": "alice", **self.filed(terms)})

    # Ways to issue a key

    def new_page(self, terms: Terms) -> str:
        shown = {"name": self.fresh(), "team": self.key.team_id, **fields(terms)}
        weight = shown.pop("routes__0__weight", "")
        shown |= {f"weight_{self.echo.pk}": weight} if weight else {}
        answer = self.pages.post("/admin/keys/virtualkey/add/", issuing_terms(**shown))
        form = answer.context["form"] if answer.context and "form" in answer.context else None
        return str(form.errors) if form is not None else ""

    def new_rest(self, terms: Terms) -> str:
        owner = {"customer_id": self.key.customer_id, "team_id": self.key.team_id}
        return self.said(
            self.program.ask("POST", "virtual-keys", {"name": self.fresh(), **owner, **self.members(terms)})
        )

    def new_file(self, terms: Terms) -> str:
        return self.applied({"name": self.fresh(), **self.filed(terms)})

    # Ways to give it a budget or a limit

    def budget_page(self, terms: Terms) -> str:
        url, given = "/admin/usage/budget/add/", budget_fields(terms)
        return self.refused(self.pages.post(url, {"virtual_key": self.key.pk, "active": "on", **given}))

    def budget_inline(self, terms: Terms) -> str:
        return self.inline("budgets", budget_fields(terms))

    def budget_rest(self, terms: Terms) -> str:
        body = {
            name: value
            for name, value in terms.items()
            if name != "amount" or terms.get("period") != "none" or value != "0"
        }
        return self.said(self.program.ask("POST", "budgets", {"virtual_key_id": self.key.pk, **body}))

    def budget_command(self, terms: Terms) -> str:
        text = budget_text(terms)
        options: Terms = {name: terms[name] for name in ("rolling", "models") if name in terms}
        if "thresholds" in terms:
            options["thresholds"] = ",".join(map(str, terms["thresholds"]))
        return self.commanded("set_budget", "key:alice", text, **options)

    def budget_file(self, terms: Terms) -> str:
        more = {name: terms[name] for name in ("rolling", "models", "thresholds") if name in terms}
        return self.applied({"name": "alice", "budgets": [{"budget": budget_text(terms), **more}]})

    def limit_page(self, terms: Terms) -> str:
        given = {"virtual_key": self.key.pk, "active": "on", **limit_fields(terms)}
        return self.refused(self.pages.post("/admin/usage/limit/add/", given))

    def limit_inline(self, terms: Terms) -> str:
        return self.inline("limits", limit_fields(terms))

    def limit_rest(self, terms: Terms) -> str:
        return self.said(self.program.ask("POST", "limits", {"virtual_key_id": self.key.pk, **terms}))

    def limit_file(self, terms: Terms) -> str:
        rest = {name: value for name, value in terms.items() if name != "kind"}
        return self.applied({"name": "alice", "limits": {terms["kind"]: rest}})

    # What they have in common

    def key_form(self, **changes: Any) -> str:
        """Send the form of the key's page, as it was when it was first opened."""
        url = f"/admin/keys/virtualkey/{self.key.pk}/change/"
        self.form = self.form or shown(self.pages.get(url))
        return self.refused(send(self.pages, url, self.form, **changes))

    def fresh(self) -> str:
        """A name that no key has."""
        return f"new {next(self.numbers)}"

    def inline(self, part: str, *rows: Terms) -> str:
        """Add rows on the key's page, after those that are there."""
        first = getattr(self.key, part).filter(active=True).count()
        given = {f"{part}__{n}__{name}": value for n, row in enumerate(rows, first) for name, value in row.items()}
        return self.key_form(**{f"{part}__TOTAL_FORMS": first + len(rows)}, **given)

    def refused(self, answer: Any) -> str:
        assert answer.status_code in (200, 302), answer.status_code
        return faults(answer) if answer.status_code == 200 else ""

    def said(self, answer: Any) -> str:
        return str(answer.json()["error"]["message"]) if answer.status_code >= 400 else ""

    def commanded(self, name: str, *arguments: Any, **options: Any) -> str:
        try:
            call_command(name, *arguments, **options, stdout=io.StringIO(), stderr=io.StringIO())
        except CommandError as error:
            return str(error)
        return ""

    def applied(self, key: Terms) -> str:
        path = self.folder / "keys.yaml"
        team = {"name": "Research", "keys": [key]}
        path.write_text(json.dumps({"customers": [{"name": "Acme", "teams": [team]}]}))
        return self.commanded("apply", file=path, secrets=self.folder / "secrets.csv")

    def members(self, terms: Terms) -> Terms:
        """The terms as REST names them."""
        found = dict(terms)
        if "weight" in found:
            found["routes"] = [{"provider_key_id": self.echo.pk, "weight": found.pop("weight")}]
        if "team" in found:
            found["team_id"] = self.others.pk
            del found["team"]
        return found

    def filed(self, terms: Terms) -> Terms:
        """The terms as a file names them."""
        named = {"allowed_models": "models", "denied_models": "deny_models"}
        found = {named.get(name, name): value for name, value in terms.items()}
        if "weight" in found:
            found["provider_keys"] = {"echo": found.pop("weight")}
        return found


def lines_of(labels: Terms) -> str:
    """Labels as a form takes them. What isn't text is nothing that a person can enter."""
    strings = all(isinstance(value, str) for value in labels.values())
    return "\n".join(f"{name}={value}" for name, value in labels.items()) if strings else json.dumps(labels)


def fields(terms: Terms) -> Terms:
    """The terms as a key's form names them."""
    found: Terms = {}
    for name, value in terms.items():
        if name == "expires_at":
            found["expires_at"] = value[:16]
        elif name == "weight":
            found["routes__0__weight"] = str(value)
        else:
            found[name] = (
                ", ".join(value)
                if isinstance(value, list)
                else lines_of(value)
                if isinstance(value, dict)
                else str(value)
            )
    return found


def budget_fields(terms: Terms) -> Terms:
    plain = {"unit": "usd", "amount": "1", "period": "month", "enforcement": "hard", "thresholds": "", "models": ""}
    given = {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in terms.items()}
    found = plain | given
    if found.pop("rolling", False):
        found["rolling"] = "on"
    return found | {"model_patterns": found.pop("models")}


def budget_text(terms: Terms) -> str:
    unit = "tokens" if terms.get("unit") == "tokens" else ""
    period = terms.get("period", "month")
    return f"{terms.get('amount', '1')}{unit}/{'prepaid' if period == 'none' else period}"


def limit_fields(terms: Terms) -> Terms:
    plain = {"burst": "", "models": ""}
    given = {name: "on" if value is True else value for name, value in terms.items()}
    found = plain | {name: ", ".join(value) if isinstance(value, list) else value for name, value in given.items()}
    return found | {"model_patterns": found.pop("models")}


@pytest.fixture
def ways(settings: Any, tmp_path: Path) -> Ways:
    settings.VAR_DIR = tmp_path
    return Ways(tmp_path)


# Terms that no way may accept.
OF_KEYS: list[Terms] = [
    {"owner": "a\x07b"},
    {"owner": "x" * 201},
    {"name": "a\x07b"},
    {"allowed_models": ["é"]},
    {"denied_models": ["é"]},
    {"allowed_models": ["claude-9"]},
    {"fallback_models": ["a-*"]},
    {"fallback_models": [f"a-{n}" for n in range(11)]},
    {"max_tokens": 5, "default_max_tokens": 9},
    {"expires_at": "2020-01-01T00:00:00Z"},
    {"labels": {"a": 5}},
    {"labels": {str(n): "x" for n in range(21)}},
    {"weight": 0},
    {"weight": 1_000_001},
]
OF_BUDGETS: list[Terms] = [
    {"amount": "0.5", "unit": "tokens"},
    {"amount": "-1"},
    {"amount": "10000000000000000"},
    {"thresholds": [0]},
    {"thresholds": [1001]},
    {"models": ["a b"]},
    {"amount": "5", "period": "none"},
    {"amount": "0", "period": "none", "rolling": True},
    {"period": "fortnight"},
]
OF_LIMITS: list[Terms] = [
    {"kind": "rpm", "rate": 0},
    {"kind": "rpm", "rate": 10**15 + 1},
    {"kind": "parallel", "rate": 5, "burst": 2},
    {"kind": "rpm", "rate": 5, "count_cached": True},
    {"kind": "rpm", "rate": 5, "models": ["a b"]},
]


def accepted(doing: Sequence[Callable[[Terms], str]], given: Terms) -> list[str]:
    """The names of the ways that have accepted something."""
    return [do.__name__ for do in doing if not do(given)]


def as_stored() -> list[Any]:
    models = (VirtualKey, VirtualKeyRoute, Budget, Limit)
    return [list(model.objects.order_by("pk").values()) for model in models]


@pytest.mark.long
def test_no_way_accepts_what_another_refuses(ways: Ways) -> None:
    before, faults_ = as_stored(), []
    for given in OF_KEYS:
        doing = [ways.key_page, ways.key_rest, ways.key_file, ways.new_page, ways.new_rest, ways.new_file]
        if "name" in given:
            doing = [ways.key_page, ways.key_rest]
        faults_ += [f"{way}: {given}" for way in accepted(doing, given)]
    for given in OF_BUDGETS:
        doing = [ways.budget_page, ways.budget_inline, ways.budget_rest, ways.budget_command, ways.budget_file]
        faults_ += [f"{way}: {given}" for way in accepted(doing, given)]
    for given in OF_LIMITS:
        doing = [ways.limit_page, ways.limit_inline, ways.limit_rest, ways.limit_file]
        faults_ += [f"{way}: {given}" for way in accepted(doing, given)]
    assert not faults_, "\n".join(faults_)
    assert as_stored() == before


def test_an_owner_has_one_budget_and_one_limit_of_a_scope_whichever_way_they_are_added(ways: Ways) -> None:
    off = Budget.objects.create(virtual_key=ways.key, amount=1, active=False)
    other = Limit.objects.create(virtual_key=ways.key, kind="rpm", rate=1, active=False)
    Budget.objects.create(virtual_key=ways.key, amount=2)
    Limit.objects.create(virtual_key=ways.key, kind="rpm", rate=2)
    before = as_stored()
    second = "This owner already has a {} {}"
    budget, limit = second.format("budget", "with this unit, period and scope"), second.format("limit", "of this kind")
    on = {"active": "on", "thresholds": "", "burst": ""}
    assert budget in ways.budget_page({})
    assert budget in ways.budget_inline({})
    assert "already has such a budget" in ways.budget_rest({"amount": "5"})
    assert budget in ways.refused(save(ways.pages, f"/admin/usage/budget/{off.pk}/change/", **on))
    assert budget in ways.said(ways.program.patch(f"budgets/{off.pk}", {"active": True}))
    assert limit in ways.limit_page({"kind": "rpm", "rate": "5"})
    assert limit in ways.limit_inline({"kind": "rpm", "rate": "5"})
    assert "already has such a limit" in ways.limit_rest({"kind": "rpm", "rate": 5})
    assert limit in ways.refused(save(ways.pages, f"/admin/usage/limit/{other.pk}/change/", **on))
    assert limit in ways.said(ways.program.patch(f"limits/{other.pk}", {"active": True}))
    # Two in one form, of which neither is there yet.
    row = budget_fields({"period": "day"})
    assert budget in ways.inline("budgets", row, row)
    assert as_stored() == before
    # Commands and files change the one that is there.
    assert ways.budget_command({"amount": "7"}) == ""
    assert ways.budget_file({"amount": "8"}) == ""
    assert Budget.objects.get(active=True).amount == Decimal(8)


def test_the_scope_of_a_budget_stays_whichever_way_it_is_changed(ways: Ways) -> None:
    budget = Budget.objects.create(virtual_key=ways.key, amount=1, model_patterns=["a-*"])
    limit = Limit.objects.create(virtual_key=ways.key, kind="rpm", rate=1, model_patterns=["a-*"])
    for name, row in (("budget", budget), ("limit", limit)):
        save(ways.pages, f"/admin/usage/{name}/{row.pk}/change/", model_patterns="b-*")
        answer = ways.program.patch(f"{name}s/{row.pk}", {"models": ["b-*"]})
        assert "models" in answer.json()["error"]["fields"]
        row.refresh_from_db()
        assert row.model_patterns == ["a-*"]


def test_a_revoked_key_gets_no_terms_whichever_way(ways: Ways) -> None:
    page = ways.pages.get(f"/admin/keys/virtualkey/{ways.key.pk}/change/")
    issuing.revoke(ways.key)
    before = as_stored()
    doing = [ways.key_rest, ways.budget_page, ways.budget_rest, ways.budget_command]
    given: dict[str, Terms] = {"key_rest": {"owner": "bob"}}
    assert [do.__name__ for do in doing if not do(given.get(do.__name__, {}))] == []
    assert page.status_code == 200
    sent = ways.pages.post(f"/admin/keys/virtualkey/{ways.key.pk}/change/", {"owner": "bob"})
    assert sent.status_code == 403
    assert as_stored() == before
