"""manage.py rotate_master_key"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from keys import keyring, provider_keys
from keys.commands import GatewayCommand
from keys.errors import Unusable

FROM_ENVIRONMENT = """\
Secrets encrypted under the first key in MASTER_KEYS: {count}.
MASTER_KEYS comes from the environment, so only you can add a new key. With no call refused meanwhile:
  1. create one: python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"
  2. put it LAST in MASTER_KEYS, after a comma, on every machine, and restart one after the other: all can read it now;
  3. move it to the first place on every machine, and restart one after the other;
  4. run this command again, then with --forget-older; then you can remove the older keys."""

FROM_FILE = """\
Added a master key. Secrets encrypted under it: {count}.
The older keys stay in {file}, because backups of the database need them. When you need no such backup any more, \
run rotate_master_key --forget-older."""

PREPARED = """\
{file} has a new master key in its last line. It decrypts, and encrypts nothing yet. Copy the file to every machine \
(processes read it again by themselves), then run rotate_master_key --use-prepared, and copy the file once more."""


class Command(GatewayCommand):
    help = (
        "Encrypt the secrets of all provider keys under a new master key. The gateway needs no restart. Where several "
        "machines have copies of the file, run it with --prepare, copy the file, then run it with --use-prepared."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        step = parser.add_mutually_exclusive_group()
        step.add_argument("--prepare", action="store_true", help="add a new key that only decrypts, for now")
        step.add_argument("--use-prepared", action="store_true", help="encrypt everything under the prepared key")
        step.add_argument(
            "--forget-older", action="store_true", help="remove the older keys, if the newest decrypts every secret"
        )

    def handle(self, **options: Any) -> None:
        given = keyring.in_environment("master_keys")
        if given and (options["prepare"] or options["use_prepared"]):
            raise Unusable("MASTER_KEYS comes from the environment: run the command without options for the steps")
        if options["prepare"]:
            self.say(PREPARED.format(file=provider_keys.prepare_master_key()))
        elif options["forget_older"]:
            count = provider_keys.forget_older_master_keys()
            end = "You can remove the older keys from MASTER_KEYS now." if given else "The older keys are gone."
            self.say(f"The newest master key decrypts all secrets: {count}. {end}")
        elif given:
            self.say(FROM_ENVIRONMENT.format(count=provider_keys.reencrypt_all()))
        else:
            rotate = (
                provider_keys.use_prepared_master_key if options["use_prepared"] else provider_keys.rotate_master_key
            )
            file, count = rotate()
            self.say(FROM_FILE.format(file=file, count=count))
