"""Creates what the first request needs: tables, the arbiter's functions, static files and, on an empty database,
objects to try the gateway with.

The first objects (an administrator, a customer with a team, the echo provider and a virtual key) are made only while
there is neither a user nor a customer. Their secrets go to the screen, once, and nowhere else.
"""

from __future__ import annotations

import os
import secrets
import sys
from dataclasses import dataclass

import django
from django.contrib.auth import get_user_model
from django.core.management import CommandError, call_command
from django.db import OperationalError, connection, transaction

from gateway_project import static_files, supervisor, unavailable
from gateway_project.configuration import configuration
from gateway_project.embedded_postgres import CannotStart

OLDEST_POSTGRES = 15
# Two machines may start at once: one migrates, the other waits for this advisory lock. The number is arbitrary.
SET_UP_LOCK = 7_262_046

WELCOME = """
This is shown once. Note it now.

  Admin pages   {address}/admin/
  User          admin
  Password      {password}
  Virtual key   {key}

Try it with curl:

curl {address}/v1/messages -H 'x-api-key: {key}' \\
  -H 'anthropic-version: 2023-06-01' -H 'content-type: application/json' \\
  -d '{{"model": "echo-1", "max_tokens": 100, "messages": [{{"role": "user", "content": "Hello!"}}]}}'

or with Anthropic's SDK:

from anthropic import Anthropic
client = Anthropic(base_url="{address}", api_key="{key}")
question = {{"role": "user", "content": "Hello!"}}
answer = client.messages.create(model="echo-1", max_tokens=100, messages=[question])
print(answer.content[0].text)
"""


@dataclass(frozen=True)
class FirstSecrets:
    """What the first run made, in plain text."""

    password: str
    key: str


def set_up() -> FirstSecrets | None:
    """Bring the database and the static files up to date. Returns the objects that were created if the database was
    empty.

    Raises:
        CannotStart: the database can't be reached, is too old or can't be migrated, or the static files can't be
            written.
    """
    check_database()
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(%s)", [SET_UP_LOCK])
    try:
        # This also creates the arbiter's functions of this version (usage/functions.py).
        call_command("migrate", verbosity=0, interactive=False)
    except CommandError as error:
        raise CannotStart(str(error)) from None
    collect_static_files()
    # Their secrets are shown once, with the gateway's address. So a machine that listens creates them.
    made = make_first_objects() if configuration().serves_web else None
    ensure_passthrough()
    tell_of_addresses()
    connection.close()
    return made


def check_database() -> None:
    try:
        connection.ensure_connection()
    except OperationalError as error:
        raise CannotStart(unavailable.explain(error)) from None
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('server_version_num')::int / 10000")
        (version,) = cursor.fetchone()
    if version < OLDEST_POSTGRES:
        raise CannotStart(f"DATABASE_URL: PostgreSQL {OLDEST_POSTGRES} or later is needed, this is {version}.")


def collect_static_files() -> None:
    try:
        static_files.collect()
    except (OSError, ValueError) as error:
        raise CannotStart(f"The static files of pages can't be collected: {error}") from None


@transaction.atomic
def make_first_objects() -> FirstSecrets | None:
    """Create the objects to try the gateway with, unless there is a user or a customer already."""
    from keys.issuing import issue_virtual_key
    from keys.models import Customer, Team
    from keys.provider_keys import add_provider_key

    if get_user_model().objects.exists() or Customer.objects.exists():
        return None
    password = secrets.token_urlsafe(15)
    get_user_model().objects.create_superuser("admin", password=password)
    customer = Customer.objects.create(name="Example")
    team = Team.objects.create(customer=customer, name="Example team")
    echo = add_provider_key(name="echo", provider="echo", model_patterns=["echo*"])
    _, key = issue_virtual_key(name="example", customer=customer, team=team, provider_keys=[(echo, 1)])
    return FirstSecrets(password, key)


def tell_of_addresses() -> None:
    """Warn about saved addresses that the deployment doesn't permit."""
    from usage import saved_addresses

    for line in saved_addresses.uncovered():
        print(f"Warning: {line}", file=sys.stderr, flush=True)


def ensure_passthrough() -> None:
    """If the deployment accepts the provider's own keys, create the virtual key under which their calls are recorded.

    Raises:
        CannotStart: the customer that the deployment names doesn't exist.
    """
    customer = configuration().passthrough_customer
    if not customer:
        return
    from keys.errors import Unusable
    from keys.issuing import ensure_passthrough_key

    try:
        ensure_passthrough_key(customer)
    except Unusable as error:
        raise CannotStart(str(error)) from None


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    django.setup()
    from keys.audit import actor

    try:
        with actor.acting(lambda: actor.Actor("system", "start")):
            made = set_up()
    except CannotStart as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    if made:
        address = supervisor.address_of(configuration())
        print(WELCOME.format(address=address, password=made.password, key=made.key), flush=True)


if __name__ == "__main__":
    main()
