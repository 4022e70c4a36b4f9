"""Admin pages of the administration's own tables. Importing this module registers them."""

from __future__ import annotations

from administration.rest import token_admin

__all__ = ["token_admin"]
