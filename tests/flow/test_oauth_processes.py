"""Two cron jobs refresh at the same moment, again and again, and neither loses the grant."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Iterator
from datetime import UTC, datetime
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path

import httpx2
import pytest

from cfaudit_export.auth.oauth import OAuthCredential
from cfaudit_export.auth.signin import SignIn, sign_in
from cfaudit_export.auth.store import GrantStore
from cfaudit_export.sandbox import Sandbox, SandboxOptions, World
from cfaudit_export.sandbox.dash import OAuthKnobs
from cfaudit_export.sandbox.oauth import OAuth
from cfaudit_export.sandbox.visitor import visit

ROUNDS = 50
WAIT_SECONDS = 60
SPAWN = multiprocessing.get_context("spawn")


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(World(SandboxOptions(events=10))) as sandbox:
        # A refresh takes long enough for two to overlap, and dash takes each of its own tokens once.
        sandbox.app.authorization = OAuth(sandbox.world, OAuthKnobs(dash_latency_seconds=0.02, dash_rotates=True))
        yield sandbox


def signed_in(sandbox: Sandbox, state_dir: Path) -> GrantStore:
    store = GrantStore(state_dir)
    options = SignIn(server_url=sandbox.mcp_url, limit_seconds=WAIT_SECONDS)
    sign_in(options, store, clock=now, tell=lambda _line: None, open_browser=visit)
    return store


def refresh_in_rounds(url: str, state_dir: Path, barrier: Barrier, tokens: Queue[str]) -> None:
    """Be one of two processes: in each round both find the same token refused, and renew it."""
    refused = asyncio.run(OAuthCredential(GrantStore(state_dir), url, clock=now).token())
    for _ in range(ROUNDS):
        barrier.wait(WAIT_SECONDS)
        credential = OAuthCredential(GrantStore(state_dir), url, clock=now)
        assert asyncio.run(credential.renew(refused))
        refused = asyncio.run(credential.token())
        tokens.put(refused)


def test_two_processes_that_refresh_at_once_share_one_refresh_fifty_times(sandbox: Sandbox, tmp_path: Path) -> None:
    store = signed_in(sandbox, tmp_path)
    barrier, queues = SPAWN.Barrier(2), [SPAWN.Queue(), SPAWN.Queue()]
    children = [
        SPAWN.Process(target=refresh_in_rounds, args=(sandbox.mcp_url, tmp_path, barrier, queue)) for queue in queues
    ]
    for child in children:
        child.start()
    one, other = ([queue.get(timeout=WAIT_SECONDS) for _ in range(ROUNDS)] for queue in queues)
    for child in children:
        child.join(WAIT_SECONDS)
    assert [child.exitcode for child in children] == [0, 0]
    assert one == other
    assert len(set(one)) == ROUNDS
    oauth = sandbox.app.authorization
    assert isinstance(oauth, OAuth)
    assert oauth.refreshes == ROUNDS
    assert_alive(sandbox, store)


def assert_alive(sandbox: Sandbox, store: GrantStore) -> None:
    credential = OAuthCredential(store, sandbox.mcp_url, clock=now)
    assert asyncio.run(credential.renew(asyncio.run(credential.token())))
    headers = {"Authorization": f"Bearer {asyncio.run(credential.token())}"}
    assert httpx2.get(sandbox.mcp_url, headers=headers, trust_env=False).status_code == 405


def refresh_for_ever(url: str, state_dir: Path, refreshed: Queue[str]) -> None:
    credential = OAuthCredential(GrantStore(state_dir), url, clock=now)
    while True:
        asyncio.run(credential.renew(asyncio.run(credential.token())))
        refreshed.put("done")


def test_a_process_that_is_killed_while_it_refreshes_loses_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    store = signed_in(sandbox, tmp_path)
    fork = multiprocessing.get_context("fork")
    for delay_seconds in (0.0, 0.005, 0.015, 0.025, 0.035):
        refreshed = fork.Queue()
        child = fork.Process(target=refresh_for_ever, args=(sandbox.mcp_url, tmp_path, refreshed))
        child.start()
        refreshed.get(timeout=WAIT_SECONDS)
        child.join(delay_seconds)  # somewhere within the next refresh
        os.kill(child.pid or 0, signal.SIGKILL)
        child.join(WAIT_SECONDS)
        assert_alive(sandbox, store)
