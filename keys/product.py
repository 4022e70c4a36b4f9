"""The product's name and version. `pyproject.toml`, pages, the API reference and `manage.py version` read them here.

This module imports nothing, so that the version can be read without configuration, database or installation.
"""

from __future__ import annotations

NAME = "Bursar"
VERSION = "0.1.0"
NAME_AND_VERSION = f"{NAME} {VERSION}"
