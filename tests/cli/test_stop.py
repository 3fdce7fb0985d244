"""SIGTERM while a sink hangs: the process ends within ten seconds, and the next run has everything once."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest


@pytest.fixture(autouse=True)
def as_in_a_terminal() -> Iterator[None]:
    """Let children hear of a hangup, also where the tests themselves were started by nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_sink_that_hangs_is_left_within_ten_seconds_and_nothing_is_lost(
    hanging: str, cli: Any, target: tuple[str, ...], place: Path
) -> None:
    command = [sys.executable, "-m", "cfaudit_export", "run", *target, "--sink", "hanging", "--since", "40d"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout
    assert running.stdout.readline() == "loading\n"
    running.send_signal(signal.SIGTERM)
    since = time.monotonic()
    _, err = running.communicate(timeout=30)
    assert running.returncode == 143
    assert time.monotonic() - since < 10
    assert ("stopped; finished work is saved" in err.splitlines()[-1]) == (hanging == "waits")
    [report] = json.loads(cli("run", *target, "--since", "40d", "--json").out)
    assert report["exit_code"] == 0
    ids = ds.dataset(place / "out", format="parquet").to_table(columns=["event_id"])["event_id"].to_pylist()
    assert len(ids) == len(set(ids)) == 300


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_waits_for_its_server_ends_at_once(target: tuple[str, ...], number: int) -> None:
    command = [sys.executable, "-m", "cfaudit_export", "run", *target, "--server-url", "http://127.0.0.1:9/mcp"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stderr
    assert "trying again" in running.stderr.readline()
    running.send_signal(number)
    since = time.monotonic()
    _, err = running.communicate(timeout=30)
    assert running.returncode == 128 + number
    assert time.monotonic() - since < 10
    assert "stopped; finished work is saved" in err


def test_nohup_keeps_its_meaning(target: tuple[str, ...]) -> None:
    command = [sys.executable, "-m", "cfaudit_export", "run", *target, "--server-url", "http://127.0.0.1:9/mcp"]
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert running.stderr
    assert "trying again" in running.stderr.readline()
    running.send_signal(signal.SIGHUP)
    assert "trying again" in running.stderr.readline(), "it goes on"
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=30)
    assert running.returncode == 143
