"""Provider keys of clouds, in front of fake ones."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from keys import provider_keys
from tests.support.fake_provider import Seen
from tests.support.gateway import Caller, Web, issue


def issue_for(provider: str, secret: str, base_url: str, **terms: Any) -> Caller:
    """A virtual key that maps to a cloud's."""
    provider_key = provider_keys.add_provider_key(
        name=provider, provider=provider, base_url=base_url, secret=secret, **terms
    )
    return issue(None, provider_keys=[(provider_key, 1)])


def sent(seen: Seen) -> dict[str, Any]:
    """The body that a cloud got."""
    members: dict[str, Any] = json.loads(seen.body)
    return members


def says_nothing_of(web: Web, *secrets: str) -> None:
    """Check that none of these is in the log of the gateway."""
    log = web.log.read_text(errors="replace")
    assert not [secret[:4] for secret in secrets if secret in log]


def key_of(key: RSAPrivateKey | EllipticCurvePrivateKey) -> str:
    """A private key in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def pem(key: RSAPrivateKey | EllipticCurvePrivateKey, *, with_key: bool = True) -> str:
    """A certificate that signs itself, and its key."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway")])
    today = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today)
        .not_valid_after(today + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode() + (key_of(key) if with_key else "")
