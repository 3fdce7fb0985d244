"""What others can do to the state folder: an edit is noticed, and no link of theirs is written through."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cfaudit_export.cli import main
from cfaudit_export.core.durable import new_file
from cfaudit_export.core.model import Checkpoint, Gap, Rejected, SinkProgress, Stream, Window
from cfaudit_export.errors import CheckpointDamagedError, ExitCode, StagingError
from cfaudit_export.metrics.textfile import write_textfile
from cfaudit_export.pipeline.answer import load_into
from cfaudit_export.pipeline.plan import is_due
from cfaudit_export.pipeline.quarantine import Quarantine
from cfaudit_export.stores.file import FileStore
from cfaudit_export.stores.guarded import GuardedStore
from cfaudit_export.testing import full_checkpoint, make_batch
from cfaudit_sandbox import Sandbox, SandboxOptions, World

NOW = datetime(2026, 12, 1, tzinfo=UTC)


class Untouchable:
    """A sink that must not be asked."""

    def load(self, batch: object) -> object:
        raise AssertionError(batch)


def from_the_future(kind: str, at: datetime) -> Checkpoint:
    """Return a checkpoint that says that something was at a moment."""
    window = Window(at - timedelta(days=30), at)
    stream = Stream("a" * 32, "auditlogs")
    return {
        "covered": Checkpoint(stream, {"parquet": SinkProgress(covered=(window,))}, updated_at=at),
        "covered, by the first format": Checkpoint(stream, {"parquet": SinkProgress(covered=(window,))}),
    }[kind]


@pytest.mark.parametrize("kind", ["covered", "covered, by the first format"])
def test_a_checkpoint_from_the_future_is_refused(tmp_path: Path, kind: str) -> None:
    store = GuardedStore(FileStore(tmp_path), str, lambda: NOW)
    version = store.save(checkpoint := from_the_future(kind, NOW + timedelta(hours=23)), expected=None)
    assert store.load(checkpoint.stream.id) is not None, "clocks may be apart"
    store.save(from_the_future(kind, NOW + timedelta(days=2)), expected=version)
    with pytest.raises(
        CheckpointDamagedError, match="which is in the future; set the clock of this machine, or restore"
    ):
        store.load(checkpoint.stream.id)


def test_a_clock_that_was_ahead_for_a_while_stops_no_run_and_delays_no_gap(tmp_path: Path) -> None:
    store, later = GuardedStore(FileStore(tmp_path), str, lambda: NOW), NOW + timedelta(days=400)
    gap = Gap(Window(NOW - timedelta(days=1), NOW), 1, "odd", later, later, attempts=1)
    written = Checkpoint(Stream("a" * 32, "auditlogs"), gaps=(gap,), updated_at=later)
    store.save(written, expected=None)
    assert store.load(written.stream.id) is not None
    assert is_due(gap, NOW)


def test_a_run_does_not_believe_that_the_future_is_covered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Such a run would read nothing, and end with 0."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with Sandbox(World(SandboxOptions(events=30, seed=7))) as sandbox:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", sandbox.world.tokens["user"])
        command = ["run", "--source", "auditlogs", "--server-url", sandbox.mcp_url, "--sink", "parquet"]
        command += ["-o", "sinks.parquet.path=out", "--state-dir", "state", "--since", "40d"]
        assert main(command) == 0
        [document] = [path for path in (tmp_path / "state").rglob("*.json") if len(path.stem) == 16]
        store = FileStore(document.parent)
        for name in store.streams():
            if found := store.load(name):
                late = found.checkpoint.updated_at.replace(microsecond=0) + timedelta(days=400)
                progress = replace(
                    found.checkpoint.sinks["parquet"], covered=(Window(late - timedelta(days=500), late),)
                )
                edited = replace(found.checkpoint, sinks={"parquet": progress}, updated_at=late)
                store.save(edited, expected=found.version)
        assert main(command) == ExitCode.SETTINGS
    assert "in the future; set the clock of this machine, or restore" in capfd.readouterr().err


def test_a_staged_batch_that_was_changed_reaches_no_sink(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=20)
    content = batch.path.read_bytes()
    middle = len(content) // 2
    batch.path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    with pytest.raises(StagingError, match="was changed since it was staged; it was given to no sink"):
        load_into(Untouchable(), batch, str)  # type: ignore[arg-type]  # it is never asked


@pytest.fixture
def aside(tmp_path: Path) -> Quarantine:
    """Two events of a batch, quarantined."""
    batch = make_batch(tmp_path / "staged", rows=20)
    names = make_ids(batch.path)
    found = Quarantine(tmp_path / "aside", Stream("a" * 32, "auditlogs"))
    found.add("picky", batch, tuple(Rejected(name, "odd") for name in names[:2]))
    return found


def make_ids(path: Path) -> list[str]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        names: list[str] = pa.ipc.open_file(file).read_all()["event_id"].to_pylist()
    return names


def test_what_is_quarantined_has_digests_and_is_for_its_owner(aside: Quarantine) -> None:
    assert [batch.rows for batch in aside.held("picky")] == [2]
    assert aside.rows("picky") == 2
    for path in aside.directory.rglob("*.*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    [words] = aside.directory.rglob("*.json")
    assert {"sha256", "digest"} < json.loads(words.read_bytes()).keys()


@pytest.mark.parametrize("suffix", [".json", ".arrow"])
def test_what_is_quarantined_and_changed_is_refused_by_name(aside: Quarantine, suffix: str) -> None:
    [path] = aside.directory.rglob(f"*{suffix}")
    content = path.read_bytes()
    at = content.index(b"odd") if suffix == ".json" else len(content) // 2
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(StagingError, match=f"{path.name}' was changed since it was quarantined; .*replay --discard"):
        list(aside.held("picky"))


def test_what_the_version_before_quarantined_is_read(aside: Quarantine) -> None:
    [path] = aside.directory.rglob("*.json")
    words = json.loads(path.read_bytes())
    del words["sha256"], words["digest"]
    path.write_text(json.dumps(words, indent=2))
    assert [batch.rows for batch in aside.held("picky")] == [2]
    assert aside.rows("picky") == 2


def test_no_temporary_file_is_written_through_a_link(tmp_path: Path) -> None:
    """A user who may write into a folder knows the names that this program will use there."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    checkpoint = full_checkpoint()
    state = tmp_path / "state"
    state.mkdir()
    planted = [
        state / f"{checkpoint.stream.id}.json.tmp",
        tmp_path / f".metrics.prom.{os.getpid()}.tmp",
        tmp_path / "new",
    ]
    for path in planted:
        path.symlink_to(victim)
    FileStore(state).save(checkpoint, expected=None)
    write_textfile(tmp_path / "metrics.prom", [])
    with new_file(tmp_path / "new") as file:
        file.write(b"mine")
    assert victim.read_text() == "precious"
    assert not any(path.is_symlink() for path in planted)
    assert FileStore(state).load(checkpoint.stream.id) is not None
    assert (tmp_path / "metrics.prom").exists()
