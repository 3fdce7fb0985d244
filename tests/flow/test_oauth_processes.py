"""Two cron jobs refresh at the same moment, again and again, and neither loses the grant."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest

from cfaudit_export.auth.oauth import OAuthCredential
from cfaudit_export.auth.signin import SignIn, sign_in
from cfaudit_export.auth.store import GrantStore
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.oauth.dash import OAuthKnobs
from cfaudit_sandbox.oauth.server import OAuth
from cfaudit_sandbox.oauth.visitor import visit

ROUNDS = 50
CHILD = Path(__file__).with_name("refreshing_child.py")


def now() -> datetime:
    return datetime.now(UTC)


class Child:
    """A process that renews the sign-in whenever it is told that a token was refused."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def tell(self, refused: str) -> None:
        assert self.process.stdin
        self.process.stdin.write(refused + "\n")
        self.process.stdin.flush()

    def hear(self) -> str:
        assert self.process.stdout
        token = self.process.stdout.readline().strip()
        assert token, "the child ended, see above"
        return token


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(World(SandboxOptions(events=10))) as sandbox:
        # A refresh takes long enough for two to overlap, and dash takes each of its own tokens once.
        sandbox.app.authorization = OAuth(sandbox.world, OAuthKnobs(dash_latency_seconds=0.02, dash_rotates=True))
        yield sandbox


@pytest.fixture
def store(sandbox: Sandbox, tmp_path: Path) -> GrantStore:
    store = GrantStore(tmp_path)
    options = SignIn(server_url=sandbox.mcp_url, limit_seconds=60)
    sign_in(options, store, clock=now, tell=lambda _line: None, open_browser=visit)
    return store


@pytest.fixture
def start_child(sandbox: Sandbox, tmp_path: Path) -> Iterator[Callable[[], Child]]:
    command = [sys.executable, str(CHILD), sandbox.mcp_url, str(tmp_path)]
    with ExitStack() as stack:

        def start() -> Child:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            stack.enter_context(process)
            return Child(process)

        yield start


def token_of(sandbox: Sandbox, store: GrantStore) -> str:
    return asyncio.run(OAuthCredential(store, sandbox.mcp_url, clock=now).token())


def assert_alive(sandbox: Sandbox, store: GrantStore) -> None:
    credential = OAuthCredential(store, sandbox.mcp_url, clock=now)
    assert asyncio.run(credential.renew(asyncio.run(credential.token())))
    headers = {"Authorization": f"Bearer {asyncio.run(credential.token())}"}
    assert httpx2.get(sandbox.mcp_url, headers=headers, trust_env=False).status_code == 405


def test_two_processes_that_refresh_at_once_share_one_refresh_fifty_times(
    sandbox: Sandbox, store: GrantStore, start_child: Callable[[], Child]
) -> None:
    children = [start_child(), start_child()]
    tokens = [token_of(sandbox, store)]
    for _ in range(ROUNDS):
        for child in children:
            child.tell(tokens[-1])
        one, other = (child.hear() for child in children)
        assert one == other
        tokens.append(one)
    assert len(set(tokens)) == ROUNDS + 1
    oauth = sandbox.app.authorization
    assert isinstance(oauth, OAuth)
    assert oauth.refreshes == ROUNDS
    assert_alive(sandbox, store)


def test_a_process_that_is_killed_while_it_refreshes_loses_nothing(
    sandbox: Sandbox, store: GrantStore, start_child: Callable[[], Child]
) -> None:
    for delay_seconds in (0.0, 0.005, 0.015, 0.025, 0.035):
        child = start_child()
        child.tell(token_of(sandbox, store))
        child.tell(child.hear())
        with pytest.raises(subprocess.TimeoutExpired):
            child.process.wait(delay_seconds)  # somewhere within the second refresh
        child.process.kill()
        assert child.process.wait(60) < 0
        assert_alive(sandbox, store)
