"""Checks and saves the addresses that alerts are sent to."""

from __future__ import annotations

from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from keys import destinations, keyring
from keys.destinations import Forbidden
from keys.errors import refused
from usage.alerts import AlertTarget, Channel

LEAST_SECRET = 24


def save(target: AlertTarget, secret: str = "") -> None:
    """Save a new or changed target. Without a new secret, a webhook keeps its old one.

    Raises:
        Unusable: the address or the secret is invalid.
    """
    with refused():
        check(target, secret)
        target.full_clean()
    take_secret(target, secret)
    target.save()


def take_secret(target: AlertTarget, secret: str) -> None:
    """Set the secret that signs a webhook's requests. E-mail targets have none."""
    if secret or target.channel == Channel.EMAIL:
        target.secret_ciphertext = keyring.encrypt(secret) if secret else b""


def check(target: AlertTarget, secret: str) -> None:
    """Check the address and the new secret; an empty one keeps the stored one.

    Raises:
        ValidationError: with sentences by field (`address`, `secret`) for the person who typed them.
    """
    faults: dict[str, list[str]] = {}
    if target.channel == Channel.EMAIL:
        if secret:
            faults["secret"] = ["An e-mail target has no secret: leave this empty."]
        try:
            validate_email(target.address)
        except ValidationError as error:
            faults["address"] = error.messages
    elif target.channel == Channel.WEBHOOK and target.address:
        faults = _faults_of_webhook(target, secret)
    if faults:
        raise ValidationError(faults)


def _faults_of_webhook(target: AlertTarget, secret: str) -> dict[str, list[str]]:
    before = AlertTarget.objects.filter(pk=target.pk).first()
    faults: dict[str, list[str]] = {}
    moved = before is None or (before.channel, before.address) != (target.channel, target.address)
    if fault := _fault_of_url(target, moved):
        faults["address"] = [fault]
    if secret and len(secret) < LEAST_SECRET:
        faults["secret"] = [f"The secret is too short: it needs at least {LEAST_SECRET} characters."]
    elif not secret and not (before and before.channel == Channel.WEBHOOK and before.secret_ciphertext):
        faults["secret"] = ["A webhook needs a secret, which signs its requests."]
    elif not secret and moved:
        # Otherwise, a user who may change the address could have requests signed with the old secret sent anywhere.
        faults["secret"] = ["The address has changed: enter the secret again."]
    return faults


def _fault_of_url(target: AlertTarget, moved: bool) -> str:
    try:
        parts = urlsplit(target.address)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        return "Expected a URL like https://hooks.example.com/budgets."
    if parts.username or parts.password:
        return "Remove the user and password: lists show the URL. The secret signs requests."
    if moved:
        target.predates_address_checks = False
        try:
            destinations.current().check_url(target.address)
        except Forbidden as error:
            return f"This address can't be used: {error}."
    return ""
