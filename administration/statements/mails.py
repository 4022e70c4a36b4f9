"""Sends a closed month's documents to the billing contacts, where the deployment has a mail server."""

from __future__ import annotations

from collections.abc import Iterable

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction

from administration import mail
from billing import documents
from billing.currencies import places
from billing.models import Particulars, Statement, addresses
from keys.product import NAME

TEXT = """{kind} {number} for {month}: {total} {currency}

{customer}
{note}

SHA-256 of its JSON form: {hash}

You get this e-mail because your address is a billing contact at {name}.
"""


def send(issued: Iterable[Statement]) -> int:
    """Send each document with its PDF, once it is committed; returns how many e-mails are sent."""
    if not settings.EMAIL_HOST:
        return 0
    count = 0
    for statement in issued:
        contacts = Particulars.objects.filter(customer=statement.customer).values_list("contacts", flat=True).first()
        for address in addresses(contacts or ""):
            made = message(statement, address)
            transaction.on_commit(lambda made=made: mail.send(made, "a statement"))  # type: ignore[misc]
            count += 1
    return count


def message(statement: Statement, address: str) -> EmailMessage:
    """The e-mail to a contact. Each has one of their own, so that no contact sees another's address."""
    said = documents.said(statement)
    body = TEXT.format(
        kind=statement.get_kind_display().capitalize(),
        number=statement.number,
        month=said["month"],
        total=f"{statement.total:,.{places(statement.currency)}f}",
        currency=statement.currency,
        customer=said["customer"]["billing_name"] + (f", {said['team']['name']}" if said["team"] else ""),
        note=documents.NOTE,
        hash=statement.hash,
        name=NAME,
    )
    subject = f"{statement.get_kind_display().capitalize()} {statement.number} for {said['month']}"
    found = EmailMessage(subject, body, settings.EMAIL_FROM, [address])
    for each in statement.files.all():
        found.attach(each.name, bytes(each.content), "application/pdf")
    return found
