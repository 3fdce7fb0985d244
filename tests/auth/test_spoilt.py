"""Whatever an authorization server says: no fault of the program, no end that does not come, no secret."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import anyio
import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfaudit_export.auth.oauth import OAuthCredential
from cfaudit_export.auth.signin import SignIn, sign_in
from cfaudit_export.auth.store import GrantStore
from cfaudit_export.errors import CfauditError, ExitCode

if TYPE_CHECKING:
    from tests.core.auth.conftest import Scripted

NOW = datetime(2026, 11, 20, tzinfo=UTC)
SECRET = "5ec2e7-of-the-server"
ROUTES = {
    "GET /.well-known/oauth-protected-resource/mcp": {"resource": "{url}/mcp", "authorization_servers": ["{url}"]},
    "GET /.well-known/oauth-authorization-server": {
        "issuer": "{url}",
        "authorization_endpoint": "{url}/authorize",
        "token_endpoint": "{url}/token",
        "registration_endpoint": "{url}/register",
        "revocation_endpoint": "{url}/token",
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        "scopes_supported": ["read", "offline_access"],
    },
    "POST /register": {
        "client_id": "client",
        "client_secret": SECRET,
        "client_secret_expires_at": 1_900_000_000,
        "token_endpoint_auth_method": "client_secret_post",
    },
    "POST /token": {
        "access_token": f"access-{SECRET}",
        "refresh_token": f"refresh-{SECRET}",
        "token_type": "bearer",
        "expires_in": 3600,
        "refresh_token_expires_in": 86400,
        "scope": "read",
    },
}
VALUES = (
    *("null", "true", "0", "-1", "1e400", "-1e400", "1" + "0" * 30, '"1e400"', '""', "[]", "{}", "[1]", '"\\ud83d"'),
    *('"\\u001b[2J"', '"http://[::1"', '"https://elsewhere.example/x"', '"javascript:alert(1)"', "1900000000000"),
    *("[" * 5_000 + "]" * 5_000, '"' + "x" * 50_000 + '"'),
)
STATUSES = (200, 200, 200, 201, 204, 301, 400, 401, 403, 404, 429, 500, 503)
RETRY_AFTER = ("\u00b2", "1e400", "9" * 50, "Fri, 31 Dec 9999 23:59:59 GMT", "soon", "-1")


def spoil(server: Scripted, route: str, seed: int) -> None:
    random, document = Random(seed), dict(ROUTES[route])
    key = random.choice(sorted(document))
    text = json.dumps(document | {key: "MARK"}).replace('"MARK"', random.choice(VALUES))
    if random.random() < 0.2:
        text = text[: random.randrange(len(text))]
    body = text.replace("{url}", server.url).encode("utf-8", "surrogatepass")
    status = random.choice(STATUSES)
    server.pages[route] = (status, {"retry-after": random.choice(RETRY_AFTER).encode().decode("latin-1")}, body)


def visit(url: str) -> None:
    """Consent, as far as the URL says to whom."""
    with suppress(Exception):
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        query = {"code": f"code-{SECRET}", "state": asked["state"]}
        httpx2.get(asked["redirect_uri"], params=query, trust_env=False, timeout=5.0)


def live(server: Scripted, folder: Path, told: list[str]) -> None:
    store, url = GrantStore(folder), f"{server.url}/mcp"
    grant = sign_in(
        SignIn(server_url=url, limit_seconds=2.0), store, clock=lambda: NOW, tell=told.append, open_browser=visit
    )
    credential: Any = OAuthCredential(store, url, clock=lambda: NOW, sleep=lambda _seconds: None, retry_seconds=5.0)
    anyio.run(credential.renew, grant.access_token)


@given(route=st.sampled_from(sorted(ROUTES)), seed=st.integers(0, 1_000_000))
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_answer_of_an_authorization_server_is_a_fault_of_the_program(
    server: Scripted, route: str, seed: int
) -> None:
    for one, document in ROUTES.items():
        server.page(one, document)
    spoil(server, route, seed)
    told: list[str] = []
    with TemporaryDirectory() as folder:
        try:
            live(server, Path(folder), told)
        except CfauditError as error:
            told.append(f"{error} {error.exit_code!r}")
    assert repr(ExitCode.BUG) not in "".join(told)
    assert SECRET not in "".join(told)


@pytest.mark.parametrize(
    ("route", "changes"),
    [
        ("POST /token", {"expires_in": float("inf")}),
        ("POST /token", {"expires_in": "1e400"}),
        ("POST /register", {"client_secret_expires_at": 1_900_000_000_000}),
        ("POST /register", {"client_secret_expires_at": 10**30}),
    ],
)
def test_numbers_beyond_reason_do_not_stand_in_the_way(
    server: Scripted, tmp_path: Path, route: str, changes: dict[str, Any]
) -> None:
    for one, document in ROUTES.items():
        server.page(one, document | (changes if one == route else {}))
    with suppress(CfauditError):
        live(server, tmp_path, [])
    grant = GrantStore(tmp_path).find(f"{server.url}/mcp", "default")
    assert (grant is not None) == (route == "POST /register")
