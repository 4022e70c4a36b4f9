"""What the gateway talks to besides the database, and how it is reached: broker, mail, TLS and proxies."""

from __future__ import annotations

import ipaddress
import smtplib
import ssl
from collections.abc import Iterator
from typing import Any

from django.conf import settings

from gateway_project.configuration import BROKER_SCHEMES
from gateway_project.operations.doctor.findings import FAULT, OK, WARNING
from usage import readiness

Found = Iterator[tuple[Any, str, str]]

MAIL_SECONDS = 5


def _broker() -> Found:
    scheme = str(settings.CELERY_BROKER_URL).partition("://")[0]
    try:
        readiness.reach_broker()
    except readiness.Unready as error:
        yield FAULT, str(error), "start the gateway once, or mend the folder's modes"
    except Exception as error:
        kind = scheme if scheme in BROKER_SCHEMES else "broker"
        says = f"the broker ({kind}) can't be reached ({type(error).__name__}); calls go on without it"
        yield FAULT, says, "start it, or correct CELERY_BROKER_URL"
    else:
        yield OK, f"the broker ({scheme}) answers", ""


def _mail() -> Found:
    given = settings.CONFIGURATION
    if not given.email_host:
        yield OK, "no mail server is configured, so alerts and forgotten passwords send no e-mail", ""
        return
    mend = "correct EMAIL_HOST, EMAIL_PORT, EMAIL_SECURITY, EMAIL_USER and EMAIL_PASSWORD"
    try:
        context = ssl.create_default_context()
        if given.email_security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                given.email_host, given.email_port, timeout=MAIL_SECONDS, context=context
            )
        else:
            server = smtplib.SMTP(given.email_host, given.email_port, timeout=MAIL_SECONDS)
        with server:
            if given.email_security == "starttls":
                server.starttls(context=context)
            if given.email_user:
                server.login(given.email_user, given.email_password)
            server.noop()
    except smtplib.SMTPAuthenticationError:
        yield FAULT, "the mail server refuses the user or the password", mend
    except (OSError, smtplib.SMTPException) as error:
        yield FAULT, f"the mail server can't be used ({type(error).__name__})", mend
    else:
        yield OK, "the mail server answers", ""
        if given.email_security == "none" and not _is_here(given.email_host):
            yield WARNING, "mail goes to the server unencrypted", "EMAIL_SECURITY=starttls"


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _front() -> Found:
    given = settings.CONFIGURATION
    found: list[tuple[Any, str, str]] = []
    if given.debug:
        found.append((FAULT, "DEBUG is on: pages show tracebacks", "DEBUG=false"))
    if given.serves_web and not _is_here(given.host) and not given.tls_in_front:
        says = f"the gateway listens on {given.host} without TLS in front: keys cross the network in plain text"
        found.append((WARNING, says, "let a proxy end TLS (docs/deploy.md), with TLS_IN_FRONT=true"))
    if given.tls_in_front and not given.trusted_proxies:
        says = "TLS_IN_FRONT without TRUSTED_PROXIES: every client seems to have the proxy's address"
        found.append((WARNING, says, "TRUSTED_PROXIES=the proxy's address"))
    if "*" in given.allowed_hosts:
        found.append((WARNING, "ALLOWED_HOSTS allows every name", "list the names that people use"))
    if given.tls_in_front and given.public_url.startswith("http://"):
        found.append((WARNING, "PUBLIC_URL is http, and TLS is in front", "PUBLIC_URL=https://…"))
    yield from found or [(OK, "TLS, proxies and names of hosts fit together", "")]


CHECKS = (("broker", _broker), ("mail", _mail), ("TLS and proxies", _front))
