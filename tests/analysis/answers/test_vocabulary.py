"""Rows in, what they count as out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.analysis.answers.vocabulary import (
    ACTION,
    ACTOR_KIND,
    ACTOR_NAME,
    BY_DESCRIPTION,
    CREDENTIAL_KIND,
    CREDENTIAL_NAME,
    SENSITIVE_SORT,
    Actor,
    UsedCredential,
)

NOON = datetime(2026, 11, 1, 12, tzinfo=UTC)


@pytest.fixture
def said(tmp_path: Path, store_rows: Callable[..., Path], opened: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """Store one event and return what it counts as."""

    def say(**columns: Any) -> dict[str, Any]:
        root = store_rows(tmp_path, [{"event_time": NOON} | columns])
        row: dict[str, Any]
        [row] = opened(root).ask(
            f"""SELECT {ACTOR_KIND} AS actor_kind, {ACTOR_NAME} AS actor_name, {CREDENTIAL_KIND} AS kind,
            {CREDENTIAL_NAME} AS token, {ACTION} AS action, {SENSITIVE_SORT} AS sort, {BY_DESCRIPTION} AS guessed
            FROM audit_events"""  # noqa: S608  # our own texts
        )
        return row

    return say


@pytest.mark.parametrize(
    ("columns", "kind", "name", "shown"),
    [
        (
            {"actor_email": "a@example.com", "actor_id": "1", "actor_type": "user"},
            "email",
            "a@example.com",
            "a@example.com",
        ),
        ({"actor_email": " ", "actor_id": "17"}, "id", "17", "17"),
        ({"actor_token_name": "ci", "actor_type": "account"}, "token", "ci", "token ci"),
        ({"actor_token_id": "9f"}, "token", "9f", "token 9f"),
        ({"actor_type": "delegated_service"}, "type", "delegated_service", "(delegated_service)"),
        ({}, "unknown", None, "unknown"),
    ],
)
def test_an_actor_is_named_by_the_best_that_is_known(said: Any, columns: Any, kind: str, name: str, shown: str) -> None:
    row = said(**columns)
    assert (row["actor_kind"], row["actor_name"]) == (kind, name)
    assert Actor(row["actor_kind"], row["actor_name"]).shown == shown


@pytest.mark.parametrize(
    ("columns", "kind", "shown"),
    [
        ({"actor_context": "dash"}, "dash", "dashboard"),
        ({"actor_context": "api_key"}, "api_key", "API key"),
        ({"actor_context": "api_token", "actor_token_name": "ci"}, "api_token", "API token ci"),
        ({"actor_context": "api_token", "actor_token_id": "9f"}, "api_token", "API token 9f"),
        ({"actor_context": "api_token"}, "api_token", "API token"),
        ({"actor_context": "oauth"}, "oauth", "OAuth"),
        ({"actor_context": "origin_ca_key"}, "origin_ca_key", "Origin CA key"),
        ({"actor_context": "api"}, "api", "API, credential not recorded"),
        ({"actor_context": "carrier_pigeon"}, "carrier_pigeon", "carrier_pigeon"),
        ({"actor_token_name": "ci"}, "api_token", "API token ci"),
        ({"actor_email": "a@example.com"}, "unknown", "unknown"),
        ({"actor_context": ""}, "unknown", "unknown"),
    ],
)
def test_a_credential_is_what_the_record_says_and_else_unknown(said: Any, columns: Any, kind: str, shown: str) -> None:
    row = said(**columns)
    assert row["kind"] == kind
    assert UsedCredential(row["kind"], row["token"]).shown == shown


@pytest.mark.parametrize(
    ("columns", "action"),
    [
        ({"action_type": "login", "action_description": "Signed in"}, "login"),
        ({"action_type": "update", "action_description": "LOGIN"}, "login"),
        ({"action_description": "Log in"}, "login"),
        ({"action_type": "create", "action_description": "Create login page"}, "create"),
        ({"action_description": "Delete DNS record"}, "unknown"),
        ({"action_type": ""}, "unknown"),
        ({"action_type": "restore"}, "restore"),
    ],
)
def test_an_action_is_never_guessed_but_for_a_sign_in(said: Any, columns: Any, action: str) -> None:
    assert said(**columns)["action"] == action


@pytest.mark.parametrize(
    ("columns", "sort"),
    [
        ({"resource_product": "account_members", "resource_type": "members"}, "members"),
        ({"resource_product": "memberships", "resource_type": "memberships"}, "members"),
        ({"resource_product": "api_tokens", "resource_type": "tokens"}, "tokens"),
        ({"resource_product": "access", "resource_type": "service_tokens"}, "tokens"),
        ({"resource_product": "access", "resource_type": "apps.policies"}, "access"),
        ({"resource_product": "gateway", "resource_type": "policy"}, "access"),
        ({"resource_product": "dns_records", "resource_type": "records"}, "dns"),
        ({"resource_product": "dns", "resource_type": "zones.dns_records", "action_type": "delete"}, "dns"),
        ({"resource_product": "dnssec"}, "dns"),
        ({"resource_product": "workers", "action_type": "delete"}, "deletes"),
        ({"resource_product": "workers", "action_description": "Remove route"}, "deletes"),
        ({"resource_product": "workers", "action_type": "update", "action_description": "Delete later"}, None),
        ({"resource_product": "dns", "action_type": "view"}, None),
        ({"resource_product": "tokens", "action_description": "LOGIN", "action_type": "update"}, None),
        ({"resource_product": "remembered", "resource_type": "broken"}, None),
        ({}, None),
    ],
)
def test_sensitive_changes_are_sorted_by_what_they_concern(said: Any, columns: Any, sort: str | None) -> None:
    assert said(**columns)["sort"] == sort


def test_a_delete_known_by_its_description_alone_is_marked(said: Any) -> None:
    assert said(action_description="Delete route")["guessed"] is True
    assert said(action_description="Delete route", action_type="delete")["guessed"] is False
    assert said(action_description="Deliver mail")["guessed"] is False
