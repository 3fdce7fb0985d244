"""Thirty days of cron runs after one sign-in, on a server that has its troubles."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from cfaudit_export.auth.grants import grant_days_left
from cfaudit_export.auth.oauth import OAuthCredential
from cfaudit_export.auth.signin import SignIn, sign_in
from cfaudit_export.auth.store import GrantStore
from cfaudit_export.errors import AccessError, TryAgainError
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from cfaudit_sandbox.oauth.dash import OAuthKnobs, TokenMishap
from cfaudit_sandbox.oauth.server import OAuth
from cfaudit_sandbox.oauth.visitor import visit

START = datetime(2026, 11, 1, tzinfo=UTC)
DAYS = 30
MISHAPS: tuple[TokenMishap, ...] = ("lost", "lost", "drop", "garbled", "html", 500, 502, 429, 401)


class Clock:
    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> float:
        return self.at.timestamp()

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.mark.parametrize("hours", [3, pytest.param(1, marks=pytest.mark.soak)])
def test_runs_need_nobody_for_thirty_days_and_lose_nothing(tmp_path: Path, hours: int) -> None:
    runs = DAYS * 24 // hours
    rng, clock, store, opened = random.Random(20261101), Clock(), GrantStore(tmp_path), list[str]()
    outcomes: Counter[str] = Counter()
    no_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # loading the trust store 700 times takes longer than the rest

    def browse(url: str) -> None:
        opened.append(url)
        visit(url)

    with (
        Sandbox(World(SandboxOptions(events=10, end_at=START), clock)) as sandbox,
        httpx2.Client(trust_env=False) as http,
    ):
        oauth = sandbox.app.authorization = OAuth(sandbox.world)
        sign_in(
            SignIn(server_url=sandbox.mcp_url, grant_days=DAYS),
            store,
            clock=clock.now,
            tell=lambda _line: None,
            open_browser=browse,
        )
        oauth.turn(OAuthKnobs(dash_expires_in=3600))

        def run() -> str:
            """Be one cron job: get a token, use it, replace it when what it stands for has died."""
            credential = OAuthCredential(
                store, sandbox.mcp_url, clock=clock.now, sleep=clock.sleep, jitter=rng.random, verify=no_tls
            )
            try:
                token = asyncio.run(credential.token())
                if rng.random() < 0.02:
                    oauth.dash.kill()
                    assert asyncio.run(credential.renew(token))
                    token = asyncio.run(credential.token())
            except TryAgainError:
                return "try again"
            status = http.get(sandbox.mcp_url, headers={"Authorization": f"Bearer {token}"}).status_code
            return "worked" if status == 405 else f"HTTP {status}"

        for number in range(1, runs):
            clock.at = START + timedelta(hours=number * hours, seconds=rng.uniform(0, 90))
            oauth._mishaps.clear()
            if number == runs // 2:
                oauth.turn(OAuthKnobs(dash_expires_in=3600, lag_seconds=60))  # and forgets what it said a moment ago
            if rng.random() < 0.3:
                oauth.fail_next(rng.choice(MISHAPS), rng.choice((1, 1, 1, 2, 3)))
            elif rng.random() < 0.02:
                oauth.fail_next(503, 100)  # down for longer than a run waits
            outcomes[run()] += 1

        assert set(outcomes) == {"worked", "try again"}
        assert outcomes.total() == runs - 1
        # A refresh token that may have been used is not presented again in the same run, so each mishap may cost one.
        assert 1 <= outcomes["try again"] <= runs / 3
        assert oauth.refreshes > runs
        assert len(opened) == 1

        grant = store.find(sandbox.mcp_url, "default")
        assert grant is not None
        assert 0 < (grant_days_left(grant, clock.now()) or 0) < hours / 12
        clock.at = START + timedelta(days=DAYS)
        oauth._mishaps.clear()
        with pytest.raises(AccessError, match="Refresh token has expired.*run: cfaudit-export login"):
            run()
        assert len(opened) == 1
