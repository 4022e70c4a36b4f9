from __future__ import annotations

from typing import Any

from keys import keyring, provider_keys
from keys.commands import GatewayCommand

FROM_ENVIRONMENT = """\
Secrets encrypted under the first key in MASTER_KEYS: {count}.
MASTER_KEYS comes from the environment, so only you can add a new key:
  1. create one: python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"
  2. put it first in MASTER_KEYS, before a comma, on every machine, and restart;
  3. run this command again; then you can remove the older keys."""

FROM_FILE = """\
Added a master key. Secrets encrypted under it: {count}.
The older keys stay in {file}, because backups of the database need them. When you need no such backup any more, \
delete every line below the first."""


class Command(GatewayCommand):
    help = "Encrypt the secrets of all provider keys under a new master key. The gateway needs no restart."

    def handle(self, **options: Any) -> None:
        if keyring.in_environment("master_keys"):
            self.say(FROM_ENVIRONMENT.format(count=provider_keys.reencrypt_all()))
        else:
            file, count = provider_keys.rotate_master_key()
            self.say(FROM_FILE.format(file=file, count=count))
