"""Several real processes, one credential, one budget: the server never has to refuse a call."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cfaudit_sandbox import Sandbox, SandboxOptions, World

WORKERS = 4
EVENTS = 200
LIMIT = 120
CODE = 75  # the budget is spent, and the run may not wait


def command(sandbox: Sandbox, root: Path, account: str, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "cfaudit_export", "run", "--json", "--account", account, "--sink", "parquet"),
        *("--source", "codemode", "--server-url", sandbox.codemode_url, "--state-dir", str(root / "state")),
        *("-o", f"sinks.parquet.path={root / 'out'}", "-o", f"sources.codemode.budget_calls={LIMIT}"),
        *("-o", "sources.codemode.page_size=2", "-o", "sources.codemode.pages_per_call=1", "--max-wait", "0s"),
        *("-o", "budget.store=checkpoint", *more),
    ]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CFAUDIT_", "CLOUDFLARE_"))}
    return {**kept, "HOME": str(tmp_path)}


def test_processes_that_share_a_budget_never_spend_more_together(tmp_path: Path, environ: dict[str, str]) -> None:
    options = SandboxOptions(events=EVENTS, accounts=WORKERS, span_seconds=86_400.0, throttle_calls=LIMIT)
    with Sandbox(World(options)) as sandbox:
        environ["CLOUDFLARE_API_TOKEN"] = sandbox.world.tokens["user"]
        running = [
            subprocess.Popen(
                command(sandbox, tmp_path, account.id), env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            for account in sandbox.world.accounts
        ]
        ended = [one.communicate() for one in running]
        codes = [one.returncode for one in running]
        counts = dict(sandbox.upstream.counts)
    assert codes == [CODE] * WORKERS, ended
    assert counts.get("throttled", 0) == 0
    # On a machine that is busy blocks lapse before they are used up.
    assert WORKERS <= counts["upstream_calls"] <= LIMIT
    [document] = (tmp_path / "state" / "checkpoints" / "shared").glob("budget-*.json")
    assert sum(one["calls"] for one in json.loads(document.read_text())["draws"]) <= LIMIT
    assert sandbox.world.tokens["user"] not in document.read_text()


def test_a_misspelt_store_of_the_budget_is_refused(tmp_path: Path, environ: dict[str, str]) -> None:
    environ["CLOUDFLARE_API_TOKEN"] = "x" * 40
    with Sandbox(World(SandboxOptions(events=1))) as sandbox:
        told = command(sandbox, tmp_path, sandbox.world.accounts[0].id, "-o", "budget.store=checkpiont")
        done = subprocess.run(told, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "none, checkpoint" in done.stderr
