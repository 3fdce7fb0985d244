"""Standard streams that are closed, full, or in an old encoding: no traceback, and nothing about the work changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from cfaudit_export.cli.streams import standard_streams

PROGRAM = [sys.executable, "-m", "cfaudit_export"]
_FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not _FULL.exists(), reason="this system has no /dev/full")


@pytest.fixture
def data(cli: Any, place: Path) -> Path:
    assert cli("demo", "--events", "300").code == 0
    return place / "demo" / "parquet"


def _ended(command: list[str], **streams: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, check=False, timeout=120, **streams)


def _answers(data: Path) -> list[list[str]]:
    everything = ["sql", "select * from audit_events", "--data", str(data), "--format"]
    return [["--help"], [*everything, "csv"], [*everything, "parquet"]]


@needs_full
def test_an_answer_that_the_disk_does_not_take_is_an_error_in_one_line(data: Path) -> None:
    for command in _answers(data):
        with _FULL.open("wb") as full:
            done = _ended([*PROGRAM, *command], stdout=full, stderr=subprocess.PIPE)
        last = done.stderr.decode().splitlines()[-1]
        assert last == "cfaudit-export: cannot write to stdout: No space left on device", command
        assert done.returncode == 2
        assert b"Traceback" not in done.stderr


def test_a_reader_that_goes_away_ends_the_process_as_a_closed_pipe_would(data: Path) -> None:
    for command in _answers(data):
        reading, writing = os.pipe()
        os.close(reading)
        done = _ended([*PROGRAM, *command], stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        assert done.returncode == 128 + 13, command
        assert done.stderr == b""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_are_no_fault(data: Path, closed: str) -> None:
    command = f'"$0" -m cfaudit_export report --data "$1" {closed}'
    done = _ended(["sh", "-c", command, sys.executable, str(data)], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.parametrize("stderr", [pytest.param("/dev/full", marks=needs_full), "closed pipe"])
def test_a_log_that_cannot_be_written_does_not_stop_an_export(
    stderr: str, target: tuple[str, ...], place: Path, cli: Any
) -> None:
    if stderr == "closed pipe":
        reading, writing = os.pipe()
        os.close(reading)
    else:
        writing = os.open(stderr, os.O_WRONLY)
    command = [*PROGRAM, "run", *target, "--since", "40d", "-vv", "--log-format", "json"]
    done = _ended(command, stdout=subprocess.PIPE, stderr=writing)
    os.close(writing)
    assert done.returncode == 0
    assert ds.dataset(place / "out", format="parquet").count_rows() == 300


def test_letters_that_an_encoding_lacks_are_escaped(data: Path) -> None:
    environ = os.environ | {"PYTHONIOENCODING": "ascii"}
    command = [*PROGRAM, "sql", "select 'Żółw ░' as word", "--data", str(data), "--format", "csv"]
    done = _ended(command, capture_output=True, env=environ)
    assert (done.returncode, done.stdout) == (0, b"word\n\\u017b\\xf3\\u0142w \\u2591\n")


def test_streams_that_a_caller_has_replaced_are_left_alone(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    with standard_streams():
        assert (sys.stdout, sys.stderr) == before
