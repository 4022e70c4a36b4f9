"""Asks the public advisories about the pinned requirements (pip-audit), and says so where they can't be reached.

Its status is 1 if a package has a known fault, else 0. Where the advisories don't answer about a package it is 0, too,
unless AUDIT=required is in the environment: then it is 2. By itself, pip-audit calls it a success if it could ask about
no package at all.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 300
# What pip-audit says if it has no answer from its service, whichever layer fails.
AWAY = ("ConnectionError", "ServiceError", "Max retries exceeded", "Name or service", "ProxyError", "HTTPError")


def main(command: list[str]) -> int:
    """Run the command, which writes pip-audit's JSON; the status of the audit."""
    unknown = 2 if os.environ.get("AUDIT") == "required" else 0
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603
    except subprocess.TimeoutExpired:
        return away(unknown)
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        if any(word in done.stderr for word in AWAY):
            return away(unknown)
        print(done.stderr.strip() or done.stdout.strip())
        return 1
    skipped = [each["name"] for each in packages if "skip_reason" in each]
    bad = [each for each in packages if each.get("vulns")]
    for each in bad:
        ids = ", ".join(fault["id"] for fault in each["vulns"])
        print(f"{each['name']} {each['version']}: {ids}")
    if bad:
        return 1
    if len(skipped) == len(packages):
        return away(unknown)
    print(f"No known fault in {len(packages) - len(skipped)} packages.")
    if skipped:
        print(f"The advisories don't know {len(skipped)}: {', '.join(skipped)}")
        return unknown
    return 0


def away(status: int) -> int:
    """Say that there was no audit."""
    print("advisories not reachable: the requirements were not audited.")
    return status


if __name__ == "__main__":
    options = ["--requirement", "requirements.txt", "--require-hashes", "--disable-pip", "--progress-spinner", "off"]
    sys.exit(main(sys.argv[1:] or [sys.executable, "-m", "pip_audit", *options, "--format", "json"]))
