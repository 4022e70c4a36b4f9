"""manage.py issue_api_token"""

from __future__ import annotations

from typing import Any

from django.contrib.auth import get_user_model
from django.core.management.base import CommandParser
from django.utils import timezone

from administration.rest import scopes, tokens
from keys import commands
from keys.errors import Unusable


class Command(commands.GatewayCommand):
    help = (
        "Make a token of the REST API for a person, and print it once. It may do what its scopes and the person's "
        "roles allow. Example: manage.py issue_api_token terraform --user admin --scope all:write --expires 90d"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", metavar="NAME", help="what uses the token")
        parser.add_argument("--user", required=True, metavar="USER", help="the person whose roles it has")
        parser.add_argument(
            "--scope",
            action="append",
            default=[],
            metavar="RESOURCE:ACCESS",
            help=f"one or more of {', '.join(scopes.SCOPES)}; default: all:read",
        )
        parser.add_argument(
            "--expires", default="90d", metavar="DURATION", help=f"at most {tokens.LONGEST.days}d; default: 90d"
        )

    def handle(self, **options: Any) -> None:
        users = get_user_model()._default_manager
        user = users.filter(username=options["user"]).first()
        if user is None:
            raise Unusable(f"there is no user “{options['user']}”")
        expires_at = timezone.now() + commands.duration(options["expires"])
        token, plain = tokens.issue(user, options["name"], options["scope"] or ["all:read"], expires_at)
        self.say(f"{', '.join(token.scopes)}; expires {token.expires_at:%Y-%m-%d %H:%M} UTC.")
        self.stdout.write(plain)
