"""A whole deployment in which everything can break: database, broker, gateway, provider, and the wire to it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from reliability import network
from reliability.database import Broker, Database
from reliability.deployment import Gateway, folder, system_user
from reliability.judge import Books
from reliability.network import Space
from reliability.provider import Provider

# A disk for the data folder.
DISK_MEGABYTES = 64
WEB, DATABASE = "web", "database"
KEY = "reliability"
BUDGET = "1000000/year"


@dataclass
class Stage:
    """Everything that can break, a key's credential, and the books."""

    gateway: Gateway
    database: Database
    broker: Broker
    provider: Provider
    wire: Space
    key: str
    books: Books


@contextlib.contextmanager
def running(
    port: int, *, clocks: str = "", webs: int = 4, settings: Mapping[str, str] | None = None
) -> Iterator[Stage]:
    """A deployment while the block runs, on this port and the three after it.

    Args:
        clocks: whose clock can be stepped: WEB or DATABASE; "": none can.
        settings: of the gateway, besides those of the deployment.
    """
    user = system_user()
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(folder())
        wire = stack.enter_context(network.space(1))
        database = Database(place / "postgres", ["127.0.0.1"], port, user, clocks=clocks == DATABASE)
        stack.callback(database.stop)
        broker = Broker(place, ["127.0.0.1"], port + 1)
        stack.callback(broker.kill)
        provider = Provider(place, port + 2, wire)
        stack.callback(provider.program.stop)
        given = {
            "DATABASE_URL": database.url(),
            "CELERY_BROKER_URL": broker.url(),
            "ALLOWED_PRIVATE_HOSTS": wire.address,
            **(settings or {}),
        }
        gateway = Gateway("gateway", place, "127.0.0.1", port + 3, user, given, webs=webs, steps_clocks=clocks == WEB)
        stack.enter_context(network.small_disk(os.fspath(gateway.var), DISK_MEGABYTES, user.uid))
        stack.callback(gateway.stop)
        for each in (database, broker, provider, gateway):
            each.start()
        key = gateway.cast({"main": provider.url}, {KEY: {"budget": [BUDGET]}})[KEY]
        yield Stage(gateway, database, broker, provider, wire, key, Books(database.url()))
