"""Slices in processes of their own, all at once, beside an ordinary run, killed and started again: every event once."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from cfaudit_export.errors import ExitCode
from cfaudit_sandbox import Sandbox, SandboxOptions, World

SLICES = 3


def options_of(part: dict[str, Any]) -> tuple[str, ...]:
    return ("--since", part["since"], "--until", part["until"], "--slice")


@pytest.mark.soak
def test_processes_export_one_account_together(place_of: Callable[..., Any]) -> None:
    with Sandbox(World(SandboxOptions(events=900, seed=11))) as sandbox:
        place = place_of(sandbox)
        where = ("--server-url", sandbox.mcp_url, "--account", place.account)
        planned = place.cli("plan", *where, "--sink", "parquet", "-o", f"sinks.parquet.path={place.out}",
                            "--since", "40d", "--slices", str(SLICES), "--json")  # fmt: skip
        parts = json.loads(planned.out)
        assert len(parts) == SLICES
        killed = place.start(*options_of(parts[0]), "-o", "sources.auditlogs.page_size=50")
        assert killed.stderr
        killed.stderr.readline()  # it has begun
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        with ThreadPoolExecutor(SLICES + 1) as pool:
            runs = [pool.submit(place.run, *options_of(part), "--max-wait", "5s") for part in parts]
            ordinary = pool.submit(place.run, "--max-wait", "0s")
        codes = [run.result().code for run in runs]
        assert set(codes) <= {ExitCode.OK, ExitCode.TRY_AGAIN}
        assert ordinary.result().code in {ExitCode.OK, ExitCode.TRY_AGAIN}
        for part, code in zip(parts, codes, strict=True):
            if code != ExitCode.OK:
                assert place.run(*options_of(part)).code == ExitCode.OK
        last = place.run()
        assert last.code == ExitCode.OK
        place.assert_everything_is_there_once()
        [stream] = json.loads(place.cli("status", "--json").out)
        [covered] = stream["sinks"]["parquet"]["covered"]
        assert (covered["since"], stream["leased"]) == (parts[0]["since"], [])
        assert stream["sinks"]["parquet"]["rows"] == 900
