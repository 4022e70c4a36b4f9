"""Lost second factors: someone else removes them, and the person sets up new ones.

Links to single sign-on go with them: a stranger with the person's session could have added one.
"""

from __future__ import annotations

from typing import Any

from allauth.mfa.models import Authenticator

from administration import notices
from administration.sign_in import sessions, single_sign_on


def remove_second_factors(user: Any) -> int:
    """Remove a person's second factors and recovery codes, and return how many there were. Links to single sign-on go
    too if the person has a password, and all sessions end."""
    count, _ = Authenticator.objects.filter(user_id=user.pk).delete()
    single_sign_on.unlink(user)
    sessions.end_all_of(user)
    if count:
        notices.tell(user, notices.FACTORS_REMOVED)
    return int(count)
