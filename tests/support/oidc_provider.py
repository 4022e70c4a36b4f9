"""A provider of single sign-on over a real socket: discovery, codes, tokens signed with RS256, keys and userinfo."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT, SECRET = "bursar", "a secret: of the/client"


class Provider:
    """What the server knows. Tests change `person` and the other attributes between sign-ins."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.signs_with: Any = self.key
        self.algorithm = "RS256"
        self.person: dict[str, Any] = {}
        self.token: dict[str, Any] = {}  # claims that replace those of the ID token
        self.more: dict[str, Any] = {}  # claims that replace those of userinfo
        self.discovery: dict[str, Any] = {}
        self.codes: dict[str, dict[str, str]] = {}
        self.access: set[str] = set()
        self.asked: list[str] = []
        self.url = ""

    def described(self) -> dict[str, Any]:
        return {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "token_endpoint_auth_methods_supported": ["client_secret_basic"],
            **self.discovery,
        }

    def authorize(self, page: str) -> dict[str, str]:
        """What the browser brings back from the page to which the gateway led it."""
        assert page.startswith(f"{self.url}/authorize?")
        given = {name: values[0] for name, values in parse_qs(urlsplit(page).query).items()}
        assert given["response_type"] == "code"
        assert given["client_id"] == CLIENT
        assert given["code_challenge_method"] == "S256"
        assert "openid" in given["scope"].split()
        code = secrets.token_urlsafe(16)
        self.codes[code] = given
        return {"code": code, "state": given["state"], "iss": self.url}

    def tokens(self, form: dict[str, str], authorization: str) -> dict[str, Any] | None:
        """The answer to a code; None: it is refused."""
        pair = base64.b64decode(authorization.removeprefix("Basic ")).decode().split(":")
        given = self.codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if (
            given is None
            or [unquote_plus(part) for part in pair] != [CLIENT, SECRET]
            or form.get("redirect_uri") != given["redirect_uri"]
            or challenge != given["code_challenge"]
        ):
            return None
        now = int(time.time())
        claims = {
            **{"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 300, "nonce": given["nonce"]},
            **({"auth_time": now} if given.get("prompt") == "login" else {}),
            "sub": self.person["sub"],
            **self.token,
        }
        access = secrets.token_urlsafe(16)
        self.access.add(access)
        signed = jwt.encode(claims, self.signs_with, algorithm=self.algorithm, headers={"kid": "one"})
        return {"access_token": access, "token_type": "Bearer", "id_token": signed}

    def keys(self) -> dict[str, Any]:
        key = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [{**key, "kid": "one", "use": "sig", "alg": "RS256"}]}


class Server(ThreadingHTTPServer):
    daemon_threads = True
    provider: Provider


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        provider = self.server.provider
        provider.asked.append(self.path)
        if self.path == "/.well-known/openid-configuration":
            self.say(200, provider.described())
        elif self.path == "/keys":
            self.say(200, provider.keys())
        elif self.headers.get("authorization", "").removeprefix("Bearer ") in provider.access:
            self.say(200, {**provider.person, **provider.more})
        else:
            self.say(401, {"error": "invalid_token"})

    def do_POST(self) -> None:
        provider = self.server.provider
        provider.asked.append(self.path)
        text = self.rfile.read(int(self.headers["content-length"])).decode()
        form = {name: values[0] for name, values in parse_qs(text).items()}
        answer = provider.tokens(form, self.headers.get("authorization", ""))
        self.say(200 if answer else 400, answer or {"error": "invalid_grant"})

    def say(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def running() -> Iterator[Provider]:
    """A provider on a port of its own."""
    provider = Provider()
    with Server(("127.0.0.1", 0), Handler) as server:
        server.provider = provider
        provider.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
