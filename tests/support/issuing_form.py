"""The pages that issue virtual keys, as a browser sends them."""

from __future__ import annotations

import html
import re
from typing import Any

from django.test import Client
from django.urls import reverse

from keys.models import ProviderKey

SECRET = re.compile(r'<code id="secret">([^<]+)</code>')


def terms(**fields: Any) -> dict[str, Any]:
    """The fields of the form as it is first shown, and these."""
    keys = ProviderKey.objects.filter(active=True).order_by("name")
    shown = {"provider_keys": [key.pk for key in keys], "period": "month", "enforcement": "hard"}
    return shown | fields


def ask(client: Client, **fields: Any) -> Any:
    """Send the page that issues one key."""
    return client.post(reverse("admin:keys_virtualkey_add"), terms(**fields))


def ask_many(client: Client, **fields: Any) -> Any:
    """Send the page that issues many keys."""
    return client.post(reverse("admin:issue_many"), terms(**fields))


def secret(response: Any) -> str:
    """The secret on a page that shows one."""
    match = SECRET.search(response.content.decode())
    assert match, response.context["form"].errors if response.context and "form" in response.context else response
    return match[1]


def faults(response: Any) -> dict[str, str]:
    """The first fault of each field; those of the whole form by an empty name."""
    form = response.context["form"]
    return {name.replace("__all__", ""): texts[0] for name, texts in form.errors.items()}


def text(response: Any) -> str:
    """A page as a reader sees it."""
    return html.unescape(response.content.decode())
