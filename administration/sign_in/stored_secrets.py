"""The secrets of second factors in the database: a new master key encrypts them again."""

from __future__ import annotations

from allauth.mfa.models import Authenticator

from keys import keyring
from keys.errors import Unusable

# The members of an authenticator's data that are encrypted.
ENCRYPTED = ("secret", "seed")


def reencrypt() -> int:
    """Encrypt all secrets of second factors under the newest master key, and return their number.

    Raises:
        Unusable: no master key decrypts one of them.
    """
    count = 0
    factors = Authenticator.objects.exclude(type=Authenticator.Type.WEBAUTHN)
    for factor in factors.select_for_update().select_related(None).order_by("pk"):
        for name in ENCRYPTED:
            if name in factor.data:
                try:
                    factor.data[name] = keyring.reencrypt(factor.data[name].encode()).decode()
                except keyring.UnreadableSecret as error:
                    raise Unusable(f"the second factor {factor.pk} of user {factor.user_id}: {error}") from None
                count += 1
        factor.save(update_fields=["data"])
    return count
