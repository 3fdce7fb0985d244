from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from cfaudit_export.auth.signout import sign_out
from cfaudit_export.auth.store import GrantStore

if TYPE_CHECKING:
    from tests.core.auth.conftest import Scripted, Service


def test_signing_out_ends_the_grant_at_the_server_and_here(service: Service) -> None:
    service.sign_in()
    service.told.clear()
    assert sign_out(service.store, service.url, "default", tell=service.told.append)
    assert service.oauth.memory.grants == {}
    assert service.store.find(service.url, "default") is None
    assert service.told == []


def test_signing_out_twice_is_fine(service: Service) -> None:
    assert not sign_out(service.store, service.url, "default", tell=service.told.append)


def test_a_client_with_a_secret_signs_out_with_it(service: Service) -> None:
    grant = service.sign_in()
    client = replace(grant.client, secret="s3cret-of-32-characters", auth_method="client_secret_basic")
    record = service.oauth.memory.clients[grant.client.id]
    service.oauth.memory.clients[grant.client.id] = replace(record, secret=client.secret)
    service.store.add(replace(grant, client=client))
    assert sign_out(service.store, service.url, "default", tell=service.told.append)
    assert service.oauth.memory.grants == {}


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("http://127.0.0.1:1/token", "Connection refused"),
        (None, "the server has no revocation endpoint"),
    ],
)
def test_what_cannot_be_revoked_is_still_forgotten_and_that_is_said(
    service: Service, endpoint: str | None, words: str
) -> None:
    service.store.add(replace(service.sign_in(grant_days=20), revocation_endpoint=endpoint))
    service.told.clear()
    assert sign_out(service.store, service.url, "default", tell=service.told.append)
    assert service.store.find(service.url, "default") is None
    end = f"; it ends by itself on {service.clock.now() + timedelta(days=20):%Y-%m-%d}"
    assert len(service.told) == 1
    assert f"but not revoked at '{service.sandbox.url}'" in service.told[0]
    assert words in service.told[0]
    assert service.told[0].endswith(end)


@pytest.mark.parametrize(("status", "body"), [(500, b""), (400, {"error": "invalid_client"}), (404, b"")])
def test_a_server_that_does_not_revoke_is_quoted(server: Scripted, service: Service, status: int, body: object) -> None:
    service.store.add(replace(service.sign_in(), revocation_endpoint=f"{server.url}/revoke"))
    server.page("POST /revoke", body, status)
    service.told.clear()
    assert sign_out(service.store, service.url, "default", tell=service.told.append)
    assert f"HTTP {status}" in service.told[0]


def test_what_cannot_be_read_is_forgotten(service: Service) -> None:
    service.sign_in()
    next((service.state_dir / "grants").glob("*.json")).write_text("{")
    assert sign_out(service.store, service.url, "default", tell=service.told.append)
    assert "not revoked" in service.told[-1]
    assert GrantStore(service.state_dir).find(service.url, "default") is None
