"""manage.py why"""

from __future__ import annotations

import sys
from typing import Any

from django.core.management.base import CommandParser

from keys import commands, credentials, keyring, virtual_keys
from keys.errors import Unusable
from keys.models import Credential, VirtualKey
from messages_api.relay.why import MOST_TOKENS, Size, WhyAnswer, why
from messages_api.server.errors import GatewayError

STDIN = "-"


class Command(commands.GatewayCommand):
    help = (
        "Say whether a virtual key may call a model now: every gate in order, and what would open a closed one. Exit "
        "code 0: it may; 1: it may not, or only at some of its provider keys. Nothing is held or changed. Example: "
        "manage.py why Acme/Platform/ci claude-opus-4-8 --input-tokens 20000 --max-tokens 4000"
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "key",
            metavar="KEY",
            help=f"the virtual key: {virtual_keys.SAID}; or {STDIN} to read a whole secret from stdin",
        )
        parser.add_argument("model", metavar="MODEL", help="the model, as the call would name it")
        parser.add_argument("--input-tokens", metavar="N", help=f"the prompt's size (default: {Size().input_tokens:,})")
        parser.add_argument("--max-tokens", metavar="N", help="the call's max_tokens (default: the key's)")

    def handle(self, **options: Any) -> None:
        virtual_key, credential = find(options["key"])
        size = Size(
            commands.whole_number(options["input_tokens"]) or Size().input_tokens,
            commands.whole_number(options["max_tokens"]),
        )
        if max(size.input_tokens, size.max_tokens or 0) > MOST_TOKENS:
            raise Unusable(f"no call has more than {MOST_TOKENS:,} tokens")
        try:
            answer = why(virtual_key, options["model"][:200], size, credential)
        except GatewayError as error:
            raise Unusable(error.message) from None
        for line in lines(answer):
            self.stdout.write(line)
        if not answer.may_call:
            sys.exit(1)


def find(text: str) -> tuple[VirtualKey, Credential | None]:
    """The virtual key that a person names, and the credential if it was named by a whole secret on stdin.

    Raises:
        Unusable: there is no such key, or the secret is on the command line.
    """
    if text != STDIN:
        if credentials.is_ours(text):
            raise Unusable(
                "a whole secret doesn't belong on the command line, where other users see it: name the key by its last "
                f"four characters, or give {STDIN} and the secret on stdin"
            )
        return virtual_keys.find(text), None
    secret = sys.stdin.readline(credentials.LENGTH + 2).strip()
    digests = [credentials.digest(secret, pepper.key) for pepper in keyring.peppers()]
    found = Credential.objects.filter(digest__in=digests).select_related("virtual_key").first()
    if found is None:
        raise Unusable("there is no credential with this secret: it was never issued here, or was deleted")
    return found.virtual_key, found


def lines(answer: WhyAnswer) -> list[str]:
    """The answer for a terminal: the gates, then the answer."""
    found = []
    for gate in answer.gates:
        found.append(f"{'yes' if gate.is_open else 'NO '}  {gate.title}: {gate.says}")
        if not gate.is_open:
            found.append(f"     {gate.change}")
    size = f"It would hold ${answer.ceiling.normalize():f} with max_tokens {answer.max_tokens:,}."
    if answer.may_call:
        return [*found, f"The call may be made. {size}"]
    if answer.verdict == "depends":
        return [*found, "It depends on the provider key to which the conversation goes."]
    no = answer.first_no
    return [*found, f"The call is refused. {no.title}: {no.says}" if no else f"The call is refused: {answer.verdict}."]
