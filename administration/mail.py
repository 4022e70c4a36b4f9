"""Sends e-mails to people about their own sign-in, where the deployment has a mail server.

One thread sends, so that a slow mail server delays no page. Messages above the number that may wait are dropped. A
mail server that fails leaves a line in the log, and nothing else fails.
"""

from __future__ import annotations

import logging
import smtplib
import threading
from concurrent.futures import Future, ThreadPoolExecutor

from django.core.mail import EmailMessage

logger = logging.getLogger(__name__)

SENDER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="mail")
ROOM = threading.BoundedSemaphore(50)


def send(message: EmailMessage, about: str) -> Future[None] | None:
    """Send a message soon; None if too many wait.

    Args:
        about: what the message is, for the log.
    """
    if not ROOM.acquire(blocking=False):
        logger.error("too many e-mails wait: %s is not sent", about)
        return None
    return SENDER.submit(_send, message, about)


def _send(message: EmailMessage, about: str) -> None:
    try:
        message.send()
    except (smtplib.SMTPException, OSError, ValueError) as error:
        logger.error("the mail server refused %s (%s)", about, type(error).__name__)
    finally:
        ROOM.release()
