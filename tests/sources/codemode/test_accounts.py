"""All accounts of a credential by the source `codemode`, however many there are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest

from cfaudit_export.auth.token import TokenCredential
from cfaudit_export.core.model import Connection, Stream
from cfaudit_export.errors import AccessError, AccountChoiceError, SettingsError
from cfaudit_export.plugin.records import SourceContext
from cfaudit_export.sources.codemode import CodeModeConfig
from cfaudit_export.sources.codemode.source import codemode_source
from cfaudit_sandbox import Sandbox, SandboxOptions, World

END = datetime(2026, 11, 20, 12, tzinfo=UTC)


@contextmanager
def served(accounts: int, **options: Any) -> Iterator[Sandbox]:
    with Sandbox(World(SandboxOptions(events=0, accounts=accounts, end_at=END, **options))) as sandbox:
        yield sandbox


def connect(sandbox: Sandbox, token: str = "user") -> Connection:
    config = CodeModeConfig(server_url=sandbox.codemode_url, budget_calls=0, retry_seconds=1.0)
    context = SourceContext(Stream("", "codemode"), TokenCredential(sandbox.world.tokens[token]), lambda: END)
    source = codemode_source(config, context)
    try:
        return source.connect()
    finally:
        source.close()


def chosen_from(sandbox: Sandbox) -> list[tuple[str, str]]:
    with pytest.raises(AccountChoiceError) as caught:
        connect(sandbox)
    return list(caught.value.accounts)


@pytest.mark.parametrize("generation", ["A", "G0"])
@pytest.mark.parametrize("count", [2, 15, 16, 17, 30, 31, 50, 51, 100, 3_000])
def test_every_account_is_found(count: int, generation: str) -> None:
    with served(count, codemode_generation=generation) as sandbox:
        assert chosen_from(sandbox) == [(one.id, one.name) for one in sandbox.world.accounts]


def test_the_only_account_needs_no_choice() -> None:
    with served(1) as sandbox:
        assert connect(sandbox).account_id == sandbox.world.accounts[0].id


def test_a_credential_without_an_account_is_told_so() -> None:
    with served(0) as sandbox, pytest.raises(AccessError, match="has access to no account"):
        connect(sandbox)


@pytest.mark.parametrize(
    ("found", "instead", "words"),
    [
        ('"total_count":40', '"total_count":41', "lists 40 of 41 accounts"),
        ('"result":[{"id"', '"result":[{"uid"', "lists 16 accounts .* unknown form"),
        ('"total_count":40', '"total_count":"40"', "unknown form"),
    ],
)
def test_a_list_that_is_not_whole_is_no_list(found: str, instead: str, words: str) -> None:
    with served(40) as sandbox:
        served_page = sandbox.codemode.isolates.api.accounts

        def page(*asked: Any) -> Any:
            reply = served_page(*asked)
            assert found.encode() in reply.body
            return type(reply)(reply.status, reply.body.replace(found.encode(), instead.encode()), reply.headers)

        sandbox.codemode.isolates.api.accounts = page
        with pytest.raises(SettingsError, match=words):
            connect(sandbox)


def test_accounts_that_may_not_be_listed_are_said_to_be_possible() -> None:
    with served(40) as sandbox, pytest.raises(SettingsError, match="and not all .*name those to export with --account"):
        connect(sandbox, "no_permission")


def test_an_error_names_some_accounts_and_says_how_many_more_there_are() -> None:
    error = AccountChoiceError([(f"{number:032x}", "name") for number in range(3_000)])
    assert len(str(error)) < 2_000
    assert "and 2970 more" in str(error)
