"""manage.py remove_second_factors"""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandParser

from administration.sign_in import lost
from keys import commands
from keys.errors import Unusable


class Command(commands.GatewayCommand):
    help = (
        "Remove the second factors and recovery codes of a person who has lost them, and end the person's sessions. "
        "The link to single sign-on goes too if the person has a password. "
        "Example: manage.py remove_second_factors alice"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("user", metavar="USER", help="the user name of a person")

    def handle(self, **options: Any) -> None:
        user = get_user_model()._default_manager.filter(username=options["user"]).first()
        if user is None:
            raise Unusable(f"there is no user “{options['user']}”")
        count = lost.remove_second_factors(user)
        self.say(f"Removed second factors of {user.get_username()}: {count}.")
