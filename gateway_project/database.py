"""Where the database is: `DATABASE_URL`, or else the embedded server's socket under the data folder."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

# The embedded server writes its URL here when it starts; every command beside it finds it.
URL_FILE = "run/database.url"


def parse(url: str) -> dict[str, object]:
    """Django's settings for `postgresql://user:password@host:port/name?option=value` (the configuration has checked
    that it is one); a socket's folder goes in `?host=`."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.strip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", "") or parts.hostname or "",
        "PORT": str(parts.port or options.pop("port", "") or ""),
        "OPTIONS": options,
        "CONN_MAX_AGE": 0,
        "TEST": {"TEMPLATE": "template0"},
    }


def settings(url: str, var_dir: Path) -> dict[str, object]:
    """Django's settings for the configured database, or for the embedded one as it was last started."""
    file = var_dir / URL_FILE
    return parse(url or (file.read_text().strip() if file.exists() else "postgresql:///gateway?host=/nonexistent"))
