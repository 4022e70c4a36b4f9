"""Where the database is: `DATABASE_URL`, or else the embedded server's socket under the data folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from usage import functions

# The embedded server writes its URL here when it starts; every command beside it finds it.
URL_FILE = "run/database.url"
KEPT_SECONDS = 60
SEARCH_PATH = re.compile(r"(?:-c\s*|--)search_path=((?:\\.|\S)+)")


def parse(url: str) -> dict[str, Any]:
    """Django's settings for `postgresql://user:password@host:port/name?option=value` (the configuration has checked
    that it is one); a socket's folder goes in `?host=`."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    given = options.get("options", "")
    path = SEARCH_PATH.search(given)
    # The last of several settings counts. Compiling one of our queries takes a hundred times as long as running it.
    options["options"] = f"-c jit=off {given} -c search_path={functions.search_path(*path.groups() if path else ())}"
    return {
        "ENGINE": "gateway_project.postgresql",
        "NAME": unquote(parts.path.strip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", "") or parts.hostname or "",
        "PORT": str(parts.port or options.pop("port", "") or ""),
        "OPTIONS": options,
        # Pages run in threads that each keep a connection (pages.py).
        "CONN_MAX_AGE": KEPT_SECONDS,
        "CONN_HEALTH_CHECKS": True,
        "TEST": {"TEMPLATE": "template0"},
    }


def url_of(settings: Mapping[str, object]) -> str:
    """The URL for these Django settings, to pass to another process as `DATABASE_URL`."""
    user = quote(str(settings["USER"]))
    password = ":" + quote(str(settings["PASSWORD"]), safe="") if settings["PASSWORD"] else ""
    options = {"host": settings["HOST"], "port": settings["PORT"]}
    query = urlencode({name: value for name, value in options.items() if value})
    return f"postgresql://{user}{password}@/{quote(str(settings['NAME']))}?{query}"


def settings(url: str, var_dir: Path) -> dict[str, Any]:
    """Django's settings for the configured database, or for the embedded one as it was last started."""
    file = var_dir / URL_FILE
    return parse(url or (file.read_text().strip() if file.exists() else "postgresql:///gateway?host=/nonexistent"))
