"""Keys as they are issued, for tests about keys: Alice's, of Acme's team Research, maps to one echo provider key."""

from __future__ import annotations

from keys import issuing, keyring, provider_keys
from keys.credentials import digest
from keys.models import Credential, Customer, ProviderKey, Team

SECRET = "sk-ant-a-secret-of-the-provider-7f3k"


def make_provider_key(name="echo", **terms):
    return provider_keys.add_provider_key(name=name, **({"provider": "echo"} | terms))


def make_key(name="alice", **terms):
    """A virtual key and its plain text."""
    customer, _ = Customer.objects.get_or_create(name="Acme")
    team, _ = Team.objects.get_or_create(customer=customer, name="Research")
    if "provider_keys" not in terms:
        terms["provider_keys"] = [(ProviderKey.objects.filter(name="echo").first() or make_provider_key(), 1)]
    return issuing.issue_virtual_key(**({"name": name, "customer": customer, "team": team} | terms))


def opened_by(plain):
    """The credential that this secret is, under any of the peppers; or None."""
    return Credential.objects.filter(digest__in=[digest(plain, pepper.key) for pepper in keyring.peppers()]).first()
