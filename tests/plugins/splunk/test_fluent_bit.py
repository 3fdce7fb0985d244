"""The sink against a receiver of others: Fluent Bit's input for Splunk's protocol, which has no acknowledgement."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time as clock
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export import SinkRefusedError, read_batch
from cfaudit_export.testing import make_batch

FLUENT_BIT = os.environ.get("FLUENT_BIT_BIN") or shutil.which("fluent-bit")
WAIT_SECONDS = 20

pytestmark = pytest.mark.skipif(
    not FLUENT_BIT,
    reason="NOT TESTED: Splunk's protocol as others read it; put fluent-bit on PATH or name it in FLUENT_BIT_BIN",
)


@dataclass
class FluentBit:
    url: str
    kept: Path


@pytest.fixture
def fluent_bit(tmp_path: Path) -> Iterator[FluentBit]:
    assert FLUENT_BIT
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    kept = tmp_path / "kept"
    kept.mkdir()
    command = [FLUENT_BIT, "-q", "-f", "1", "-i", "splunk", "-p", "listen=127.0.0.1", "-p", f"port={port}"]
    command += ["-p", "splunk_token=token-plain", "-p", "buffer_max_size=8M"]
    command += ["-o", "file", "-m", "*", "-p", f"path={kept}", "-p", "file=events", "-p", "format=plain"]
    with subprocess.Popen(command) as process:
        try:
            until(lambda: answers(port))
            yield FluentBit(f"http://127.0.0.1:{port}", kept / "events")
        finally:
            process.terminate()
            process.wait(WAIT_SECONDS)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def until(true: Any) -> None:
    deadline = clock.monotonic() + WAIT_SECONDS
    while not true():
        assert clock.monotonic() < deadline, "fluent-bit did not do it in time"
        clock.sleep(0.05)


@pytest.mark.parametrize("gzip", ["gzip", "plain"])
def test_every_event_arrives(fluent_bit: FluentBit, new_sink: Any, tmp_path: Path, gzip: str) -> None:
    batch = make_batch(tmp_path, rows=300, shape="whole")
    receipt = new_sink(fluent_bit, gzip=gzip == "gzip", max_bytes=200_000).load(batch)
    assert receipt.rows == 300
    ids = read_batch(batch)["event_id"].to_pylist()
    until(lambda: fluent_bit.kept.exists() and all(event in fluent_bit.kept.read_text() for event in ids))


def test_a_wrong_token_is_refused(
    fluent_bit: FluentBit, new_sink: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = new_sink(fluent_bit)
    monkeypatch.setenv("SPLUNK_HEC_TOKEN", "another")
    with pytest.raises(SinkRefusedError, match="check the token"):
        sink.load(make_batch(tmp_path, rows=1))
