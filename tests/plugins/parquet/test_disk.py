"""Disks that are full, limited, read-only or not ours."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export import SinkError, SinkRefusedError, read_batch
from cfaudit_export.errors import ExitCode
from cfaudit_export.testing import make_batch
from cfaudit_parquet import ParquetConfig
from cfaudit_parquet.sink import ParquetSink

NOBODY = 65_534


def own_mounts() -> list[str]:
    """Return the command that gives a program mounts of its own, or skip where the kernel does not allow it."""
    for command in (["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]):
        mounted = [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if subprocess.run(mounted, capture_output=True, check=False).returncode == 0:
            return command
    pytest.skip("mounting needs root or user namespaces")


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    script = str(Path(__file__).with_name("filling_disk.py"))
    folders = [str(tmp_path_factory.mktemp(name)) for name in ("disk", "room")]
    command = [*own_mounts(), sys.executable, script, *folders]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "Exception ignored" not in done.stderr
    return dict(json.loads(done.stdout))


def test_a_full_disk_is_named_and_nothing_is_left_on_it(filled: dict[str, Any]) -> None:
    kind, message = filled["full"]["error"]
    assert kind == "SinkError"
    assert "the disk is full; make room" in message
    assert filled["full"]["files"] == []


def test_once_there_is_room_the_batch_is_stored(filled: dict[str, Any]) -> None:
    assert filled["with room"] == {"error": None, "files": [filled["batch_id"] + ".parquet"] * 2}


def test_a_read_only_disk_refuses_a_new_batch_but_knows_the_old_one(filled: dict[str, Any]) -> None:
    kind, message = filled["read-only"]["error"]
    assert kind == "SinkRefusedError"
    assert "read-only" in message
    assert filled["read-only again"]["error"] is None
    assert "read-only" in filled["check"]


@contextmanager
def largest_file(size_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("size_bytes", [10, 100_000, 1_000_000])
def test_a_write_that_fails_anywhere_in_the_file_leaves_nothing(tree: Any, tmp_path: Path, size_bytes: int) -> None:
    batch = make_batch(tmp_path, rows=20_000)
    sink = ParquetSink(ParquetConfig(str(tree.root)))
    with largest_file(size_bytes), pytest.raises(SinkError, match="file too large; nothing is lost") as raised:
        sink.load(batch)
    assert raised.value.exit_code == ExitCode.SINK_DOWN
    assert tree.files() == []
    sink.load(batch)
    assert tree.ids() == sorted(read_batch(batch)["event_id"].to_pylist())


@contextmanager
def as_nobody() -> Iterator[None]:
    """Give up the right of root to write anywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("call", ["check", "load"])
def test_a_folder_of_somebody_else_refuses_and_says_what_to_do(call: str) -> None:
    with tempfile.TemporaryDirectory() as name:  # not below tmp_path, which no other user may enter
        theirs = Path(name)
        batch = make_batch(theirs, rows=1)
        batch.path.chmod(0o644)
        theirs.chmod(0o555)
        sink = ParquetSink(ParquetConfig(str(theirs / "out")))
        with as_nobody(), pytest.raises(SinkRefusedError, match="not allowed; let this user read and write") as raised:
            sink.check() if call == "check" else sink.load(batch)
        theirs.chmod(0o755)
    assert raised.value.exit_code == ExitCode.SETTINGS
    assert str(theirs / "out") in str(raised.value)


def test_a_file_in_the_way_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    sink = ParquetSink(ParquetConfig(str(tmp_path / "file" / "out")))
    with pytest.raises(SinkRefusedError, match="a part of the path is a file"):
        sink.check()
    with pytest.raises(SinkRefusedError, match="a part of the path is a file"):
        sink.load(make_batch(tmp_path, rows=1))


def test_bytes_and_names_are_synced_in_an_order_that_survives_a_power_cut(
    tree: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_batch(tmp_path, rows=4, days=2)
    calls: list[tuple[str, Path]] = []
    fsync, replace = os.fsync, os.rename

    def recorded_fsync(handle: int) -> None:
        calls.append(("sync", Path(f"/proc/self/fd/{handle}").readlink()))
        fsync(handle)

    def recorded_replace(source: Path, target: Path) -> Path:
        calls.append(("rename", source))
        replace(source, target)
        return target

    monkeypatch.setattr(os, "fsync", recorded_fsync)
    monkeypatch.setattr(Path, "replace", recorded_replace)
    ParquetSink(ParquetConfig(str(tree.root))).load(batch)
    renamed = [path for call, path in calls if call == "rename"]
    first = calls.index(("rename", renamed[0]))
    assert len(renamed) == 2
    for path in renamed:
        written, named = calls.index(("sync", path)), calls.index(("sync", path.parent))
        assert written < named < first, "hidden files are whole and named before the first is visible"
        assert ("sync", path.parent) in calls[calls.index(("rename", path)) :], "the visible name is synced"
    folders = {tree.root.parent, tree.root, renamed[0].parent.parent, *(path.parent for path in renamed)}
    assert {("sync", folder) for folder in folders} <= set(calls)
    calls.clear()
    ParquetSink(ParquetConfig(str(tree.root))).load(batch)
    assert {path for _, path in calls} == folders - {tree.root.parent}, "an attempt that crashed may not have synced"
