"""The file store: its contract, and what only real processes and real crashes can show."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cfaudit_export import (
    Checkpoint,
    CheckpointConflictError,
    CheckpointDamagedError,
    LockedError,
    SettingsError,
    Stream,
    TryAgainError,
)
from cfaudit_export.core.model import Seen, SinkProgress
from cfaudit_export.errors import ExitCode
from cfaudit_export.stores.file import FileStore
from cfaudit_export.testing import CheckpointStoreContract

STREAM = Stream("a" * 32, "auditlogs")
OLD = Checkpoint(STREAM, updated_at=datetime(2026, 11, 1, tzinfo=UTC))
# Large enough that a write takes a while.
NEW = replace(OLD, sinks={"s3": SinkProgress(seen=Seen({"2026-11-02T00": "x" * 2_000_000}))})


class TestFileStore(CheckpointStoreContract):
    @pytest.fixture
    def new_store(self, tmp_path: Path) -> Callable[[], FileStore]:
        return lambda: FileStore(tmp_path / "checkpoints")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "checkpoints"


@contextmanager
def program(text: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Run Python text in a process of its own, with the names that every such text here needs."""
    header = "import os, signal, sys\nfrom pathlib import Path\nfrom cfaudit_export.stores.file import *\n"
    command = [sys.executable, "-c", header + text, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


RIVAL = """
store, number = FileStore(Path(sys.argv[1])), int(sys.argv[2])
checkpoint = store.load(sys.argv[3]).checkpoint
print("ready", flush=True)
from dataclasses import replace
for expected in map(str.strip, sys.stdin):
    try:
        store.save(replace(checkpoint, tool=f"{number} after {expected}"), expected=expected)
        print("won", flush=True)
    except CheckpointConflictError:
        print("lost", flush=True)
"""


def test_of_many_processes_that_save_at_once_exactly_one_wins_every_time(folder: Path) -> None:
    store = FileStore(folder)
    version = store.save(OLD, expected=None)
    with (
        program(RIVAL, folder, 0, STREAM.id) as first,
        program(RIVAL, folder, 1, STREAM.id) as second,
        program(RIVAL, folder, 2, STREAM.id) as third,
        program(RIVAL, folder, 3, STREAM.id) as fourth,
    ):
        rivals = [first, second, third, fourth]
        assert [line_of(rival) for rival in rivals] == ["ready"] * 4
        for _ in range(20):
            for rival in rivals:
                tell(rival, version)
            outcomes = [line_of(rival) for rival in rivals]
            assert sorted(outcomes) == ["lost", "lost", "lost", "won"]
            found = store.load(STREAM.id)
            assert found is not None
            assert found.checkpoint.tool == f"{outcomes.index('won')} after {version}"
            version = found.version


HOLDER = """
with FileStore(Path(sys.argv[1])).hold(sys.argv[2]):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_stream_held_by_another_process_is_refused_and_the_lock_file_named(folder: Path) -> None:
    store = FileStore(folder)
    with program(HOLDER, folder, STREAM.id) as holder:
        assert line_of(holder) == "held"
        with pytest.raises(LockedError) as caught, store.hold(STREAM.id):
            pass
        assert caught.value.exit_code is ExitCode.TRY_AGAIN
        assert f"another run holds stream '{STREAM.id}'" in str(caught.value)
        assert str(folder / f"{STREAM.id}.lock") in str(caught.value)


def test_a_holder_that_is_killed_lets_go(folder: Path) -> None:
    with program(HOLDER, folder, STREAM.id) as holder:
        assert line_of(holder) == "held"
        holder.kill()
        holder.wait(timeout=10)
        with FileStore(folder).hold(STREAM.id):
            pass


SLEEPER = """
from datetime import UTC, datetime
from cfaudit_export import Stream
store, now = FileStore(Path(sys.argv[1])), datetime(2026, 11, 1, tzinfo=UTC)
stream = Stream(*sys.argv[2:4])
with store.hold(stream.id):
    print(stream.id, flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    store.save(Checkpoint(stream, tool="awake", updated_at=now), expected=None)
    print("saved", flush=True)
"""


def test_a_holder_that_is_asleep_keeps_the_stream_and_goes_on_when_it_wakes(folder: Path) -> None:
    """Its lock is the kernel's, which no time ends: so no other run has written meanwhile."""
    store = FileStore(folder)
    with program(SLEEPER, folder, STREAM.account_id, STREAM.source) as sleeper:
        stream_id = line_of(sleeper)
        _, status = os.waitpid(sleeper.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        with pytest.raises(LockedError), store.hold(stream_id):
            pass
        sleeper.send_signal(signal.SIGCONT)
        assert line_of(sleeper) == "saved"
        assert sleeper.wait(timeout=60) == 0
    with store.hold(stream_id):
        found = store.load(stream_id)
    assert found is not None
    assert found.checkpoint.tool == "awake"


# The writer dies the moment before it takes the named step.
DYING_WRITER = """
from dataclasses import replace
from cfaudit_export.core.model import Seen, SinkProgress
step, left = sys.argv[3].split(":")

def dying(real, steps=[int(left)]):
    def step(*arguments, **keywords):
        if steps[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        steps[0] -= 1
        return real(*arguments, **keywords)
    return step

store = FileStore(Path(sys.argv[1]))
old = store.load(sys.argv[2])
new = replace(old.checkpoint, sinks={"s3": SinkProgress(seen=Seen({"2026-11-02T00": "x" * 2_000_000}))})
setattr(os, step, dying(getattr(os, step)))
store.save(new, expected=old.version)
print("survived", flush=True)
"""


@pytest.mark.parametrize(
    ("step", "survivor", "leftover"),
    [
        ("fsync:0", OLD, [f"{STREAM.id}.json.tmp"]),
        ("replace:0", OLD, [f"{STREAM.id}.json.tmp"]),
        ("fsync:1", NEW, []),
    ],
)
def test_a_writer_killed_at_any_step_leaves_the_old_document_or_the_new(
    folder: Path, step: str, survivor: Checkpoint, leftover: list[str]
) -> None:
    store = FileStore(folder)
    store.save(OLD, expected=None)
    with program(DYING_WRITER, folder, STREAM.id, step) as writer:
        assert line_of(writer) == ""
        assert writer.wait(timeout=10) == -9
    assert [path.name for path in folder.iterdir() if path.suffix == ".tmp"] == leftover
    found = store.load(STREAM.id)
    assert found is not None
    assert found.checkpoint == survivor
    assert list(store.streams()) == [STREAM.id]
    store.save(replace(OLD, tool="next run"), expected=found.version)
    assert not [path for path in folder.iterdir() if path.suffix == ".tmp"]


RESTLESS_WRITER = """
from dataclasses import replace
from cfaudit_export.core.model import Seen, SinkProgress
store = FileStore(Path(sys.argv[1]))
found = store.load(sys.argv[2])
old, version = replace(found.checkpoint, sinks={}), found.version
new = replace(old, sinks={"s3": SinkProgress(seen=Seen({"2026-11-02T00": "x" * 2_000_000}))})
while True:
    for checkpoint in (new, old):
        version = store.save(checkpoint, expected=version)
        print("saved", flush=True)
"""


@pytest.mark.parametrize("saves", range(1, 7))
def test_a_writer_killed_in_the_middle_of_it_all_never_leaves_a_mixture(folder: Path, saves: int) -> None:
    store = FileStore(folder)
    store.save(OLD, expected=None)
    with program(RESTLESS_WRITER, folder, STREAM.id) as writer:
        for _ in range(saves):
            assert line_of(writer) == "saved"
            found = store.load(STREAM.id)
            assert found is not None
            assert found.checkpoint in (OLD, NEW)
        writer.kill()
        writer.wait(timeout=10)
    found = store.load(STREAM.id)
    assert found is not None
    assert found.checkpoint in (OLD, NEW)
    store.save(OLD, expected=found.version)


@pytest.mark.parametrize("damage", [b"", b"{", b"\0" * 4096, b'{"format": 99}'])
def test_a_damaged_file_is_an_error_and_is_never_overwritten(folder: Path, damage: bytes) -> None:
    store = FileStore(folder)
    version = store.save(OLD, expected=None)
    path = folder / f"{STREAM.id}.json"
    path.write_bytes(damage)
    with pytest.raises(CheckpointDamagedError, match=str(path)):
        store.load(STREAM.id)
    for expected in (None, version):
        with pytest.raises(CheckpointConflictError):
            store.save(NEW, expected=expected)
    assert path.read_bytes() == damage
    assert list(store.streams()) == [STREAM.id]


def test_a_file_under_the_name_of_another_stream_is_refused(folder: Path) -> None:
    store = FileStore(folder)
    store.save(OLD, expected=None)
    other = Stream("b" * 32, "auditlogs").id
    (folder / f"{STREAM.id}.json").rename(folder / f"{other}.json")
    with pytest.raises(CheckpointDamagedError, match=f"belongs to stream '{STREAM.id}', not '{other}'"):
        store.load(other)


def test_only_the_owner_may_read_what_is_made(folder: Path) -> None:
    store = FileStore(folder)
    before = os.umask(0)
    try:
        store.save(OLD, expected=None)
        with store.hold(STREAM.id):
            pass
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == {f"{STREAM.id}{suffix}": 0o600 for suffix in (".json", ".lock", ".save.lock")}
    assert [stat.S_IMODE(made.stat().st_mode) for made in (folder, folder.parent)] == [0o700, 0o700]


def test_looking_makes_nothing(folder: Path) -> None:
    store = FileStore(folder)
    assert store.load(STREAM.id) is None
    assert list(store.streams()) == []
    assert not folder.parent.exists()


def test_files_that_are_not_checkpoints_are_not_streams(folder: Path) -> None:
    store = FileStore(folder)
    store.save(OLD, expected=None)
    for name in ("notes.json", f".{STREAM.id}.json", f"{STREAM.id}.json.bak", f"{STREAM.id}.json.tmp"):
        (folder / name).write_text("{}")
    assert list(store.streams()) == [STREAM.id]


def test_a_full_disk_leaves_the_old_checkpoint_and_no_litter(folder: Path) -> None:
    store = FileStore(folder)
    version = store.save(OLD, expected=None)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel refuses files beyond this size, as it would on a full disk.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(TryAgainError, match=f"'{folder / STREAM.id}.json' cannot be written: .*repair the disk"):
            store.save(NEW, expected=version)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    found = store.load(STREAM.id)
    assert found is not None
    assert found.checkpoint == OLD
    assert {path.suffix for path in folder.iterdir()} == {".json", ".lock"}


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.load(STREAM.id),
        lambda store: store.save(OLD, expected=None),
        lambda store: store.hold(STREAM.id).__enter__(),
        lambda store: list(store.streams()),
    ],
    ids=["load", "save", "hold", "streams"],
)
def test_a_folder_that_cannot_be_used_is_a_clear_error(tmp_path: Path, use: Callable[[FileStore], object]) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SettingsError, match=f"'{tmp_path}/file.*cannot be .*is a file, not a folder; set another path"):
        use(FileStore(tmp_path / "file" / "checkpoints"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_a_clear_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SettingsError, match="not allowed; let this user read and write there"):
        FileStore(tmp_path / "checkpoints").save(OLD, expected=None)
