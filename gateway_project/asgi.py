"""The ASGI application: the API's paths go to its own lean handler, everything else to Django's."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway_project.settings")
