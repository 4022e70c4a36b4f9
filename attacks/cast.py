"""Creates the keys that take part in an attack in the gateway's database, and prints them as JSON.

`cast.py MAIN OTHER` takes the addresses of two providers. It runs in the attacked checkout, with that checkout's
commands.

honest calls MAIN and has a budget of 1000 USD. Key R calls MAIN too and can't pay for any call: one request a minute,
one at once, a budget of a millionth of a dollar. buyer calls MAIN, other calls OTHER, each with 1000 USD. starred may
use only one pattern of models. The rest are well-formed keys that were never issued.
"""

from __future__ import annotations

import io
import json
import os
import sys
from typing import Any

SECRET = "sk-ant-a-fake-providers-own-1234"  # noqa: S105
STARS = "*-*-*-*-*-x"
UNKNOWN = 990


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
    from keys import credentials
    from keys.models import CredentialKind

    os.environ["SECRET"] = SECRET
    for name, url in addresses.items():
        command("add_provider_key", name, provider="anthropic", base_url=url, secret_env="SECRET")  # noqa: S106

    def issue(name: str, provider_key: str, budget: str, customer: str = "Attacker", **terms: Any) -> str:
        terms |= {"customer": customer, "provider_key": [provider_key], "budget": [budget]}
        return command("issue_virtual_key", name, **terms)

    found = {
        "honest": issue("honest", "main", "1000/month", customer="Honest"),
        "r": issue("r", "main", "0.000001/month", rpm="1", parallel="1"),
        "buyer": issue("buyer", "main", "1000/month"),
        "other": issue("other", "other", "1000/month"),
        "starred": issue("starred", "main", "1000/month", models=[STARS]),
        "unknown": [credentials.make(CredentialKind.VIRTUAL_KEY) for _ in range(UNKNOWN)],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(dict(zip(("main", "other"), sys.argv[1:], strict=True)))
