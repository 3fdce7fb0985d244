from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail

from cfaudit_export.auth import credential_for, header_values
from cfaudit_export.auth.grants import Grant
from cfaudit_export.auth.registration import Client
from cfaudit_export.auth.store import GrantStore
from cfaudit_export.errors import AccessError, SettingsError
from cfaudit_export.plugin.records import Credential
from cfaudit_export.settings import Settings

URL = "https://gateway.example/mcp"
NOW = datetime(2026, 11, 24, tzinfo=UTC)


class Memory(KeyringBackend):
    """A keyring that works."""

    priority = 5.0

    def get_password(self, service: str, username: str) -> str | None:
        return "from_keyring_0" if (service, username) == ("cfaudit-export", "prod") else None

    def set_password(self, service: str, username: str, password: str) -> None:
        raise AssertionError("nothing is to be kept")

    def delete_password(self, service: str, username: str) -> None:
        raise AssertionError("nothing is to be removed")


@pytest.fixture
def unlocked() -> Iterator[None]:
    before = keyring.get_keyring()
    keyring.set_keyring(Memory())
    yield
    keyring.set_keyring(before)


@pytest.fixture
def signed_in(tmp_path: Path) -> Grant:
    grant = Grant(
        issuer="https://gateway.example",
        resource=URL,
        profile="default",
        audience=URL,
        client=Client(id="client"),
        token_endpoint="https://gateway.example/token",
        access_token="from_the_grant",
        signed_in_at=NOW,
        renewed_at=NOW,
    )
    GrantStore(tmp_path).add(grant)
    return grant


def find(
    tmp_path: Path, environ: Mapping[str, str] = {}, hidden: list[str] | None = None, **settings: Any
) -> Credential:
    hide = (hidden if hidden is not None else []).append
    return credential_for(
        Settings(source="auditlogs", state_dir=tmp_path, **settings), URL, environ=environ, clock=lambda: NOW, hide=hide
    )


def token(credential: Credential) -> str | None:
    return asyncio.run(credential.token())


def headers(**names: str) -> dict[str, Any]:
    return {"sources": {"auditlogs": {"headers": names}}}


def test_the_variable_wins_then_the_file_then_the_keyring_then_the_sign_in(
    tmp_path: Path, unlocked: None, signed_in: Grant
) -> None:
    file = tmp_path / "token"
    file.write_text("from_file_000")
    file.chmod(0o600)
    hidden: list[str] = []
    here: dict[str, Any] = {"token_file": file, "token_keyring": "prod"}
    assert token(find(tmp_path, {"CLOUDFLARE_API_TOKEN": "from_variable"}, hidden, **here)) == "from_variable"
    assert token(find(tmp_path, {"CLOUDFLARE_API_TOKEN": ""}, hidden, **here)) == "from_file_000"
    assert token(find(tmp_path, {}, hidden, token_keyring="prod")) == "from_keyring_0"
    credential = find(tmp_path, {}, hidden)
    assert (credential.kind, token(credential)) == ("oauth", "from_the_grant")
    assert set(hidden) == {"from_variable", "from_file_000", "from_keyring_0", "from_the_grant"}


def test_a_sign_in_counts_for_its_server_and_profile_only(tmp_path: Path, signed_in: Grant) -> None:
    with pytest.raises(AccessError, match=r"run: cfaudit-export login --profile other, or set CLOUDFLARE_API_TOKEN"):
        find(tmp_path, profile="other")
    with pytest.raises(AccessError, match=r"no credential for 'https://else\.example/mcp'; run: cfaudit-export login,"):
        credential_for(
            Settings(source="auditlogs", state_dir=tmp_path), "https://else.example/mcp", environ={}, clock=lambda: NOW
        )


def test_a_sign_in_that_cannot_be_read_is_not_passed_over(tmp_path: Path, signed_in: Grant) -> None:
    [file] = (tmp_path / "grants").glob("*.json")
    file.write_text("{")
    with pytest.raises(AccessError, match="cannot be read"):
        find(tmp_path)


def test_without_a_token_a_gateway_is_asked_with_its_own_headers(tmp_path: Path) -> None:
    hidden: list[str] = []
    assert token(find(tmp_path, {"GATEWAY_KEY": "gateway-secret"}, hidden, **headers(X_Key="GATEWAY_KEY"))) is None
    assert hidden == ["gateway-secret"]


def test_an_authorization_header_of_ones_own_goes_before_every_token(tmp_path: Path, signed_in: Grant) -> None:
    environ, hidden = {"CLOUDFLARE_API_TOKEN": "from_variable", "PASS": "Bearer access-key"}, list[str]()
    assert token(find(tmp_path, environ, hidden, **headers(authorization="PASS"))) is None
    assert "access-key" in hidden


def test_without_any_credential_both_ways_are_named(tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="run: cfaudit-export login, or set CLOUDFLARE_API_TOKEN"):
        find(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_keyring_without_the_token_or_no_keyring_is_said(tmp_path: Path, unlocked: None) -> None:
    with pytest.raises(SettingsError, match="put it there with: keyring set cfaudit-export other"):
        find(tmp_path, token_keyring="other")
    keyring.set_keyring(fail.Keyring())
    with pytest.raises(SettingsError, match="token_keyring is set, but there is no keyring"):
        find(tmp_path, token_keyring="prod")


def test_values_of_headers_come_from_variables_and_are_never_shown() -> None:
    assert header_values({"X-Key": "KEY"}, {"KEY": "secret"}) == {"X-Key": "secret"}
    with pytest.raises(SettingsError, match="the header 'X-Key' takes its value from the variable 'KEY'"):
        header_values({"X-Key": "KEY"}, {})
    with pytest.raises(SettingsError, match="the variable 'KEY' holds characters") as caught:
        header_values({"X-Key": "KEY"}, {"KEY": "secret\n"})
    assert "secret" not in str(caught.value)
