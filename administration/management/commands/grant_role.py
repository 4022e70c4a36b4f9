"""manage.py grant_role"""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.exceptions import ValidationError
from django.core.management.base import CommandParser

from administration.role_names import Role
from administration.roles import giving
from keys import commands
from keys.errors import Unusable
from keys.models import Customer, Team
from usage import owners


class Command(commands.GatewayCommand):
    help = (
        "Give a person a role: for everything, for one customer or for one team. Giving it twice changes nothing. "
        "Examples: manage.py grant_role alice owner; grant_role bob team_admin --team Acme/Research; grant_role carol "
        "finance --customer Acme"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help="the user name of a person who can sign in")
        parser.add_argument("role", choices=Role.values, metavar="ROLE", help=", ".join(Role.values))
        scope = parser.add_mutually_exclusive_group()
        scope.add_argument("--customer", metavar="NAME", help="only for this customer, its teams and keys")
        scope.add_argument("--team", metavar="CUSTOMER/TEAM", help="only for this team and its keys")

    def handle(self, **options: Any) -> None:
        user = get_user_model()._default_manager.filter(username=options["user"]).first()
        if user is None:
            raise Unusable(f"there is no user “{options['user']}”: add the person under People in the admin")
        customer = owners.find(f"customer:{options['customer']}") if options["customer"] is not None else None
        team = owners.find(f"team:{options['team']}") if options["team"] is not None else None
        assert customer is None or isinstance(customer, Customer)
        assert team is None or isinstance(team, Team)
        try:
            grant = giving.give(None, user, options["role"], customer=customer, team=team)
        except ValidationError as error:
            raise Unusable(" ".join(error.messages)) from None
        self.say(f"{user.get_username()} has the role: {grant}.")
