"""Old days are removed on record: `verify` tells them from what is missing, and nothing else can hide behind that."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from cfaudit_export.analysis.files.compact import compact
from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.analysis.files.sealed import sealed_files
from cfaudit_export.analysis.removal.retention import LeftFile, remove_before
from cfaudit_export.errors import SettingsError
from cfaudit_export.proof.append import newest_entry
from cfaudit_export.proof.folder import ManifestFolder
from cfaudit_export.proof.keys import new_key

FIRST = datetime(2026, 11, 1, tzinfo=UTC)
THIRD = date(2026, 11, 3)


@pytest.fixture
def removed(working: Callable[..., Any]) -> Callable[..., list[Any]]:
    """Remove the days before one; return what was removed and left."""

    def remove(export: Any, before: date = THIRD, **more: Any) -> list[Any]:
        return list(remove_before(*working(export, **more), before))

    return remove


def test_days_that_were_removed_on_purpose_are_told_from_what_is_missing(export: Any, removed: Any) -> None:
    export.days(4)
    files = export.files()
    [done] = removed(export)
    assert (done.first, done.last, done.files, done.rows, done.sequence) == (
        date(2026, 11, 1),
        date(2026, 11, 2),
        2,
        40,
        5,
    )
    assert export.files() == files[2:]
    found = export.verify()
    assert found.exit_code == 0, list(found.lines)
    said = "\n".join(found.lines)
    assert "Removed on purpose: 2026-11-01 to 2026-11-02, 2 files, 40 events (manifest 00000005 of " in said
    assert ": older than 2026-11-03)" in said
    assert "Asked for 2026-11-03 to 2026-11-05," in said
    files[2].unlink()
    assert export.verify().exit_code == 1


def test_who_asks_about_a_day_that_was_removed_does_not_hear_that_all_is_there(export: Any, removed: Any) -> None:
    export.days(4)
    removed(export)
    found = export.verify(since=FIRST, until=FIRST + timedelta(days=4))
    assert found.exit_code == 65
    assert "4d, proved: 2d" in "\n".join(found.lines)
    assert export.verify(since=FIRST + timedelta(days=2), until=FIRST + timedelta(days=4)).exit_code == 0


def test_a_dry_run_changes_nothing(export: Any, removed: Any) -> None:
    export.days(4)
    before = {path: path.read_bytes() for path in export.root.rglob("*") if path.is_file()}
    [would] = removed(export, dry_run=True)
    assert (would.files, would.sequence) == (2, None)
    assert {path: path.read_bytes() for path in export.root.rglob("*") if path.is_file()} == before


def test_what_was_changed_or_is_missing_is_not_removed_on_record(export: Any, removed: Any) -> None:
    export.days(4)
    gone, changed = export.files()[:2]
    gone.unlink()
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    left = removed(export)
    assert [(one.name, one.is_wrong) for one in left] == [(export.name(gone), True), (export.name(changed), True)]
    assert changed.exists()
    assert not list(export.path(5).parent.glob("00000005.json"))
    assert export.verify().exit_code == 1


def test_files_that_no_manifest_names_are_left(export: Any, removed: Any) -> None:
    export.days(3)
    stray = export.files()[0].with_name("x.parquet")
    shutil.copy(export.files()[0], stray)
    *_, left = removed(export)
    assert left == LeftFile(export.name(stray), "no manifest names it", is_wrong=False)
    assert stray.exists()


def test_a_batch_of_several_days_loses_only_the_old_ones(export: Any, removed: Any) -> None:
    export.seal(export.store(0, rows=40, days=4))
    removed(export)
    assert len(export.files()) == 2
    found = export.verify()
    assert found.exit_code == 0, list(found.lines)
    export.files()[0].unlink()
    assert export.verify().exit_code == 1


def test_merged_files_are_removed_too(export: Any, removed: Any) -> None:
    export.seal(export.store(0), export.store(0, seed=7))
    export.seal(export.store(3))
    sealed = sealed_files(export.root, export.keys, export.clock)
    list(
        compact(
            open_location(str(export.root)), now=export.clock + timedelta(days=9), settled=timedelta(), sealed=sealed
        )
    )
    [done] = removed(export)
    assert (done.files, done.rows) == (1, 40)
    assert export.verify().exit_code == 0, list(export.verify().lines)


def test_removing_twice_removes_no_more_and_what_came_back_goes_again(export: Any, removed: Any, copied: Any) -> None:
    export.days(4)
    old = copied(export, "old")
    removed(export)
    assert removed(export) == []
    back = old.files()[0]
    shutil.copy(back, export.root / old.name(back))
    said = "\n".join(export.verify().lines)
    assert "Still there though a record says that they were removed: 1 file (run 'retention' again)" in said
    assert export.verify().exit_code == 0
    [done] = removed(export)
    assert (done.files, done.sequence) == (1, None)
    assert len(export.files()) == 2


def test_a_place_whose_chain_is_not_whole_is_left_alone(export: Any, removed: Any) -> None:
    export.days(4)
    with pytest.raises(SettingsError, match="are signed; set integrity.key_file"):
        removed(export, keys=())
    with pytest.raises(SettingsError, match=r"are not whole \(Manifest 00000001: signature verification failed"):
        removed(export, keys=(new_key(),))
    export.edit(2, quarantined=0, gaps_open=1)
    with pytest.raises(SettingsError, match="see 'cfaudit-export verify'"):
        removed(export)
    shutil.rmtree(export.root / "_cfaudit")
    with pytest.raises(SettingsError, match="has no manifests, so nothing could say later"):
        removed(export)
    assert len(export.files()) == 4


def test_without_a_key_the_record_is_not_signed_either(new_export: Callable[..., Any], removed: Any) -> None:
    export = new_export(keys=())
    export.days(4)
    removed(export)
    entry = newest_entry(ManifestFolder(export.root / "_cfaudit/manifests"), export.chain)
    assert entry is not None
    assert (entry.manifest.kind, entry.is_signed) == ("retention", False)
    assert export.verify().exit_code == 65  # as signatures were not checked


def test_a_record_goes_on_with_what_the_checkpoint_covered(export: Any, removed: Any) -> None:
    export.days(3)
    export.append(replace(export.manifest(covered=()), checkpoint="a" * 64))
    removed(export)
    entry = newest_entry(ManifestFolder(export.root / "_cfaudit/manifests"), export.chain)
    assert entry is not None
    assert (entry.manifest.kind, entry.manifest.checkpoint) == ("retention", "a" * 64)
