from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cfaudit_export.auth.discovery import AuthorizationServer
from cfaudit_export.auth.registration import Client, known_client, read_client_secret, register
from cfaudit_export.auth.web import open_http
from cfaudit_export.errors import AccessError, ProtocolError, SettingsError, SourceUnavailableError

if TYPE_CHECKING:
    from tests.core.auth.conftest import Scripted, Service

NOW = datetime(2026, 11, 20, tzinfo=UTC)
REDIRECT = "http://127.0.0.1:40000/callback"


def described(url: str, **changes: Any) -> AuthorizationServer:
    fields: dict[str, Any] = {
        "audience": f"{url}/mcp",
        "issuer": url,
        "authorization_endpoint": f"{url}/authorize",
        "token_endpoint": f"{url}/token",
        "registration_endpoint": f"{url}/register",
        "revocation_endpoint": None,
        "auth_methods": ("none", "client_secret_basic", "client_secret_post"),
        "scope": None,
        "names_itself": False,
        "client_id_documents": False,
    }
    return AuthorizationServer(**(fields | changes))


def registered(server: AuthorizationServer) -> Client:
    with open_http() as http:
        return register(http, server, REDIRECT, NOW)


def test_we_register_as_a_native_application_with_a_loopback_redirect(server: Scripted) -> None:
    server.page("POST /register", {"client_id": "abc"}, 201)
    assert registered(described(server.url)) == Client(id="abc", redirect_uri=REDIRECT, registered_at=NOW)
    assert json.loads(server.asked[0][2]) == {
        "client_name": "cfaudit-export",
        "application_type": "native",
        "redirect_uris": [REDIRECT],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
    }


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_where_public_clients_are_not_taken_we_get_a_secret_and_its_end(service: Service, method: str) -> None:
    client = registered(described(service.sandbox.url, auth_methods=(method,)))
    assert (client.auth_method, len(client.secret or "")) == (method, 32)
    assert client.expires_at == service.clock.now() + timedelta(days=90)
    assert client.secret not in repr(client)


def test_the_scope_that_will_be_asked_for_is_registered(server: Scripted) -> None:
    server.page("POST /register", {"client_id": "abc"}, 201)
    registered(described(server.url, scope="read offline_access"))
    assert json.loads(server.asked[0][2])["scope"] == "read offline_access"


def test_a_secret_that_never_ends_has_no_end(server: Scripted) -> None:
    server.page("POST /register", {"client_id": "abc", "client_secret": "s", "client_secret_expires_at": 0}, 201)
    client = registered(described(server.url))
    assert (client.secret, client.auth_method, client.expires_at) == ("s", "client_secret_basic", None)


@pytest.mark.parametrize(
    ("status", "error"), [(400, ProtocolError), (404, ProtocolError), (401, AccessError), (403, AccessError)]
)
def test_a_refused_registration_says_why(server: Scripted, status: int, error: type[Exception]) -> None:
    said = {"error": "invalid_client_metadata", "error_description": "Invalid redirect URI"}
    server.page("POST /register", said, status)
    with pytest.raises(error, match=f"HTTP {status}: invalid_client_metadata: Invalid redirect URI"):
        registered(described(server.url))


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        {},
        {"client_id": 7},
        {"client_id": "a", "client_secret": 7},
        {"client_id": "a", "token_endpoint_auth_method": "tls_client_auth"},
    ],
)
def test_an_answer_without_a_usable_client_is_an_error(server: Scripted, answer: object) -> None:
    server.page("POST /register", answer, 201)
    with pytest.raises(ProtocolError, match="without a usable client"):
        registered(described(server.url))


def test_a_registration_that_cannot_be_made_now_is_a_reason_to_try_again(server: Scripted) -> None:
    server.page("POST /register", status=503)
    with pytest.raises(SourceUnavailableError):
        registered(described(server.url))


def test_a_server_without_registration_needs_a_client_in_the_settings(server: Scripted) -> None:
    with pytest.raises(SettingsError, match="set its client_id"):
        registered(described(server.url, registration_endpoint=None))


@pytest.mark.parametrize(
    ("age_days", "left_days", "refused", "reusable"),
    [
        (0, None, False, True),
        (60, None, False, True),
        (61, None, False, False),
        (1, 31, False, True),
        (1, 29, False, False),
        (1, None, True, False),
    ],
)
def test_a_registration_is_used_again_while_it_outlives_the_grant(
    *, age_days: int, left_days: int | None, refused: bool, reusable: bool
) -> None:
    end = None if left_days is None else NOW + timedelta(days=left_days)
    client = Client(id="a", registered_at=NOW - timedelta(days=age_days), expires_at=end, refused=refused)
    assert client.is_reusable(NOW) is reusable


def test_a_client_that_somebody_else_registered_is_not_ours_to_use_again() -> None:
    assert not Client(id="a").is_reusable(NOW)


def test_a_secret_is_shown_the_way_the_server_prefers() -> None:
    post_only = described("https://as.example", auth_methods=("client_secret_post",))
    assert known_client(described("https://as.example"), "me", "s").auth_method == "client_secret_basic"
    assert known_client(post_only, "me", "s").auth_method == "client_secret_post"
    assert known_client(described("https://as.example"), "me", None).auth_method == "none"


def test_a_client_that_the_server_cannot_take_is_a_wrong_setting() -> None:
    with pytest.raises(SettingsError, match="'me' needs a client_secret"):
        known_client(described("https://as.example", auth_methods=("client_secret_post",)), "me", None)
    with pytest.raises(SettingsError, match="'me' needs a client without a secret"):
        known_client(described("https://as.example", auth_methods=("none",)), "me", "s")


def test_a_client_id_metadata_document_goes_without_secret_where_it_is_taken() -> None:
    url = "https://tools.example/cfaudit.json"
    assert known_client(described("https://as.example", client_id_documents=True), url, None) == Client(id=url)
    with pytest.raises(SettingsError, match="does not accept the URL of a metadata document"):
        known_client(described("https://as.example"), url, None)
    with pytest.raises(SettingsError, match="remove the client secret"):
        known_client(described("https://as.example", client_id_documents=True), url, "s")


def test_the_client_secret_comes_from_a_variable_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(" from-file\n")
    assert read_client_secret(variable="V", environ={"V": "from-variable\n"}) == "from-variable"
    assert read_client_secret(file=file, environ={}) == "from-file"
    assert read_client_secret(environ={"V": "x"}) is None


def test_a_client_secret_that_is_not_there_is_a_wrong_setting(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("empty", "binary", "missing"):
        with pytest.raises(SettingsError, match=name):
            read_client_secret(file=tmp_path / name, environ={})
    with pytest.raises(SettingsError, match="'V'"):
        read_client_secret(variable="V", environ={})
    with pytest.raises(SettingsError, match="not from both"):
        read_client_secret(variable="V", file=tmp_path / "empty", environ={"V": "x"})
