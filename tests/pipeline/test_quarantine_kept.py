"""What sinks refuse, where the disk goes with its machine: it is kept where the checkpoint is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export import read_batch
from cfaudit_export.errors import ExitCode
from cfaudit_export.pipeline.quarantine import Quarantine, quarantine_of
from cfaudit_export.pipeline.replay import ReplayTarget, replay_stream
from cfaudit_export.stores.file import FileStore


class KeepingStore(FileStore):
    """A store with a place for files: a folder that outlives the machines."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._blobs = directory / "blobs"

    def keep(self, stream_id: str, name: str, content: bytes) -> None:
        path = self._blobs / stream_id / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def kept(self, stream_id: str) -> Iterator[str]:
        folder = self._blobs / stream_id
        yield from sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())

    def fetch(self, stream_id: str, name: str) -> bytes | None:
        path = self._blobs / stream_id / name
        return path.read_bytes() if path.exists() else None

    def drop(self, stream_id: str, name: str) -> None:
        (self._blobs / stream_id / name).unlink(missing_ok=True)


def odd(event: dict[str, Any]) -> str | None:
    return "odd" if event["event_id"][0] in "0123" else None


def ids(aside: Quarantine) -> list[str]:
    return sorted(one for batch in aside.held("picky") for one in read_batch(batch)["event_id"].to_pylist())


@pytest.fixture
def store(rig: Any) -> KeepingStore:
    return KeepingStore(rig.root / "far")


@pytest.fixture
def picky(rig: Any, shelf: Any, store: KeepingStore) -> Any:
    """A sink that has refused about a quarter of 600 events."""
    sink = shelf(refuse=odd)
    config = {"piece_rows": 150, "page_size": 150}
    report = rig.run({"picky": sink}, config=config, store=store)
    assert report.exit_code == ExitCode.INCOMPLETE
    return sink


def machine(rig: Any, name: str, store: KeepingStore) -> Quarantine:
    """Return the quarantine as another machine has it, with a disk of its own."""
    return quarantine_of(rig.root / name, rig.stream, store)


def replayed(rig: Any, aside: Quarantine, sink: Any, store: KeepingStore) -> Any:
    return replay_stream(aside, ReplayTarget("picky", sink, "picky"), store=store, clock=lambda: rig.now)


def test_what_was_refused_on_a_machine_that_is_gone_is_replayed_on_another(
    rig: Any, picky: Any, store: KeepingStore
) -> None:
    refused = ids(quarantine_of(rig.root, rig.stream, store))
    assert len(refused) > 50
    shutil.rmtree(rig.root / "quarantine")
    other = machine(rig, "other", store)
    assert ids(other) == []
    assert ids(other.fetch()) == refused
    assert {one.reason for one in other.refused("picky")} == {"odd"}
    picky.refuse = lambda _event: None
    report = replayed(rig, other, picky, store)
    assert (report.exit_code, report.rows, report.left) == (0, len(refused), 0)
    assert len(set(picky.ids())) == len(picky.ids()) == 600
    assert list(store.kept(rig.stream.id)) == []


def test_a_copy_of_what_was_replayed_elsewhere_is_not_replayed_again(rig: Any, picky: Any, store: KeepingStore) -> None:
    picky.refuse = lambda _event: None
    assert replayed(rig, machine(rig, "other", store).fetch(), picky, store).exit_code == 0
    here = quarantine_of(rig.root, rig.stream, store)
    assert ids(here) != [], "this disk does not know yet"
    assert ids(here.fetch()) == []
    assert list(store.kept(rig.stream.id)) == []


def test_what_was_quarantined_on_this_disk_alone_is_kept_with_the_checkpoint_from_now_on(
    rig: Any, picky: Any, store: KeepingStore
) -> None:
    here = quarantine_of(rig.root, rig.stream, store)
    refused = ids(here)
    shutil.rmtree(rig.root / "far" / "blobs")
    for path in (rig.root / "quarantine").rglob("*.kept"):
        path.unlink()
    assert ids(here.fetch()) == refused
    assert ids(machine(rig, "other", store).fetch()) == refused


def test_a_store_without_a_place_for_files_leaves_all_as_it_was(rig: Any) -> None:
    aside = quarantine_of(rig.root, rig.stream, rig.store)
    assert aside.blobs is None
    assert aside.fetch() is aside
    assert replace(aside, blobs=None) == aside


def test_a_sink_is_told_whether_it_has_ever_taken_an_event(rig: Any, shelf: Any) -> None:
    sink = shelf()
    told: list[bool] = []
    load = sink.load

    def noting(batch: Any) -> Any:
        told.append(batch.taken_before)
        return load(batch)

    sink.load = noting
    rig.run({"noting": sink}, config={"piece_rows": 150, "page_size": 150})
    assert told[:2] == [False, True]
    rig.grow(10, rig.now, rig.now + (rig.now - rig.now.replace(hour=11)))
    rig.now += rig.now - rig.now.replace(hour=10)
    told.clear()
    rig.run({"noting": sink})
    assert told == [True]
