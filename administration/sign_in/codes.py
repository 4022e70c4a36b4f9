"""Checks the codes of a person's app and recovery codes: each attempt counts, and each code works once.

allauth remembers used codes in the memory of a process, so a code would work once in each process. Here the database
remembers them for all processes.
"""

from __future__ import annotations

import re
from typing import Any

from allauth.core import context
from allauth.mfa.models import Authenticator
from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time
from allauth.mfa.utils import decrypt
from django.core.exceptions import ValidationError
from django.utils.crypto import constant_time_compare

from administration import notices
from keys import sign_in
from keys.keyring import UnreadableSecret

WRONG = "This code is not correct. Each code works once, and codes of an app for about a minute."
# People type codes in groups.
FILLERS = re.compile(r"[\s-]")
# What an app shows has 6 digits, a recovery code 8.
LONGEST = 32


def prove(user: Any, code: str) -> Authenticator:
    """The second factor that a code is of. The code then works no more.

    Raises:
        ValidationError: the code is wrong, used or too old.
        Refused: too many codes were wrong; the client must wait.
    """
    with sign_in.counted(user.get_username(), context.request.META["REMOTE_ADDR"], sign_in.CODES):
        code = FILLERS.sub("", code)
        factors = Authenticator.objects.filter(user=user).exclude(type=Authenticator.Type.WEBAUTHN).order_by("-type")
        for factor in factors:
            factor.user = user
            if matches(factor, code):
                return factor
        raise ValidationError(WRONG)


def matches(factor: Authenticator, code: str) -> bool:
    """Whether a code is of this second factor, and wasn't used yet. It is used now."""
    try:
        if factor.type == Authenticator.Type.TOTP:
            return is_of_app(decrypt(factor.data["secret"]), code) and spend(factor.user_id, code)
        if not factor.wrap().validate_code(code):
            return False
        notices.tell(factor.user, notices.CODE_USED, context.request.META["REMOTE_ADDR"])
        return True
    except UnreadableSecret:
        return False  # its master key is gone: the person needs a recovery code, or an owner


def is_of_app(secret: str, code: str) -> bool:
    """Whether an app with this secret shows the code about now."""
    shown = [format_hotp_value(hotp_value(secret, counter)) for counter in yield_hotp_counters_from_time()]
    return sum(constant_time_compare(code, each) for each in shown) > 0  # compared with all of them, in the same time


def spend(user: int, code: str) -> bool:
    """Whether the code of a person's app is used for the first time."""
    return sign_in.spend("app", str(user), code)


def left(factor: Authenticator) -> int:
    """How many recovery codes a person has left; 0 if they can't be read any more."""
    try:
        return len(factor.wrap().get_unused_codes())
    except UnreadableSecret:
        return 0
