"""Writes the bill of materials of Bursar (CycloneDX 1.6, JSON) from requirements.txt: `python deploy/sbom.py FILE`.

Each pinned package is a component with the hashes of its files, and `# via` gives the graph. There
is no time and no random number in it: the same requirements make the same file.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

ROOT = Path(__file__).resolve().parent.parent
PINNED = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s\\;]+)")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
VIA = re.compile(r"^ +#(?: via)? +(?P<name>\S.*)$")


class NotPinned(Exception):
    """A line of the requirements is no pinned package, or has no hash."""


def read(text: str) -> dict[str, dict[str, Any]]:
    """The packages by name: `version`, `hashes` and `via`, the names that need them.

    Args:
        text: requirements as pip-compile writes them.

    Raises:
        NotPinned: a package has no exact version or no hash.
    """
    found: dict[str, dict[str, Any]] = {}
    last: dict[str, Any] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if pinned := PINNED.match(line):
            last = found[pinned["name"]] = {"version": pinned["version"], "hashes": [], "via": []}
        elif last and (hashed := HASH.search(line)):
            last["hashes"].append(hashed[1])
        elif last and (via := VIA.match(line)):
            last["via"].append(via["name"].strip())
        elif line.strip() and not line.lstrip().startswith("#"):
            raise NotPinned(f"line {number} is no package with an exact version: {line.strip()}")
    for name, package in found.items():
        if not package["hashes"]:
            raise NotPinned(f"{name} has no hash")
    return found


def document(text: str, version: str) -> dict[str, Any]:
    """The bill of materials for these requirements of this version of Bursar.

    Raises:
        NotPinned: as `read`.
    """
    packages = read(text)
    own = f"bursar@{version}"
    ref = {name: f"pkg:pypi/{name.lower().replace('_', '-')}@{about['version']}" for name, about in packages.items()}
    needs: dict[str, list[str]] = {own: [], **{each: [] for each in ref.values()}}
    for name, about in packages.items():
        for parent in about["via"]:
            needs[ref.get(parent, own)].append(ref[name])
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, own + text)}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "application",
                "bom-ref": own,
                "name": "bursar",
                "version": version,
                "licenses": [{"license": {"id": "Apache-2.0"}}],
            }
        },
        "components": [
            {
                "type": "library",
                "bom-ref": ref[name],
                "name": name,
                "version": about["version"],
                "purl": ref[name],
                "hashes": [{"alg": "SHA-256", "content": each} for each in sorted(about["hashes"])],
            }
            for name, about in sorted(packages.items())
        ],
        "dependencies": [{"ref": each, "dependsOn": sorted(set(on))} for each, on in sorted(needs.items())],
    }


def main() -> None:
    sys.path.insert(0, str(ROOT))
    from keys.product import VERSION

    try:
        made = document((ROOT / "requirements.txt").read_text(), VERSION)
    except NotPinned as error:
        sys.exit(f"requirements.txt: {error}; run `make requirements`.")
    Path(sys.argv[1]).write_text(json.dumps(made, indent=1) + "\n")
    print(f"{sys.argv[1]}: {len(made['components'])} components")


if __name__ == "__main__":
    main()
