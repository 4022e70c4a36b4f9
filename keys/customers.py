"""Finds the customer and team that a person names, adds those that don't exist yet, and changes them."""

from __future__ import annotations

from keys import names
from keys.errors import Unusable, refused
from keys.models import Customer, Team


def find_or_add(customer: str = "", team: str = "") -> tuple[Customer, Team | None]:
    """Find the customer and team of these names, and add them if they are new.

    Without a customer's name, the team's customer is used. Without either, the only customer is used.

    Raises:
        Unusable: a name is invalid, or the customer is ambiguous.
    """
    if customer:
        payer = Customer.objects.get_or_create(name=names.check(customer, "the customer"))[0]
    else:
        payer = _implied(team)
    if not team:
        return payer, None
    return payer, Team.objects.get_or_create(customer=payer, name=names.check(team, "the team"))[0]


def save(row: Customer | Team) -> None:
    """Save a new or changed customer or team.

    Raises:
        Unusable: the name is taken, or a value is invalid.
    """
    what = "customer" if isinstance(row, Customer) else "team"
    row.name = names.check(row.name, f"the {what}")
    taken = f"another {what} is named “{row.name}”: choose another name"
    with refused():
        row.full_clean(validate_unique=False, validate_constraints=False)
    with names.unique(taken):
        row.save()


def _implied(team: str) -> Customer:
    if team:
        owners = list(Customer.objects.filter(teams__name=team.strip())[:2])
        if len(owners) == 1:
            return owners[0]
        if owners:
            raise Unusable(f"several customers have a team “{team.strip()}”: name one with --customer")
    customers = list(Customer.objects.all()[:2])
    if len(customers) == 1:
        return customers[0]
    raise Unusable(f"there {'are several customers' if customers else 'is no customer yet'}: name one with --customer")
