from __future__ import annotations

from typing import Any

from keys import keyring, provider_keys
from keys.commands import GatewayCommand

FROM_ENVIRONMENT = """\
{count} provider keys are encrypted under the first of MASTER_KEYS now.
MASTER_KEYS comes from the environment, so a new one is yours to add:
  1. make one: python -c "from cryptography.fernet import Fernet; print(Fernet.generate_key().decode())"
  2. put it first in MASTER_KEYS, before a comma, on every machine, and restart;
  3. run this command again; then the older ones can go."""

FROM_FILE = """\
Added a master key; {count} provider keys are encrypted under it now.
The older ones stay in {file} for backups of the database: when no such backup matters, delete their lines, below \
the first."""


class Command(GatewayCommand):
    help = "Encrypt the secrets of all provider keys under a new master key. Nothing needs to be restarted."

    def handle(self, **options: Any) -> None:
        if keyring.in_environment("master_keys"):
            self.say(FROM_ENVIRONMENT.format(count=provider_keys.reencrypt_all()))
        else:
            file, count = provider_keys.rotate_master_key()
            self.say(FROM_FILE.format(file=file, count=count))
