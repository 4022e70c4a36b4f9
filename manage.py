#!/usr/bin/env python3
"""Django's command line; run it as `.venv/bin/python manage.py COMMAND`."""

from __future__ import annotations

import os
import sys

from keys.product import NAME_AND_VERSION


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
    # Django would print its own version. This also works where nothing is installed, configured or running.
    if sys.argv[1:2] in (["version"], ["--version"]):
        print(NAME_AND_VERSION)
        return
    from django.core.management import execute_from_command_line

    from gateway_project import env_file, unavailable
    from keys.audit import actor

    # The supervisor prints this at start too. Scripts run the other commands, and must not get it with every run.
    if sys.argv[1:2] == ["check"] and (line := env_file.unknown_names()):
        print(line, file=sys.stderr)
    try:
        unavailable.check(sys.argv)
        with actor.acting(lambda: actor.command(sys.argv[1] if len(sys.argv) > 1 else "")):
            execute_from_command_line(sys.argv)
    except Exception as error:
        line = None if "--traceback" in sys.argv else unavailable.explain(error)
        if line is None:
            raise
        print(line, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
