"""Who pays: finding the customer and team that somebody named, and adding them at their first mention."""

from __future__ import annotations

from keys import names
from keys.errors import Unusable
from keys.models import Customer, Team


def find_or_add(customer: str = "", team: str = "") -> tuple[Customer, Team | None]:
    """The customer and team of these names, added if new. Without a customer, the team says whose it is; without
    either, the only customer there is.

    Raises:
        Unusable: a name that can't be one, or it is not clear who pays.
    """
    if customer:
        payer = Customer.objects.get_or_create(name=names.check(customer, "the customer"))[0]
    else:
        payer = _implied(team)
    if not team:
        return payer, None
    return payer, Team.objects.get_or_create(customer=payer, name=names.check(team, "the team"))[0]


def _implied(team: str) -> Customer:
    if team:
        owners = list(Customer.objects.filter(teams__name=team.strip())[:2])
        if len(owners) == 1:
            return owners[0]
        if owners:
            raise Unusable(f"several customers have a team “{team.strip()}”: say whose with --customer")
    customers = list(Customer.objects.all()[:2])
    if len(customers) == 1:
        return customers[0]
    raise Unusable("say who pays with --customer" + ("" if customers else ": there is no customer yet"))
