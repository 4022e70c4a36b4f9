#!/usr/bin/env python3
"""Django's command line; run it as `.venv/bin/python manage.py COMMAND`."""

from __future__ import annotations

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    from django.core.management import execute_from_command_line

    from gateway_project import env_file, unavailable

    # Said where the gateway starts and here; other commands are run by scripts, whose people it would only bother.
    if sys.argv[1:2] == ["check"] and (line := env_file.unknown_names()):
        print(line, file=sys.stderr)
    try:
        unavailable.check(sys.argv)
        execute_from_command_line(sys.argv)
    except Exception as error:
        line = None if "--traceback" in sys.argv else unavailable.explain(error)
        if line is None:
            raise
        print(line, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
