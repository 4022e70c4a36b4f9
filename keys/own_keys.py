"""The gateway's own customer, and the hidden virtual key under which administrators' test calls are recorded."""

from __future__ import annotations

import secrets

from django.db import transaction

from keys import names
from keys.models import Credential, CredentialKind, Customer, VirtualKey

# The customer is listed like any other, so that reports show what tests cost. It may have budgets, too.
CUSTOMER = "This gateway"


@transaction.atomic
def ensure_test_key() -> Credential:
    """The credential of test calls. The first use creates it, with its key and customer.

    The key is hidden and maps to no provider key. No caller can present the credential: its digest is random and
    belongs to no secret.
    """
    virtual_key = VirtualKey.objects.select_for_update().filter(passthrough=True, name=names.TESTS).first()
    if virtual_key is None:  # otherwise its customer exists, perhaps under another name
        customer, _ = Customer.objects.get_or_create(name=CUSTOMER)
        virtual_key, _ = VirtualKey.objects.get_or_create(
            passthrough=True, name=names.TESTS, defaults={"customer": customer}
        )
    credential, _ = Credential.objects.get_or_create(
        kind=CredentialKind.TEST,
        virtual_key=virtual_key,
        defaults={"name": names.TESTS, "digest": secrets.token_bytes(32)},
    )
    return credential
