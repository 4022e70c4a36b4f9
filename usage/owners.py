"""Whom budgets and limits belong to, as a person writes it: `customer:Acme`, `team:Acme/Research`, `key:alice`."""

from __future__ import annotations

from keys import virtual_keys
from keys.errors import Unusable
from keys.models import Customer, Team, VirtualKey

Owner = Customer | Team | VirtualKey

KINDS = ("customer", "team", "key")


def find(text: str) -> Owner:
    """The customer, team or virtual key that is meant. A team may go without its customer where only one has such a
    team.

    Raises:
        Unusable: there is none, it is not clear which, or the text names no kind.
    """
    kind, colon, name = text.strip().partition(":")
    name = name.strip()
    if not colon or kind not in KINDS or not name:
        raise Unusable(f"“{text}” names no owner: expected customer:NAME, team:CUSTOMER/TEAM or key:NAME")
    if kind == "team":
        return _team(name)
    if kind == "key":
        return virtual_keys.find(name)
    found = Customer.objects.filter(name=name).first()
    if found is None:
        raise Unusable(f"there is no customer “{name}”")
    return found


def _team(name: str) -> Team:
    # Names may contain slashes themselves.
    pairs = [(name[:at].strip(), name[at + 1 :].strip()) for at, letter in enumerate(name) if letter == "/"]
    teams = Team.objects.select_related("customer")
    found = [team for customer, own in pairs for team in teams.filter(customer__name=customer, name=own)]
    found = found or list(teams.filter(name=name))
    if len(found) == 1:
        return found[0]
    if found:
        whose = ", ".join(f"team:{team.customer}/{team.name}" for team in found)
        raise Unusable(f"several teams may be meant by “{name}”: {whose}")
    raise Unusable(f"there is no team “{name}”: expected team:CUSTOMER/TEAM")


def field(owner: Owner) -> str:
    """The name of the field in which a budget or limit has such an owner."""
    return {Customer: "customer", Team: "team", VirtualKey: "virtual_key"}[type(owner)]
