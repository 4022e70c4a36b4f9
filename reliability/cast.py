"""Creates provider keys and virtual keys in a gateway's database, and prints the virtual keys as JSON, by name.

`cast.py WANTED`: JSON with `providers` (the base URL by name) and `keys` (the options of `issue_virtual_key` by name).
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

from attacks.cast import SECRET, command


def main(wanted: dict[str, Any]) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "gateway_project.settings"
    os.environ["SECRET"] = SECRET
    import django

    django.setup()
    for name, url in wanted["providers"].items():
        options = {"provider": "anthropic", "base_url": url, "secret_env": "SECRET", "no_check": True}
        command("add_provider_key", name, **options)
    print(json.dumps({name: command("issue_virtual_key", name, **terms) for name, terms in wanted["keys"].items()}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
