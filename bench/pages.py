"""Measures the pages of keys, teams, customers, calls and refusals in a large deployment: `make bench-pages`.

It fills a database of its own, then asks for each page as a browser would, and prints the median, the 95th percentile,
the 95th percentile of the processors' time (of the page and of the database's process; all in milliseconds) and the
number of queries. Where a machine has other work, the time of the processors is what a page would take without it, but
for the disk. It takes many minutes and about 20 GB.

    bench/pages.py --server URL [--keys 400000] [--teams 40000] [--calls 10000000] [--times 20] [--only calls/] [--keep]

`--server`: create the database on this server of this machine. `--only`: pages whose URL has this text. `--keep`: leave
the database, and use it if it is there.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg

ROOT = Path(__file__).resolve().parent.parent
NAME = "bench_pages"
SIZES = ("keys", "teams", "calls", "refusals")
sys.path.insert(0, str(ROOT))


def main() -> None:
    """Fill the database if it isn't there, and measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--server", required=True, metavar="URL")
    for name in SIZES:
        parser.add_argument(f"--{name}", type=int)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    server = urlsplit(given.server)
    with psycopg.connect(server._replace(path="/postgres").geturl(), autocommit=True) as link:
        is_there = bool(link.execute("SELECT FROM pg_database WHERE datname = %s", [NAME]).rowcount)
        if is_there and not given.keep:
            link.execute(f"DROP DATABASE {NAME}")
            is_there = False
        if not is_there:
            link.execute(f"CREATE DATABASE {NAME} TEMPLATE template0")
    os.environ |= {
        "DATABASE_URL": server._replace(path=f"/{NAME}").geturl(),
        "DJANGO_SETTINGS_MODULE": "gateway_project.settings",
    }
    import django

    django.setup()
    if not is_there:
        make({name: size for name in SIZES if (size := getattr(given, name))})
    measure(given.times, given.only)


def make(sizes: dict[str, int]) -> None:
    """Migrate and fill the database; other sizes are those of a large deployment."""
    from django.core.management import call_command

    from keys.connection import parameters
    from tests.support.scale import LARGE, fill

    call_command("migrate", verbosity=0)
    began = time.monotonic()
    with psycopg.connect(**parameters(), autocommit=True, cursor_factory=psycopg.ClientCursor) as link:
        fill(link, replace(LARGE, **sizes))
    print(f"filled in {time.monotonic() - began:,.0f} s", flush=True)


def measure(times: int, only: str) -> None:
    """Print a line for each page."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from tests.support.scaled_pages import pages

    settings.ALLOWED_HOSTS = ["*"]
    user = User.objects.filter(is_superuser=True).first() or User.objects.create_superuser("bench")
    client: Any = Client()
    client.force_login(user)
    print(f"{'page':<72} {'median':>8} {'p95':>8} {'CPU p95':>8} {'queries':>8}")
    for url in (each for each in pages() if only in each):
        took, used, count = [], [], 0
        # The first time fills caches, which a process of pages has after its first minutes.
        client.get(url)
        for _ in range(times):
            began, used_before = time.perf_counter(), processors(connection)
            with CaptureQueriesContext(connection) as queries:
                answer = client.get(url)
            took.append((time.perf_counter() - began) * 1000)
            used.append((processors(connection) - used_before) * 1000)
            count = len(queries)
            assert answer.status_code == 200, (url, answer.status_code)
        figures = f"{statistics.median(took):>8.0f} {high(took):>8.0f} {high(used):>8.0f} {count:>8}"
        print(f"{url[:72]:<72} {figures}", flush=True)


def high(values: list[float]) -> float:
    """The 95th percentile."""
    return sorted(values)[max(0, round(len(values) * 0.95) - 1)]


def processors(connection: Any) -> float:
    """The seconds that this process and the database's process of this connection have used."""
    backend = Path(f"/proc/{connection.connection.info.backend_pid}/schedstat")
    return time.process_time() + int(backend.read_text().split()[0]) / 1e9


if __name__ == "__main__":
    main()
