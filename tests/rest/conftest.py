"""What the tests of the REST API share."""

from __future__ import annotations

from tests.support.rest import boss, program  # noqa: F401
