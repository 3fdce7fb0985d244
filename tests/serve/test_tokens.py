"""Tokens of an authorization server: whose, for whom, how signed; and where the server says to get one (RFC 9728)."""

from __future__ import annotations

import base64
import hmac
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import httpx2
import pytest
from joserfc import jwt
from joserfc.jwk import RSAKey

from cfaudit_export.serve.jwt import IssuedTokenVerifier, TokenIssuer

AUDIENCE = "https://audit.example.com/mcp"
LIST = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
ACCEPT = {"Accept": "application/json, text/event-stream"}


class Issuer:
    """An authorization server as far as a resource server sees it: metadata and keys, on loopback."""

    def __init__(self) -> None:
        self.keys = [RSAKey.generate_key(2048, {"kid": "one"})]
        self.asked: list[str] = []
        self.fails = False
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                documents = {
                    "/.well-known/openid-configuration": {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"},
                    "/keys": {"keys": [key.as_dict(private=False) for key in issuer.keys]},
                }
                found = None if issuer.fails else documents.get(self.path)
                body = json.dumps(found).encode()
                self.send_response(200 if found else 503 if issuer.fails else 404)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def token(self, key: Any = None, algorithm: str = "RS256", header: Any = None, **claims: Any) -> str:
        """Return a token; a claim that is None is left out."""
        key = key or self.keys[0]
        usual = {"iss": self.url, "aud": AUDIENCE, "exp": int(time.time()) + 600, "sub": "ada", "scope": "audit:read"}
        body = {name: value for name, value in (usual | claims).items() if value is not None}
        head = {"alg": algorithm, "kid": key.kid} | (header or {})
        return jwt.encode({one: value for one, value in head.items() if value}, body, key, algorithms=[algorithm])


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    made = Issuer()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def verified(issuer: Issuer) -> Callable[[str], Any]:
    verifier = IssuedTokenVerifier(TokenIssuer(issuer.url, AUDIENCE), time.time)
    return lambda token: anyio.run(verifier.verify_token, token)


def test_a_token_for_this_server_says_whom_it_stands_for(issuer: Issuer, verified: Callable[[str], Any]) -> None:
    found = verified(issuer.token(client_id="claude"))
    assert (found.subject, found.client_id, found.scopes) == ("ada", "claude", ["audit:read"])
    assert verified(issuer.token(aud=["x", AUDIENCE], scope=None, scp=["a", "b"])).scopes == ["a", "b"]


def test_tokens_that_are_not_for_this_server_are_refused(issuer: Issuer, verified: Callable[[str], Any]) -> None:
    stranger = RSAKey.generate_key(2048, {"kid": "one"})
    public = issuer.keys[0].as_pem(private=False)
    good = issuer.token()
    head, body, signature = good.split(".")
    refused = {
        "another issuer": issuer.token(iss="https://login.example.com"),
        "no issuer": issuer.token(iss=None),
        "another audience": issuer.token(aud="https://other.example.com"),
        "no audience": issuer.token(aud=None),
        "expired": issuer.token(exp=int(time.time()) - 120),
        "never expires": issuer.token(exp=None),
        "not valid yet": issuer.token(nbf=int(time.time()) + 600),
        "another key of the same name": issuer.token(key=stranger),
        "the public key as a secret": signed_with(public, body),
        "no signature": f"{head}.{body}.",
        "no algorithm": "eyJhbGciOiJub25lIn0." + body + ".",
        "a changed body": f"{head}.{body[:-2]}xx.{signature}",
        "too long": good + "x" * 20_000,
        "no token": "abc",
        "empty": "",
        "no header": "IiI=.e30.x",
    }
    assert [why for why, token in refused.items() if verified(token) is not None] == []


def signed_with(secret: bytes, body: str) -> str:
    """Return a token whose signature is that of a secret, in the hope that a server takes its public key for one."""
    head = base64.urlsafe_b64encode(b'{"alg":"HS256","kid":"one"}').rstrip(b"=").decode()
    signature = hmac.digest(secret, f"{head}.{body}".encode(), "sha256")
    return f"{head}.{body}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def test_keys_are_fetched_once_and_again_when_a_token_names_a_new_one() -> None:
    issuer, now = Issuer(), [1_000_000_000.0]
    try:
        verifier = IssuedTokenVerifier(TokenIssuer(issuer.url, AUDIENCE), lambda: now[0])

        def is_good(token: str) -> bool:
            return anyio.run(verifier.verify_token, token) is not None

        far = int(now[0]) + 10_000_000
        assert is_good(issuer.token(exp=far))
        assert is_good(issuer.token(exp=far))
        assert issuer.asked.count("/keys") == 1
        issuer.keys.insert(0, RSAKey.generate_key(2048, {"kid": "two"}))
        assert not is_good(issuer.token(exp=far)), "asked again sooner than after a pause"
        assert issuer.asked.count("/keys") == 1
        now[0] += 31
        assert is_good(issuer.token(exp=far))
        assert issuer.asked.count("/keys") == 2
        issuer.fails = True
        now[0] += 3_600
        assert is_good(issuer.token(exp=far)), "keys that were read are used while the issuer is away"
        now[0] += 100_000
        assert not is_good(issuer.token(exp=far)), "but not for ever"
    finally:
        issuer.server.shutdown()
        issuer.server.server_close()


def test_metadata_of_another_issuer_is_not_believed(issuer: Issuer) -> None:
    verifier = IssuedTokenVerifier(TokenIssuer(f"{issuer.url}/tenant", AUDIENCE), time.time)
    assert anyio.run(verifier.verify_token, issuer.token(iss=f"{issuer.url}/tenant")) is None


def test_the_server_says_where_to_get_a_token_and_takes_it(served: Any, serving: Any, issuer: Issuer) -> None:
    options = ("--oauth-issuer", issuer.url, "--oauth-audience", AUDIENCE, "--oauth-scope", "audit:read")
    with serving(served, *options) as running:

        def post(token: str | None) -> httpx2.Response:
            headers = ACCEPT | ({"Authorization": f"Bearer {token}"} if token else {})
            return httpx2.post(running.url, json=LIST, headers=headers, timeout=60, trust_env=False)

        refused = post(None)
        assert refused.status_code == 401
        place = running.url.replace("/mcp", "/.well-known/oauth-protected-resource/mcp")
        assert f'resource_metadata="{place}"' in refused.headers["WWW-Authenticate"]
        told = httpx2.get(place, trust_env=False).json()
        assert told["resource"] == running.url
        assert told["authorization_servers"] == [issuer.url]
        assert told["scopes_supported"] == ["audit:read"]
        assert post(issuer.token()).status_code == 200
        narrow = post(issuer.token(scope="other"))
        assert narrow.status_code == 403
        assert "insufficient_scope" in narrow.headers["WWW-Authenticate"]
        assert post(issuer.token(aud="https://other.example.com")).status_code == 401
