from __future__ import annotations

import os
import sys
from typing import Any

from django.core.management.base import CommandParser

from keys import commands, provider_checks, provider_keys, provider_kinds
from keys.commands import GatewayCommand
from keys.errors import Unusable
from keys.models import CheckState, ProviderKey
from keys.timeouts import Timeouts

PATIENCE = {
    "connect": "to connect",
    "first-byte": "from the end of a request to the first byte of its answer",
    "between-bytes": "between two pieces of an answer",
    "total": "for a whole call, including its answer",
}


class Command(GatewayCommand):
    help = (
        "Add a provider key: an account with a provider. The command reads its secret from an environment variable or "
        "from stdin, never from the command line, and stores it encrypted. Example: echo $KEY | manage.py "
        "add_provider_key main --provider anthropic --secret-stdin. A request that costs nothing tests the provider "
        "key; a failed test is reported, and the provider key is kept."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        places, payers = (", ".join(provider_kinds.names(**{it: True})) for it in ("takes_region", "takes_project"))
        parser.add_argument("name", metavar="NAME", help="the name of the provider key in this gateway")
        parser.add_argument(
            "--provider",
            required=True,
            choices=provider_kinds.names(),
            help="the kind of provider, which sets the protocol",
        )
        parser.add_argument(
            "--base-url", default="", metavar="URL", help="where to call it; default: the provider's own address"
        )
        parser.add_argument(
            "--region", default="", help=f"the region to call, like eu-central-1 or global (for {places})"
        )
        parser.add_argument(
            "--project", default="", help=f"the project that is billed (for {payers}); default: the secret's own"
        )
        parser.add_argument(
            "--models",
            nargs="+",
            action="extend",
            default=[],
            metavar="PATTERN",
            help="the models that it serves, like claude-haiku-4-5 or claude-*; default: all",
        )
        for option, what in PATIENCE.items():
            parser.add_argument(
                f"--{option}-seconds", metavar="N", help=f"timeout in seconds {what}; default: the deployment's"
            )
        parser.add_argument(
            "--retry-unanswered",
            action="store_true",
            help="retry requests that were sent and never answered; the first attempt is charged at its ceiling",
        )
        parser.add_argument("--no-check", action="store_true", help="don't test the secret and the address")
        secret = parser.add_mutually_exclusive_group()
        secret.add_argument("--secret-env", metavar="VAR", help="the environment variable that holds the secret")
        secret.add_argument("--secret-stdin", action="store_true", help="read the secret from stdin until end of file")

    def handle(self, **options: Any) -> None:
        added = provider_keys.add_provider_key(
            name=options["name"],
            provider=options["provider"],
            base_url=options["base_url"],
            region=options["region"],
            project=options["project"],
            model_patterns=options["models"],
            secret=read_secret(options["secret_env"], options["secret_stdin"]),
            timeouts=Timeouts(*(commands.seconds(options[f"{each}_seconds".replace("-", "_")]) for each in PATIENCE)),
            retry_unanswered=options["retry_unanswered"],
        )
        self.say(f"Added the provider key “{added}”.")
        if not options["no_check"]:
            self.tell(added)

    def tell(self, added: ProviderKey) -> None:
        """Test the provider key, and print the result."""
        [found] = provider_checks.check(added)
        if found is not None:
            works = found.state == CheckState.WORKS
            self.say(
                f"Tested: {found}.{'' if works else ' The provider key is kept; Test in the admin repeats the test.'}"
            )


def read_secret(variable: str | None, from_stdin: bool) -> str:
    if from_stdin:
        return sys.stdin.read()
    if not variable:
        return ""
    secret = os.environ.get(variable, "")
    if not secret.strip():
        raise Unusable(f"--secret-env: the environment variable {variable} is empty or not set")
    return secret
