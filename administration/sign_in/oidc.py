"""OpenID Connect, as a client of the provider that OIDC_ISSUER names: the authorization code flow with PKCE.

https://openid.net/specs/openid-connect-core-1_0.html, and RFC 9700 for its security. The ID token's signature is always
verified, with an asymmetric key of the provider. Every connection goes to an address that keys/destinations.py permits.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode

import httpx
import jwt
from django.conf import settings

from keys import destinations, guarded_http
from usage.alert_sending import trusted

WELL_KNOWN = "/.well-known/openid-configuration"
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
NEEDED = ["exp", "iat", "iss", "aud", "sub"]
# Seconds: for each step of a request, for all of it, by which clocks may differ, and for which the discovery document
# is kept.
TIMEOUT = 10.0
WHOLE = 20.0
LEEWAY = 60
KEPT = 300.0
LARGEST_ANSWER = 1024 * 1024
LONGEST_SUBJECT = 191


class SignInFailed(Exception):
    """The provider's answer can't be used. The message is for the log and for people; it contains no secret."""


@dataclass(frozen=True, slots=True)
class Begun:
    """What the session keeps between the two halves of a sign-in."""

    state: str
    nonce: str
    verifier: str

    @classmethod
    def new(cls) -> Begun:
        """Three random texts."""
        return cls(*(secrets.token_urlsafe(32) for _ in range(3)))

    @property
    def challenge(self) -> str:
        """What the provider gets of the verifier at first (RFC 7636)."""
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).rstrip(b"=").decode()


def address(begun: Begun, callback: str, *, again: bool = False) -> str:
    """The provider's page to which a sign-in leads.

    Args:
        again: the provider asks for the password again, also of someone who has signed in there.

    Raises:
        SignInFailed: the provider's description of itself can't be had.
    """
    configuration = settings.CONFIGURATION
    parameters = {
        "response_type": "code",
        "client_id": configuration.oidc_client_id,
        "redirect_uri": callback,
        "scope": " ".join(configuration.oidc_scopes),
        "state": begun.state,
        "nonce": begun.nonce,
        "code_challenge": begun.challenge,
        "code_challenge_method": "S256",
    }
    if again:
        parameters |= {"prompt": "login", "max_age": "0"}
    page = discovered()["authorization_endpoint"]
    return f"{page}{'&' if '?' in page else '?'}{urlencode(parameters)}"


def claims(code: str, begun: Begun, callback: str) -> dict[str, Any]:
    """What the provider says about the person who has just signed in there. `sub` is a text that identifies the person.

    Raises:
        SignInFailed: the code is refused, or the answers are not the provider's, not for us, or not of this sign-in.
    """
    answer = exchanged(code, begun, callback)
    said = verified(str(answer.get("id_token", "")), begun.nonce)
    endpoint = discovered().get("userinfo_endpoint")
    if endpoint and answer.get("access_token"):
        more = asked("GET", endpoint, headers={"authorization": f"Bearer {answer['access_token']}"})
        if more.get("sub") != said["sub"]:
            raise SignInFailed("the provider's two descriptions are of different people")
        said = {**said, **more}
    return said


def end_session_endpoint() -> str:
    """The provider's page that ends a session there; empty if it offers none that can be used.

    Raises:
        SignInFailed: the provider's description of itself can't be had.
    """
    page = discovered().get("end_session_endpoint")
    return str(page) if permitted(page) else ""


def way_out(page: str, back: str) -> str:
    """The address that ends a session at the provider, and leads back here.

    https://openid.net/specs/openid-connect-rpinitiated-1_0.html. The client is named by `client_id`, so that no ID
    token has to be kept, or sent in a URL.
    """
    parameters = {"client_id": settings.CONFIGURATION.oidc_client_id, "post_logout_redirect_uri": back}
    return f"{page}{'&' if '?' in page else '?'}{urlencode(parameters)}"


def exchanged(code: str, begun: Begun, callback: str) -> dict[str, Any]:
    """The answer of the token endpoint for a code."""
    configuration = settings.CONFIGURATION
    client, secret = configuration.oidc_client_id, configuration.oidc_client_secret
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": callback,
        "code_verifier": begun.verifier,
    }
    methods = discovered().get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
    headers = {}
    if secret and "client_secret_basic" in methods:
        pair = f"{quote_plus(client)}:{quote_plus(secret)}"
        headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    else:
        form |= {"client_id": client} | ({"client_secret": secret} if secret else {})
    return asked("POST", discovered()["token_endpoint"], data=form, headers=headers)


def verified(token: str, nonce: str) -> dict[str, Any]:
    """The claims of an ID token.

    Raises:
        SignInFailed: it isn't signed by the provider, or isn't for us, or too old, or of another sign-in.
    """
    client = settings.CONFIGURATION.oidc_client_id
    try:
        head = jwt.get_unverified_header(token)
        if head.get("alg") not in ALGORITHMS:
            raise SignInFailed("the ID token's signature is of a kind that isn't accepted")
        said: dict[str, Any] = jwt.decode(
            token,
            key_of(head),
            algorithms=[head["alg"]],
            audience=client,
            issuer=discovered()["issuer"],
            leeway=LEEWAY,
            options={"require": NEEDED},
        )
    except (jwt.PyJWTError, TypeError, ValueError) as error:
        raise SignInFailed(f"the ID token is not valid ({type(error).__name__})") from None
    if not hmac.compare_digest(str(said.get("nonce", "")).encode(), nonce.encode()):
        raise SignInFailed("the ID token is of another sign-in")
    parties = said["aud"] if isinstance(said["aud"], list) else [said["aud"]]
    if said.get("azp", client if len(parties) == 1 else "") != client:
        raise SignInFailed("the ID token is for another client")
    if not isinstance(said["sub"], str) or not 0 < len(said["sub"]) <= LONGEST_SUBJECT:
        raise SignInFailed("the ID token's subject can't be used")
    return said


def key_of(head: dict[str, Any]) -> Any:
    """The provider's key with which a token is signed.

    Raises:
        SignInFailed: the provider has no such key.
    """
    found = jwt.PyJWKSet.from_dict(asked("GET", discovered()["jwks_uri"])).keys
    signing = [each for each in found if each.public_key_use in (None, "sig")]
    named = [each for each in signing if each.key_id == head.get("kid")] if "kid" in head else signing
    if len(named) != 1:
        raise SignInFailed("the provider has no key of the ID token's name")
    return named[0].key


# The provider's description of itself


_lock = threading.Lock()
_kept: dict[str, tuple[float, dict[str, Any]]] = {}


def discovered() -> dict[str, Any]:
    """The provider's discovery document, at most five minutes old.

    Raises:
        SignInFailed: it can't be had, or is another provider's.
    """
    issuer = settings.CONFIGURATION.oidc_issuer
    with _lock:
        at, known = _kept.get(issuer, (0.0, {}))
        if known and time.monotonic() - at < KEPT:
            return known
    found = asked("GET", issuer + WELL_KNOWN)
    if str(found.get("issuer", "")).rstrip("/") != issuer:
        raise SignInFailed("the provider names another issuer than OIDC_ISSUER")
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        if not permitted(found.get(name)):
            raise SignInFailed(f"the provider's {name} can't be used")
    if found.get("userinfo_endpoint") is not None and not permitted(found["userinfo_endpoint"]):
        raise SignInFailed("the provider's userinfo_endpoint can't be used")
    with _lock:
        _kept[issuer] = (time.monotonic(), found)
    return found


def permitted(url: object) -> bool:
    """Whether this is a URL with TLS, or at a private host that the deployment permits."""
    if not isinstance(url, str):
        return False
    return url.startswith("https://") or (
        url.startswith("http://") and bool(settings.CONFIGURATION.permits_plain_http(url))
    )


def asked(method: str, url: str, **options: Any) -> dict[str, Any]:
    """The JSON object that the provider answers.

    Raises:
        SignInFailed: it can't be reached, or answers something else.
    """
    configuration = settings.CONFIGURATION
    try:
        with (
            guarded_http.client(
                destinations.current(),
                tls=trusted(),
                timeout=TIMEOUT,
                whole=WHOLE,
                proxy=configuration.outbound_proxy,
            ) as client,
            client.stream(method, url, **options) as answer,
        ):
            body = b""
            for part in answer.iter_bytes():
                body += part
                if len(body) > LARGEST_ANSWER:
                    raise SignInFailed("the provider's answer is too large")
    except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
        raise SignInFailed(f"the provider can't be reached ({type(error).__name__})") from None
    if not answer.is_success:
        raise SignInFailed(f"the provider answered {answer.status_code} at {answer.request.url.path}")
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise SignInFailed("the provider's answer is no JSON object")
    return found
