"""Manifests of a run: written after what they name is delivered, one after the other, and compared by the next run."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from cfaudit_export import SinkError, Window
from cfaudit_export.core.intervals import cut, subtract, union
from cfaudit_export.core.model import Proof
from cfaudit_export.errors import ExitCode, SettingsError
from cfaudit_export.pipeline.quarantine import quarantine_of
from cfaudit_export.pipeline.replay import ReplayTarget, replay_stream
from cfaudit_export.pipeline.run_context import ManifestPlace
from cfaudit_export.proof.append import Entry, newest_entry, read_entry, write_entry
from cfaudit_export.proof.chain import FOLDER, chain_of
from cfaudit_export.proof.folder import ManifestFolder
from cfaudit_export.proof.keys import SigningKey, new_key
from cfaudit_export.proof.rows import ids_sha256, leaves, rows_sha256

HOUR = timedelta(hours=1)
PIECES = {"piece_rows": 150, "page_size": 150}


class Proved:
    """A rig whose runs keep manifests."""

    def __init__(self, rig: Any, keys: tuple[SigningKey, ...] = ()) -> None:
        self.rig = rig
        self.keys = keys

    @property
    def store(self) -> ManifestFolder:
        return ManifestFolder(self.rig.root / "out" / FOLDER)

    def run(self, store: Any = None, most_unsealed: int = 1_000, **more: Any) -> Any:
        place = ManifestPlace(store or self.store, "out", self.keys, most_unsealed=most_unsealed)
        name = next(iter(more.get("sinks") or {"parquet": None}))
        return self.rig.run(manifests={name: place}, **more)

    def later(self, hours: int = 1, events: int = 0) -> None:
        before = self.rig.now
        self.rig.now += hours * HOUR
        if events:
            self.rig.grow(events, before, self.rig.now)

    @property
    def proof(self) -> Proof:
        return self.rig.checkpoint().sinks["parquet"].proof

    @property
    def chain(self) -> str:
        return chain_of(self.rig.stream.id, "parquet")

    def entries(self) -> list[Entry]:
        """Return the chain, as an auditor reads it: each follows the one before."""
        found: list[Entry] = []
        while entry := read_entry(self.store, self.chain, len(found) + 1, self.keys):
            assert entry.follows(found[-1].link if found else None)
            found.append(entry)
        return found

    def path(self, sequence: int) -> Path:
        return Path(self.store.root / self.chain / f"{sequence:08d}.json")

    def assert_sealed(self) -> None:
        """Assert that manifests name each file and each row once, with its digest, and all time that is covered."""
        root = self.rig.root / "out"
        batches = [one for entry in self.entries() for one in entry.manifest.batches]
        assert len({one.batch_id for one in batches}) == len(batches)
        named = {file.name: file for one in batches for file in one.files}
        there = {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*.parquet")}
        assert {name: hashlib.sha256(content).hexdigest() for name, content in there.items()} == {
            name: file.sha256 for name, file in named.items()
        }
        for one in batches:
            tables = [pq.read_table(root / file.name, partitioning=None) for file in one.files]
            ids = [event_id for table in tables for event_id in table["event_id"].to_pylist()]
            assert (one.rows, one.ids_sha256) == (len(ids), ids_sha256(ids))
            if one.rows_sha256:
                assert one.rows_sha256 == rows_sha256(leaf for table in tables for leaf in leaves(table))
        newest = self.entries()[-1]
        assert (self.proof.sequence, self.proof.sha256) == (newest.link.sequence, newest.link.sha256)
        assert (self.proof.unsealed, self.proof.fresh) == ((), ())
        assert newest.manifest.covered_total == self.proof.covered == self.rig.checkpoint().sinks["parquet"].covered


@pytest.fixture
def proved(rig: Any) -> Proved:
    return Proved(rig)


def test_a_run_seals_what_it_delivered_and_the_next_one_follows(proved: Proved) -> None:
    first = proved.run(config=PIECES)
    assert first.exit_code == ExitCode.OK
    assert first.sinks[0].anchor == f"{proved.chain}:1:{proved.proof.sha256}"
    proved.later(events=20)
    proved.run()
    assert [len(entry.manifest.batches) for entry in proved.entries()] == [first.sinks[0].batches, 1]
    proved.assert_sealed()


def test_a_quiet_run_seals_that_the_time_was_read(proved: Proved) -> None:
    proved.run()
    proved.later()
    assert proved.run().exit_code == ExitCode.OK
    quiet = proved.entries()[-1].manifest
    assert (quiet.kind, quiet.batches) == ("seal", ())
    assert [window.duration for window in quiet.covered] == [HOUR]
    assert quiet.read is not None
    assert quiet.read.before == proved.rig.now
    proved.assert_sealed()


def test_a_key_signs_every_manifest_and_rows_are_digested(rig: Any) -> None:
    proved = Proved(rig, (new_key(),))
    proved.run(config=PIECES)
    proved.later(events=5)
    proved.run()
    entries = proved.entries()
    assert all(entry.signers == {proved.keys[0].id} for entry in entries)
    assert all(one.rows_sha256 for entry in entries for one in entry.manifest.batches)
    proved.assert_sealed()


def test_without_a_key_rows_are_not_digested(proved: Proved) -> None:
    proved.run()
    assert not any(one.rows_sha256 for entry in proved.entries() for one in entry.manifest.batches)
    assert not any(entry.is_signed for entry in proved.entries())


def test_a_chain_that_began_without_a_key_may_be_signed_from_then_on(rig: Any) -> None:
    Proved(rig).run()
    signed = Proved(rig, (new_key(),))
    signed.later(events=5)
    assert signed.run().exit_code == ExitCode.OK
    assert [entry.is_signed for entry in signed.entries()] == [False, True]


def test_many_batches_are_sealed_before_the_run_ends(proved: Proved) -> None:
    report = proved.run(most_unsealed=2, config=PIECES)
    batches = [len(entry.manifest.batches) for entry in proved.entries()]
    assert sum(batches) == report.sinks[0].batches
    assert set(batches[:-1]) == {2}
    assert len(batches) > 2
    proved.assert_sealed()


def test_gaps_are_told_of_when_they_open_and_when_they_close(rig_of: Callable[..., Any]) -> None:
    proved = Proved(rig_of(events=60, poison={"api-context": 2}))
    proved.run()
    opened = proved.entries()[-1].manifest
    assert opened.gaps_opened
    assert {one.window for one in opened.gaps_opened} == {gap.window for gap in proved.rig.checkpoint().gaps}
    proved.later(hours=7 * 24)
    proved.rig.world.heal(proved.rig.stream.account_id)
    proved.run(retry=10)
    assert proved.rig.checkpoint().gaps == ()
    closed = proved.entries()[-1].manifest
    assert {one.window for one in closed.gaps_closed} == {one.window for one in opened.gaps_opened}
    assert (opened.gaps_open, closed.gaps_open) == (len(opened.gaps_opened), 0)
    proved.assert_sealed()


def test_what_is_refused_is_in_no_digest(rig: Any, shelf: Any) -> None:
    proved = Proved(rig)
    sink = shelf(refuse=lambda event: "odd" if event["event_id"][0] in "0123" else None)
    proved.run(sinks={"picky": sink}, config=PIECES)
    entry = newest_entry(proved.store, chain_of(rig.stream.id, "picky"))
    assert entry is not None
    for one in entry.manifest.batches:
        ids = sink.batches[one.batch_id]["event_id"].to_pylist()
        assert (one.rows, one.ids_sha256, one.files) == (len(ids), ids_sha256(ids), ())
    assert entry.manifest.quarantined == 600 - len(sink.ids())


# -- what cannot be written ---------------------------------------------------------------------------


class Broken:
    """A store of manifests that cannot be written, or never says that it was."""

    def __init__(self, store: ManifestFolder, *, writes: bool = False) -> None:
        self.store = store
        self.writes = writes

    def put_manifest(self, name: str, content: bytes) -> bool:
        if self.writes:
            self.store.put_manifest(name, content)
        raise SinkError("out of order")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)


def test_a_manifest_that_cannot_be_written_stops_no_event_and_comes_with_the_next_run(proved: Proved) -> None:
    broken = Broken(proved.store)
    report = proved.run(store=broken, config=PIECES)
    assert report.exit_code == ExitCode.SINK_DOWN
    assert "the manifest is not written" in report.sinks[0].error
    proved.rig.assert_everything_once()
    assert len(proved.proof.unsealed) == report.sinks[0].batches
    assert proved.entries() == []
    proved.later(events=5)
    assert proved.run().exit_code == ExitCode.OK
    proved.assert_sealed()


def test_where_manifests_cannot_be_written_for_long_the_sink_stops(proved: Proved) -> None:
    report = proved.run(store=Broken(proved.store), most_unsealed=1, config={"piece_rows": 50, "page_size": 50})
    assert report.exit_code == ExitCode.SINK_DOWN
    assert len(proved.proof.unsealed) == 10
    assert proved.run().exit_code == ExitCode.OK
    proved.rig.assert_everything_once()
    proved.assert_sealed()


def test_a_manifest_whose_answer_was_lost_is_taken_for_what_it_is(proved: Proved) -> None:
    assert proved.run(store=Broken(proved.store, writes=True), config=PIECES).exit_code == ExitCode.SINK_DOWN
    assert len(proved.entries()) == 1
    assert proved.proof.sequence == 0
    proved.later(events=5)
    assert proved.run().exit_code == ExitCode.OK
    assert len(proved.entries()) == 2
    proved.assert_sealed()


# -- what does not agree ------------------------------------------------------------------------------


def test_an_older_copy_of_the_state_folder_is_refused(proved: Proved, tmp_path: Path) -> None:
    proved.run()
    shutil.copytree(proved.rig.root / "checkpoints", tmp_path / "copy")
    proved.later(events=20)
    proved.run()
    shutil.rmtree(proved.rig.root / "checkpoints")
    shutil.copytree(tmp_path / "copy", proved.rig.root / "checkpoints")
    before = proved.rig.checkpoint()
    proved.later(events=5)
    report = proved.run()
    assert report.exit_code == ExitCode.SETTINGS
    assert "00000002.json' was written by another run; two state folders write one chain" in report.sinks[0].error
    assert "run --reset-proof" in report.sinks[0].error
    assert proved.rig.checkpoint().sinks == before.sinks
    assert len(proved.entries()) == 2


def test_a_break_is_recorded_where_the_run_is_told_to_go_on(proved: Proved, tmp_path: Path) -> None:
    test_an_older_copy_of_the_state_folder_is_refused(proved, tmp_path)
    assert proved.run(reset_proof=True).exit_code == ExitCode.OK
    kinds = [entry.manifest.kind for entry in proved.entries()]
    assert kinds == ["seal", "seal", "reset", "seal"]
    assert "restored from an older copy" in str(proved.entries()[2].manifest.reason)
    assert proved.run().exit_code == ExitCode.OK


def test_two_state_folders_do_not_write_one_chain(proved: Proved, rig_in: Any) -> None:
    proved.run()
    other = Proved(replace(proved.rig, root=proved.rig.root / "other"))
    (proved.rig.root / "other").mkdir()
    (proved.rig.root / "other" / "out").symlink_to(proved.rig.root / "out")
    proved.later(events=5)
    other.rig.now = proved.rig.now
    assert other.run().exit_code == ExitCode.OK  # it has no memory, as after a loss, and says so
    assert [entry.manifest.kind for entry in proved.entries()] == ["seal", "reset", "seal"]
    report = proved.run()
    assert report.exit_code == ExitCode.SETTINGS
    assert "two state folders write one chain" in report.sinks[0].error


def test_a_lost_state_folder_begins_anew_behind_what_is_there(proved: Proved) -> None:
    proved.run()
    shutil.rmtree(proved.rig.root / "checkpoints")
    proved.later(events=5)
    assert proved.run().exit_code == ExitCode.OK
    first, reset, sealed = (entry.manifest for entry in proved.entries())
    assert (first.kind, reset.kind, sealed.kind) == ("seal", "reset", "seal")
    assert (reset.reason, reset.covered_total) == ("the checkpoint was lost", ())
    assert sealed.covered_total == proved.rig.checkpoint().sinks["parquet"].covered


@pytest.mark.parametrize("damage", ["gone", "other", "cut"])
def test_a_newest_manifest_that_is_not_the_one_that_was_written_is_refused(proved: Proved, damage: str) -> None:
    proved.run()
    path = proved.path(1)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: -1 if damage == "other" else 99])
    proved.later(events=5)
    report = proved.run()
    assert report.exit_code == ExitCode.SETTINGS
    assert "restore it" in report.sinks[0].error
    assert report.sinks[0].rows == 0


def test_a_manifest_that_another_key_signed_is_not_followed(rig: Any) -> None:
    """An entry of others between two runs would be vouched for by what is signed behind it."""
    signed, forger = Proved(rig, (new_key(),)), Proved(rig, (new_key(),))
    signed.run()
    for keys in (forger.keys, ()):
        _append_compaction(signed, keys)
        signed.later(events=5)
        report = signed.run()
        assert report.exit_code == ExitCode.SETTINGS
        assert "not signed by the key that is set" in report.sinks[0].error
        signed.path(2).unlink()
    _append_compaction(signed, signed.keys)
    assert signed.run().exit_code == ExitCode.OK
    assert [entry.manifest.kind for entry in signed.entries()] == ["seal", "compaction", "seal"]


def test_a_run_without_its_key_does_not_go_on_behind_what_is_signed(rig: Any) -> None:
    signed = Proved(rig, (new_key(),))
    signed.run()
    before = rig.checkpoint().sinks
    signed.later(events=5)
    for more in ({}, {"reset_proof": True}):
        report = Proved(rig).run(**more)
        assert report.exit_code == ExitCode.SETTINGS
        assert "is signed, and no key is set; set integrity.key_file to that key" in report.sinks[0].error
        assert rig.checkpoint().sinks == before
    shutil.rmtree(rig.root / "checkpoints")
    assert Proved(rig).run().exit_code == ExitCode.SETTINGS
    assert len(signed.entries()) == 1


def test_a_slice_without_its_key_does_not_begin_a_chain_beside_a_signed_one(rig: Any) -> None:
    Proved(rig, (new_key(),)).run()
    proved = Proved(rig)
    proved.later(events=5)
    with pytest.raises(SettingsError, match="is signed, and no key is set"):
        proved.run(part=Window(rig.now - HOUR, rig.now))


def test_another_key_is_refused_and_a_lost_one_is_followed_by_a_new_one_that_says_so(rig: Any) -> None:
    Proved(rig, (new_key(),)).run()
    other = Proved(rig, (new_key(),))
    other.later(events=5)
    report = other.run()
    assert report.exit_code == ExitCode.SETTINGS
    assert "is not signed by the key that is set" in report.sinks[0].error
    assert other.run(reset_proof=True).exit_code == ExitCode.OK
    assert [entry.manifest.kind for entry in other.entries()] == ["seal", "reset", "seal"]
    assert other.run().exit_code == ExitCode.OK


def test_a_checkpoint_that_was_edited_to_cover_more_is_refused(proved: Proved) -> None:
    """Its own digest may have been mended; the newest manifest knows better."""
    proved.run()
    proved.later(hours=3, events=20)
    found = proved.rig.store.load(proved.rig.stream.id)
    progress = found.checkpoint.sinks["parquet"]
    skipped = Window(proved.rig.now - 2 * HOUR, proved.rig.now - HOUR)
    edited = replace(progress, covered=union(*progress.covered, skipped))
    proved.rig.store.save(replace(found.checkpoint, sinks={"parquet": edited}), expected=found.version)
    report = proved.run()
    assert report.exit_code == ExitCode.SETTINGS
    assert "was edited: it covers other time than" in report.sinks[0].error
    assert "restore it from a backup, or go on with 'run --reset-proof'" in report.sinks[0].error
    assert len(proved.entries()) == 1
    assert proved.run(reset_proof=True).exit_code == ExitCode.OK
    assert proved.run().exit_code == ExitCode.OK


def test_what_others_wrote_between_two_runs_keeps_what_the_checkpoint_covered(proved: Proved) -> None:
    proved.run()
    _append_compaction(proved, ())
    proved.later(events=5)
    assert proved.run().exit_code == ExitCode.OK
    assert proved.run().exit_code == ExitCode.OK


# -- what there was before manifests ------------------------------------------------------------------


def test_time_that_was_exported_without_manifests_is_in_none(proved: Proved) -> None:
    proved.rig.run()
    before = proved.rig.checkpoint().sinks["parquet"].covered
    assert proved.proof == Proof(outside=before)
    proved.later(events=20)
    assert proved.run().exit_code == ExitCode.OK
    proved.later(events=20)
    proved.rig.run()  # switched off
    without = proved.rig.checkpoint().sinks["parquet"].covered
    proved.later(events=20)
    assert proved.run().exit_code == ExitCode.OK
    total = proved.entries()[-1].manifest.covered_total
    assert not subtract(before, subtract(before, total))
    assert [window.duration for window in total] == [HOUR, HOUR]
    assert subtract(without, total)


def _append_compaction(proved: Proved, keys: tuple[SigningKey, ...]) -> None:
    newest = proved.entries()[-1]
    made = replace(
        newest.manifest,
        kind="compaction",
        sequence=newest.link.sequence + 1,
        previous=newest.link.sha256,
        batches=(),
        covered=(),
        read=None,
    )
    assert write_entry(proved.store, made, keys)


# -- slices -------------------------------------------------------------------------------------------


def _slices(proved: Proved, number: int) -> list[Window]:
    return list(cut(Window(proved.rig.now - 25 * HOUR, proved.rig.now), number))


def _ends(proved: Proved, parts: list[Window]) -> list[str]:
    """Return how the chain of each slice ends, as the chain of the stream names it."""
    ends = []
    for part in parts:
        stream = replace(proved.rig.stream, slice=part)
        newest = newest_entry(proved.store, chain_of(stream.id, "parquet"), proved.keys)
        assert newest is not None
        assert (newest.manifest.stream, newest.manifest.merged_into) == (stream, proved.chain)
        ends.append(f"{newest.manifest.chain}:{newest.link}")
    return ends


def test_a_slice_has_a_chain_of_its_own_whose_end_the_stream_names(proved: Proved) -> None:
    parts = _slices(proved, 3)
    for part in parts:
        assert proved.run(part=part, config=PIECES).exit_code == ExitCode.OK
    assert proved.run().exit_code == ExitCode.OK
    [entry] = proved.entries()
    assert list(entry.manifest.merged_from) == _ends(proved, parts)
    assert (entry.manifest.batches, entry.manifest.covered_total) == ((), ())  # that is for the slices to say
    proved.later()
    proved.run()
    assert proved.entries()[-1].manifest.merged_from == ()


def test_a_slice_whose_manifest_cannot_be_written_is_not_finished(proved: Proved) -> None:
    [part] = _slices(proved, 1)
    report = proved.run(part=part, store=Broken(proved.store))
    assert report.exit_code == ExitCode.SINK_DOWN
    assert proved.rig.checkpoint().leased == (part,)
    assert proved.run(part=part).exit_code == ExitCode.OK
    assert proved.rig.checkpoint().leased == ()
    assert len(_ends(proved, [part])) == 1
    proved.rig.assert_everything_once()


def test_what_an_unfinished_slice_has_is_sealed_before_its_time_is_cut_anew(proved: Proved) -> None:
    [first, _] = _slices(proved, 2)
    with pytest.raises(KeyboardInterrupt):
        proved.run(part=first, config=PIECES | {"concurrency": 1}, progress=_at_the_third(_stop))
    stream = replace(proved.rig.stream, slice=first)
    assert newest_entry(proved.store, chain_of(stream.id, "parquet")) is None
    for part in _slices(proved, 3):
        assert proved.run(part=part).exit_code == ExitCode.OK
    newest = newest_entry(proved.store, chain_of(stream.id, "parquet"))
    assert newest is not None
    assert newest.manifest.batches
    assert f"{newest.manifest.chain}:{newest.link}" in proved.proof.merged
    proved.rig.assert_everything_once()


def _at_the_third(action: Callable[[], None]) -> Callable[[object], None]:
    calls = count(1)
    return lambda _progress: action() if next(calls) == 3 else None


def _stop() -> None:
    raise KeyboardInterrupt


# -- refused events -----------------------------------------------------------------------------------


def test_refused_events_of_a_slice_are_sealed_by_the_replay(rig: Any, shelf: Any) -> None:
    """The slice may never run again; the stream's chain names the new end of the slice's."""
    proved = Proved(rig, (new_key(),))
    sink = shelf(refuse=lambda event: "odd" if event["event_id"][0] in "0123" else None)
    [part] = _slices(proved, 1)
    proved.run(sinks={"picky": sink}, config=PIECES, part=part)
    sink.refuse = lambda _event: None
    stream = replace(rig.stream, slice=part)
    target = ReplayTarget("picky", sink, "picky", manifests=ManifestPlace(proved.store, "out", proved.keys))
    report = replay_stream(quarantine_of(rig.root, stream), target, store=rig.store, clock=lambda: rig.now)
    assert report.rows > 50
    chain = chain_of(stream.id, "picky")
    newest = newest_entry(proved.store, chain, proved.keys)
    assert newest is not None
    assert sum(one.rows for one in newest.manifest.batches) == report.rows
    assert newest.signers == {proved.keys[0].id}
    assert rig.checkpoint().sinks["picky"].proof.merged[-1] == f"{chain}:{newest.link}"
    assert proved.run(sinks={"picky": sink}).exit_code == ExitCode.OK


def test_refused_events_that_are_replayed_are_in_the_next_manifest(rig: Any, shelf: Any) -> None:
    proved = Proved(rig, (new_key(),))
    sink = shelf(refuse=lambda event: "odd" if event["event_id"][0] in "0123" else None)
    proved.run(sinks={"picky": sink}, config=PIECES)
    sink.refuse = lambda _event: None
    place = ManifestPlace(proved.store, "out", proved.keys)
    target = ReplayTarget("picky", sink, "picky", manifests=place)
    aside = quarantine_of(rig.root, rig.stream)
    report = replay_stream(aside, target, store=rig.store, clock=lambda: rig.now)
    assert report.rows > 50
    proved.run(sinks={"picky": sink})
    chain = chain_of(rig.stream.id, "picky")
    entries = [read_entry(proved.store, chain, number) for number in (1, 2)]
    named = {one.batch_id: one for entry in entries if entry for one in entry.manifest.batches}
    assert named.keys() == sink.batches.keys()
    assert sum(one.rows for one in named.values()) == 600
    for batch_id, rows in sink.batches.items():
        assert named[batch_id].rows_sha256 == rows_sha256(leaves(rows))
