"""Folders that a file system cannot sync: files still appear, in every place that writes any."""

from __future__ import annotations

import ast
import errno
import logging
import os
import re
import stat
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cfaudit_export import Checkpoint, Rejected, Stream, read_batch
from cfaudit_export.core.durable import create_file, make_folder, put_in_place, replacing, sync_folder
from cfaudit_export.pipeline.quarantine import quarantine_of
from cfaudit_export.stores.file import FileStore
from cfaudit_export.testing import make_batch
from cfaudit_parquet import ParquetConfig
from cfaudit_parquet.sink import ParquetSink
from cfaudit_splunk.progress import BatchProgress

ROOT = Path(__file__).parents[2]


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what has the operating system refuse to sync folders, with this number."""
    fsync = os.fsync

    def refuse(number: int) -> None:
        def synced(handle: int) -> None:
            if stat.S_ISDIR(os.fstat(handle).st_mode):
                raise OSError(number, os.strerror(number))
            fsync(handle)

        monkeypatch.setattr(os, "fsync", synced)

    return refuse


def keep_checkpoint(folder: Path) -> None:
    stream = Stream("a" * 32, "auditlogs")
    store = FileStore(folder / "deep" / "state")
    with store.hold(stream.id):
        store.save(Checkpoint(stream, updated_at=datetime(2026, 11, 1, tzinfo=UTC)), expected=None)
    assert store.load(stream.id) is not None


def quarantine(folder: Path) -> None:
    batch = make_batch(folder, rows=2)
    first = read_batch(batch)["event_id"][0].as_py()
    aside = quarantine_of(folder, batch.stream)
    aside.add("splunk", batch, (Rejected(first, "no"),))
    assert aside.rows("splunk") == 1


def store_parquet(folder: Path) -> None:
    sink = ParquetSink(ParquetConfig(str(folder / "out")))
    assert "cannot sync folders" in sink.check()
    assert not sink.load(make_batch(folder, rows=4, days=2)).already


def note_progress(folder: Path) -> None:
    with BatchProgress(make_batch(folder, rows=2), ("somewhere",)) as progress:
        progress.take(range(2))
        assert progress.missing() == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
@pytest.mark.parametrize("write", [keep_checkpoint, quarantine, store_parquet, note_progress])
def test_where_folders_cannot_be_synced_files_appear_all_the_same(
    write: Callable[[Path], None], number: int, refusing: Callable[[int], None], tmp_path: Path
) -> None:
    refusing(number)
    write(tmp_path)


def test_a_disk_that_fails_is_an_error(refusing: Callable[[int], None], tmp_path: Path) -> None:
    refusing(errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        sync_folder(tmp_path)


def test_it_is_said_once(refusing: Callable[[int], None], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert sync_folder(tmp_path)
    refusing(errno.EINVAL)
    with caplog.at_level(logging.WARNING):
        assert not sync_folder(tmp_path)
        assert not sync_folder(tmp_path.parent)
    assert len(caplog.records) <= 1, "another test may have said it"


def test_a_file_is_created_once_whoever_asks_again(tmp_path: Path) -> None:
    path = tmp_path / "00000001.json"
    assert create_file(path, b"first")
    assert not create_file(path, b"second")
    assert path.read_bytes() == b"first"
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_of_many_that_create_a_file_one_does(tmp_path: Path) -> None:
    path = tmp_path / "00000001.json"
    contents = [f"{number}".encode() * 10_000 for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        created = list(pool.map(lambda content: create_file(path, content), contents))
    assert created.count(True) == 1
    assert path.read_bytes() == contents[created.index(True)]
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_where_a_file_system_has_no_links_a_file_is_created_once_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_source: object, _target: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    test_a_file_is_created_once_whoever_asks_again(tmp_path)


def test_what_a_writer_that_died_has_left_of_a_file_goes(tmp_path: Path) -> None:
    (tmp_path / ".00000001.json.0123456789ab.tmp").write_bytes(b"half")
    (tmp_path / ".00000002.json.0123456789ab.tmp").write_bytes(b"of another")
    assert create_file(tmp_path / "00000001.json", b"whole")
    assert sorted(one.name for one in tmp_path.iterdir()) == [".00000002.json.0123456789ab.tmp", "00000001.json"]


def test_there_is_one_place_that_syncs_folders() -> None:
    """Any other would fail where this one does not."""
    paths = [path for folder in ("connector", "plugins") for path in (ROOT / folder).rglob("*.py")]
    syncing = [path.name for path in paths if re.search(r"O_DIRECTORY|fsync\((?!.*fileno)", path.read_text("utf-8"))]
    assert syncing == ["durable.py"]


def test_a_file_that_is_replaced_is_the_old_one_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError), replacing(path) as file:
        file.write(b"%d" % (1 // 0))
    assert path.read_bytes() == b"old"
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


def test_what_cannot_take_its_place_is_gone(tmp_path: Path) -> None:
    folder = tmp_path / "report.html"
    (folder / "inside").mkdir(parents=True)
    with pytest.raises(OSError, match="directory"), replacing(folder) as file:
        file.write(b"new")
    assert [one.name for one in tmp_path.iterdir()] == [folder.name]


def test_a_new_name_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[bool] = []
    fsync = os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda handle: (synced.append(stat.S_ISDIR(os.fstat(handle).st_mode)), fsync(handle))
    )
    with replacing(tmp_path / "one") as file:
        file.write(b"1")
    put_in_place(tmp_path / "one", tmp_path / "two")
    assert synced == [False, True, True]


def test_files_are_put_in_place_by_one_module() -> None:
    """Any other would forget to sync the folder, or to remove what is left of a file that could not be written.

    The Parquet sink renames the files of a batch one after the other, and syncs their folders together. To try a
    folder is to do each of these by itself.
    """
    paths = [path for folder in ("connector", "plugins") for path in (ROOT / folder).rglob("*.py")]
    renaming = {
        path.relative_to(ROOT).as_posix()
        for path in paths
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if node.func.attr in {"rename", "renames"} or (node.func.attr == "replace" and _is_of_a_file(node))
    }
    core = "connector/cfaudit_export/core"
    assert renaming == {f"{core}/disk.py", f"{core}/durable.py", "plugins/cfaudit_parquet/sink.py"}


def _is_of_a_file(call: ast.Call) -> bool:
    """Tell `path.replace(target)` and `os.replace(path, target)` from the methods of texts and times."""
    module = isinstance(call.func, ast.Attribute) and ast.unparse(call.func.value) in {"os", "shutil"}
    return module or (len(call.args) == 1 and not call.keywords)


@pytest.mark.parametrize(("mode", "folders"), [(0o600, 0o700), (0o640, 0o750), (0o644, 0o755)])
def test_every_folder_that_is_made_is_for_whom_its_files_are(tmp_path: Path, mode: int, folders: int) -> None:
    before = os.umask(0)
    try:
        make_folder(tmp_path / "one" / "two", mode=mode)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.rglob("*")} == {folders}


def test_folders_are_made_in_one_place_where_their_mode_is_decided() -> None:
    """`mkdir(parents=True, mode=...)` leaves those above to the umask."""
    root = Path(__file__).parents[2]
    found = [
        path.relative_to(root).as_posix()
        for folder in ("connector/cfaudit_export", "plugins")
        for path in (root / folder).rglob("*.py")
        if re.search(r"\bmkdir\(|makedirs\(", path.read_text(encoding="utf-8"))
    ]
    assert sorted(found) == [
        "connector/cfaudit_export/analysis/files/engine.py",  # below one that mkdtemp has made
        "connector/cfaudit_export/core/durable.py",
        "connector/cfaudit_export/testing/sink_contract.py",
    ]
