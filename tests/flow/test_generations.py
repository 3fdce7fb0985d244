"""Every generation of the servers, for a user: an API token, a sign-in with a browser, and a renewal in the middle."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from cfaudit_export.auth.token import VARIABLE
from cfaudit_export.cli import main
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.oauth.server import OAuth
from cfaudit_sandbox.oauth.visitor import visit

AUDITLOGS, CODEMODE = ("today", "0.20.9", "next"), ("A", "B")


@pytest.fixture
def command(
    place_of: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[Any, Callable[..., Any]]]:
    """Prepare a machine, and a way to run commands on it in this process; its person consents to everything."""

    def make(sandbox: Sandbox, **environ: str) -> tuple[Any, Callable[..., Any]]:
        place = place_of(sandbox, "--recover", "off", "--settle-lag", "0s", **environ)
        for name, value in place.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(webbrowser, "open", visit)
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        return place, partial(place.here, capsys)

    return make


def sandbox_of(**options: Any) -> Sandbox:
    world = World(SandboxOptions(events=60, **options))
    return Sandbox(world, authorization=OAuth(world))


@pytest.mark.parametrize("generation", AUDITLOGS)
def test_an_api_token_exports_from_every_generation(command: Any, generation: str) -> None:
    with sandbox_of(auditlogs_generation=generation) as sandbox:
        place, run = command(sandbox)
        ended = run()
        assert ended.code == 0, ended.err
        place.assert_everything_is_there_once()


@pytest.mark.parametrize("generation", AUDITLOGS)
def test_a_sign_in_exports_from_every_generation_and_is_renewed_in_the_middle(command: Any, generation: str) -> None:
    with sandbox_of(auditlogs_generation=generation) as sandbox:
        place, run = command(sandbox, CLOUDFLARE_API_TOKEN="")
        where = ("--server-url", sandbox.mcp_url, "--state-dir", str(place.state))
        assert main(["login", *where]) == 0
        oauth = sandbox.app.authorization
        assert isinstance(oauth, OAuth)
        oauth.dash.kill()
        ended = run("-o", "sources.auditlogs.page_size=20")
        assert ended.code == 0, ended.err
        assert oauth.refreshes == 1
        place.assert_everything_is_there_once()
        assert main(["logout", *where]) == 0
        assert not oauth.memory.grants


@pytest.mark.parametrize("generation", CODEMODE)
def test_a_sign_in_exports_whole_records_from_code_mode_and_is_renewed_in_the_middle(
    command: Any, monkeypatch: pytest.MonkeyPatch, generation: str
) -> None:
    with sandbox_of(codemode_generation=generation) as sandbox:
        place, _ = command(sandbox)
        monkeypatch.delenv(VARIABLE)
        where = ("--source", "codemode", "--server-url", sandbox.codemode_url, "--state-dir", str(place.state))
        assert main(["login", *where]) == 0
        sandbox.codemode.authorization.dash.kill()
        into = ("--sink", "parquet", "-o", f"sinks.parquet.path={place.out}", "--settle-lag", "0s")
        assert main(["run", *where, *into]) == 0
        assert sandbox.codemode.authorization.refreshes == 1
        assert len(set(place.rows()["event_id"].to_pylist())) == 60


@pytest.mark.parametrize("options", [{"edge_drop_rate": 0.15}, {"empty_pages": 1, "page_cap": 25}], ids=str)
def test_connections_that_end_anywhere_and_pages_without_rows_cost_no_event(
    command: Any, options: dict[str, Any]
) -> None:
    with sandbox_of(**options) as sandbox:
        place, run = command(sandbox)
        ended = run("-o", "sources.auditlogs.page_size=15")
        assert ended.code == 0, ended.err
        place.assert_everything_is_there_once()
        drops = sum(seen.status == 0 for seen in sandbox.requests.entries)
        assert bool(drops) == ("edge_drop_rate" in options)
