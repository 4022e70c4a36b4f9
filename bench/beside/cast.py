"""Creates the keys of a measured deployment, and prints them as JSON, by pace.

It reads addresses of the fake provider by pace, as JSON, from its standard input.
"""

from __future__ import annotations

import io
import json
import os
import sys
from typing import Any

SECRET = "sk-ant-a-fake-providers-own-1234"
# Two budgets and two limits, which never bind.
BUDGETS = ["100000000/month", "50000000/day"]
LIMITS = {"rpm": "90000000", "parallel": "90000"}


def command(name: str, *arguments: str, **options: Any) -> str:
    from django.core.management import call_command

    output = io.StringIO()
    call_command(name, *arguments, stdout=output, stderr=io.StringIO(), **options)
    lines = output.getvalue().split()
    return lines[-1] if lines else ""


def main(addresses: dict[str, str]) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "gateway_project.settings"
    import django

    django.setup()
    os.environ["SECRET"] = SECRET
    keys = {}
    for pace, url in addresses.items():
        options = {"provider": "anthropic", "base_url": url, "secret_env": "SECRET", "no_check": True}
        command("add_provider_key", pace, **options)
        terms: dict[str, Any] = {"customer": "Acme", "team": "Bench", "provider_key": [pace], "budget": BUDGETS}
        keys[pace] = command("issue_virtual_key", pace, **terms, **LIMITS)
    print(json.dumps(keys))


if __name__ == "__main__":
    main(json.load(sys.stdin))
