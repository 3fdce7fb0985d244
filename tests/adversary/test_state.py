"""What others can do to the state folder: an edit is noticed, and no link of theirs is written through."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from cfaudit_export.durable import new_file
from cfaudit_export.errors import StagingError
from cfaudit_export.metrics.textfile import write_textfile
from cfaudit_export.model import Rejected, Stream
from cfaudit_export.pipeline.answer import load_into
from cfaudit_export.pipeline.quarantine import Quarantine
from cfaudit_export.stores.file import FileStore
from cfaudit_export.testing import full_checkpoint, make_batch


class Untouchable:
    """A sink that must not be asked."""

    def load(self, batch: object) -> object:
        raise AssertionError(batch)


def test_a_staged_batch_that_was_changed_reaches_no_sink(tmp_path: Path) -> None:
    batch = make_batch(tmp_path, rows=20)
    content = batch.path.read_bytes()
    middle = len(content) // 2
    batch.path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    with pytest.raises(StagingError, match="was changed since it was staged; it was given to no sink"):
        load_into(Untouchable(), batch)  # type: ignore[arg-type]  # it is never asked


@pytest.fixture
def aside(tmp_path: Path) -> Quarantine:
    """Two events of a batch, set aside."""
    batch = make_batch(tmp_path / "staged", rows=20)
    names = make_ids(batch.path)
    found = Quarantine(tmp_path / "aside", Stream("a" * 32, "auditlogs"))
    found.set_aside("picky", batch, tuple(Rejected(name, "odd") for name in names[:2]))
    return found


def make_ids(path: Path) -> list[str]:
    import pyarrow as pa

    with pa.memory_map(str(path)) as file:
        names: list[str] = pa.ipc.open_file(file).read_all()["event_id"].to_pylist()
    return names


def test_what_is_set_aside_has_digests_and_is_for_its_owner(aside: Quarantine) -> None:
    assert [batch.rows for batch in aside.held("picky")] == [2]
    assert aside.rows("picky") == 2
    for path in aside.directory.rglob("*.*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    [words] = aside.directory.rglob("*.json")
    assert {"sha256", "digest"} < json.loads(words.read_bytes()).keys()


@pytest.mark.parametrize("suffix", [".json", ".arrow"])
def test_what_is_set_aside_and_changed_is_refused_by_name(aside: Quarantine, suffix: str) -> None:
    [path] = aside.directory.rglob(f"*{suffix}")
    content = path.read_bytes()
    at = content.index(b"odd") if suffix == ".json" else len(content) // 2
    path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    with pytest.raises(StagingError, match=f"{path.name}' was changed since it was set aside; .*replay --discard"):
        list(aside.held("picky"))


def test_what_the_version_before_set_aside_is_read(aside: Quarantine) -> None:
    [path] = aside.directory.rglob("*.json")
    words = json.loads(path.read_bytes())
    del words["sha256"], words["digest"]
    path.write_text(json.dumps(words, indent=2))
    assert [batch.rows for batch in aside.held("picky")] == [2]
    assert aside.rows("picky") == 2


def test_no_temporary_file_is_written_through_a_link(tmp_path: Path) -> None:
    """Whoever may write into a folder knows the names that this program will use there."""
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
