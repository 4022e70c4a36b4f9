"""Forms of the admin, sent as a browser would: as they are shown, except for what a person changes."""

from __future__ import annotations

from typing import Any

from django import forms
from django.test import Client


def shown(response: Any) -> dict[str, Any]:
    """What the form of a page sends if nothing is changed, with its inlines."""
    page = response.context
    parts = [page["adminform"].form]
    for inline in page["inline_admin_formsets"]:
        parts += [inline.formset.management_form, *inline.formset.forms]
    sent: dict[str, Any] = {"_version": page["version"]} if page.get("version") else {}
    for field in (field for part in parts for field in part):
        value, widget = field.value(), field.field.widget
        if isinstance(widget, forms.MultiWidget):
            sent |= {
                f"{field.html_name}_{n}": "" if each is None else each
                for n, each in enumerate(widget.decompress(value) or ())
            }
        elif value is not None and value is not False:
            sent[field.html_name] = "on" if value is True else value
    return sent


def send(client: Client, url: str, form: dict[str, Any], **changes: Any) -> Any:
    """Send a form that was shown, with some fields changed; None leaves a field out. `__` in a name is a hyphen."""
    sent = form | {name.replace("__", "-"): value for name, value in changes.items()}
    return client.post(url, {name: value for name, value in sent.items() if value is not None})


def save(client: Client, url: str, **changes: Any) -> Any:
    """Open a page, change some fields, and save it. Returns the answer."""
    return send(client, url, shown(client.get(url)), **changes)


def faults(response: Any) -> str:
    """All errors that a page shows for its form and inlines."""
    errors = [*response.context["errors"]] if response.context and "errors" in response.context else []
    return " ".join(str(each) for each in errors)


def change(client: Client, url: str, form: dict[str, Any], **more: Any) -> Any:
    """Send a form that a test fills in by itself to the page of a row, with the row's version. Returns the answer."""
    return client.post(url, form | {"_version": client.get(url).context["version"]}, **more)
