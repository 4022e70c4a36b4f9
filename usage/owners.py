"""Owners of budgets and limits as commands take them: `customer:Acme`, `team:Acme/Research`, `key:alice`."""

from __future__ import annotations

from keys import virtual_keys
from keys.errors import Unusable
from keys.models import Customer, Team, VirtualKey

Owner = Customer | Team | VirtualKey

KINDS = ("customer", "team", "key")


def find(text: str) -> Owner:
    """Find a customer, team or virtual key. A team's customer may be left out if the team's name is unique.

    Raises:
        Unusable: it doesn't exist, several match, or the text doesn't start with a kind.
    """
    kind, colon, name = text.strip().partition(":")
    name = name.strip()
    if not colon or kind not in KINDS or not name:
        raise Unusable(f"“{text}” isn't an owner: expected customer:NAME, team:CUSTOMER/TEAM or key:NAME")
    if kind == "team":
        return _team(name)
    if kind == "key":
        return virtual_keys.find(name)
    found = Customer.objects.filter(name=name).first()
    if found is None:
        raise Unusable(f"there is no customer “{name}”")
    return found


def _team(name: str) -> Team:
    # Names may contain slashes: try every slash as the separator.
    pairs = [(name[:at].strip(), name[at + 1 :].strip()) for at, letter in enumerate(name) if letter == "/"]
    teams = Team.objects.select_related("customer")
    found = [team for customer, own in pairs for team in teams.filter(customer__name=customer, name=own)]
    found = found or list(teams.filter(name=name))
    if len(found) == 1:
        return found[0]
    if found:
        whose = ", ".join(f"team:{team.customer}/{team.name}" for team in found)
        raise Unusable(f"“{name}” may mean several teams: {whose}")
    raise Unusable(f"there is no team “{name}”: expected team:CUSTOMER/TEAM")


def field(owner: Owner) -> str:
    """The field of a budget or limit that refers to this kind of owner."""
    return {Customer: "customer", Team: "team", VirtualKey: "virtual_key"}[type(owner)]
