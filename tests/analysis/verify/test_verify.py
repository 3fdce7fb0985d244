"""Verification: what is whole is proved, and each thing that is missing is named and never ends with 0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export import Stream, Window
from cfaudit_export.analysis.verify.verified import Verified
from cfaudit_export.proof.keys import new_key
from cfaudit_export.proof.manifest import GapEntry

Lines = Callable[[Verified], list[str]]
FIRST = datetime(2026, 11, 1, tzinfo=UTC)
ACCOUNT = "0f3c1e5a7b9d2468ace013579bdf2468"


def hours(start: int, end: int) -> Window:
    return Window(FIRST + timedelta(hours=start), FIRST + timedelta(hours=end))


def test_an_export_that_is_whole_is_proved(export: Any, lines: Lines) -> None:
    export.days(3)
    found = export.verify()
    assert found.exit_code == 0
    asked = f"Asked for 2026-11-01 to 2026-11-04, account {ACCOUNT}: 3d, proved: 3d. "
    assert lines(found) == [
        "Nothing proves that the chain ends here: the newest manifest is 3, of 2026-11-01T04:00:00.000Z (see --anchor)",
        asked + "3 of 3 files and 3 of 3 manifests valid. 60 events, none twice.",
    ]


def test_a_copy_elsewhere_is_proved_as_well(export: Any, copied: Callable[..., Any]) -> None:
    export.days(2)
    assert copied(export, "elsewhere").verify().exit_code == 0


def test_a_quiet_time_is_proved_by_an_empty_manifest(export: Any, lines: Lines) -> None:
    export.seal(covered=[hours(0, 5)])
    found = export.verify()
    assert found.exit_code == 0
    assert lines(found)[-1].endswith("5h, proved: 5h. 1 of 1 manifest valid. 0 events, none twice.")


def test_a_time_that_was_not_exported_is_named(export: Any, lines: Lines) -> None:
    export.seal(covered=[hours(0, 10)])
    export.seal(covered=[hours(12, 24)])
    found = export.verify()
    assert found.exit_code == 65
    assert lines(found)[0] == "Not covered: 2026-11-01T10:00:00.000Z to 2026-11-01T12:00:00.000Z (never exported)"
    assert "1d, proved: 22h." in lines(found)[-1]


def test_a_longer_time_than_was_exported_is_never_proved(export: Any, lines: Lines) -> None:
    export.days(2)
    for asked in ({"since": FIRST - timedelta(days=1)}, {"until": FIRST + timedelta(days=3)}):
        found = export.verify(**asked)
        assert found.exit_code == 65
        assert any("(never exported)" in line for line in lines(found))
    assert export.verify(since=FIRST, until=FIRST + timedelta(days=2)).exit_code == 0


def test_a_gap_is_named_until_it_is_filled(export: Any, lines: Lines) -> None:
    moment = Window(FIRST + timedelta(hours=8), FIRST + timedelta(hours=8, milliseconds=1))
    gap = GapEntry(moment, 1, "result[7].actor.type")
    export.seal(covered=[hours(0, 24)], gaps_opened=(gap, GapEntry(hours(9, 10), 0, "a reply\nof HTML")))
    found = export.verify()
    assert found.exit_code == 65
    why = "that the server did not return"
    assert lines(found)[:2] == [
        f"Gap: 2026-11-01T08:00:00.000Z, 1 event {why}: result[7].actor.type",
        f"Gap: 2026-11-01T09:00:00.000Z to 2026-11-01T10:00:00.000Z, events {why}: a reply\\nof HTML",
    ]
    export.seal(gaps_closed=(gap, GapEntry(hours(9, 11), 3, "")))
    assert export.verify().exit_code == 0


def test_gaps_outside_the_time_that_is_asked_about_do_not_count(export: Any) -> None:
    export.seal(covered=[hours(0, 24)], gaps_opened=(GapEntry(hours(9, 10), 2, "x"),))
    assert export.verify(since=FIRST, until=FIRST + timedelta(hours=9)).exit_code == 0
    assert export.verify(since=FIRST, until=FIRST + timedelta(hours=10)).exit_code == 65


def test_quarantined_events_are_not_proved(export: Any, lines: Lines) -> None:
    export.seal(covered=[hours(0, 1)], quarantined=2)
    assert "Quarantined: 2 events that the sink refused" in lines(export.verify())
    assert export.verify().exit_code == 65
    export.seal(covered=[hours(1, 2)], quarantined=0)
    assert export.verify().exit_code == 0


def test_without_manifests_nothing_is_proved(export: Any, lines: Lines) -> None:
    export.store()
    found = export.verify()
    assert found.exit_code == 65
    assert lines(found) == ["No manifests were found; nothing is proved"]


def test_without_a_public_key_it_is_said_that_signatures_were_not_checked(export: Any, lines: Lines) -> None:
    export.days(1)
    found = export.verify(keys=())
    assert found.exit_code == 65
    assert "Signatures were not checked: no public key was given" in lines(found)
    assert "1 of 1 file and 1 of 1 manifest valid" in lines(found)[-1]


def test_of_a_period_only_its_files_are_looked_at(export: Any, lines: Lines) -> None:
    export.days(3)
    export.files()[2].unlink()
    found = export.verify(until=FIRST + timedelta(days=2))
    assert found.exit_code == 0
    assert "2 of 2 files and 3 of 3 manifests valid" in lines(found)[-1]
    assert export.verify().exit_code == 1


def test_another_account_is_not_looked_at(new_export: Callable[..., Any], lines: Lines) -> None:
    mine, theirs = new_export(), new_export(stream=Stream("b" * 32, "auditlogs"))
    mine.days(1)
    theirs.keys = mine.keys
    theirs.days(1)
    assert mine.verify().exit_code == 0
    assert [one for one in lines(mine.verify()) if one.startswith("Asked")] != []
    next(one for one in theirs.files() if "b" * 32 in str(one)).unlink()
    assert mine.verify().exit_code == 1
    found = mine.verify(accounts=(ACCOUNT,))
    assert found.exit_code == 0
    assert "1 of 1 file and 2 of 2 manifests valid" in lines(found)[-1]


def test_an_account_of_which_there_is_nothing_is_not_proved(export: Any, lines: Lines) -> None:
    export.days(1)
    found = export.verify(accounts=("c" * 32,))
    assert found.exit_code == 65
    assert any("Not covered: no manifest covers any time" in line for line in lines(found))


def test_files_of_before_the_chain_are_a_remark(export: Any, lines: Lines) -> None:
    export.store(0)
    export.seal(export.store(5))
    found = export.verify()
    assert found.exit_code == 0
    assert "Of before the first manifest, and not looked at: 1 file" in lines(found)


def test_files_of_days_that_no_manifest_covers_are_not_proved(export: Any, lines: Lines) -> None:
    export.days(1)
    export.store(2)
    export.seal(export.store(4))
    found = export.verify()
    assert found.exit_code == 65
    assert "Of days that no manifest covers, and not proved: 1 file" in lines(found)
    export.store(9)
    assert export.verify().exit_code == 1


def test_a_chain_that_was_begun_anew_is_a_break_in_the_time_of_the_break(export: Any, lines: Lines) -> None:
    export.days(2)
    export.seal(kind="reset", reason="the state folder was lost")
    export.days(1, start=2)
    found = export.verify()
    assert found.exit_code == 65
    assert lines(found)[0] == (
        "Manifest 00000003: the chain begins anew at 2026-11-01T04:00:00.000Z: the state folder was lost"
    )
    assert export.verify(since=FIRST + timedelta(days=1)).exit_code == 0


def test_manifests_of_before_signing_was_switched_on_are_vouched_for_by_the_first_signed_one(export: Any) -> None:
    keys, export.keys = export.keys, ()
    export.days(2)
    assert export.verify(keys=tuple(key.public for key in keys)).exit_code == 1
    export.keys = keys
    export.days(1, start=2)
    assert export.verify().exit_code == 0
    assert export.verify(keys=(new_key().public,)).exit_code == 1


def test_a_slice_that_was_taken_back_is_proved_with_its_stream(new_export: Callable[..., Any], lines: Lines) -> None:
    whole = new_export()
    part = new_export(stream=replace(whole.stream, slice=hours(0, 24)), keys=whole.keys)
    last = part.seal(part.store(0), merged_into=whole.chain)
    whole.seal(whole.store(1), merged_from=(f"{part.chain}:{last}",))
    found = whole.verify()
    assert found.exit_code == 0
    assert "2d, proved: 2d." in lines(found)[-1]
    part.path(1).unlink()
    assert f"took back a slice, whose manifest 1 is not there: {part.chain}" in "\n".join(lines(whole.verify()))
    assert whole.verify().exit_code == 1


def test_streams_with_other_filters_may_hold_the_same_events(new_export: Callable[..., Any]) -> None:
    whole = new_export()
    whole.seal(whole.store(0))
    part = new_export(stream=replace(whole.stream, filters=(("actor_email", "x@example.com"),)), keys=whole.keys)
    entry = whole.store(0)
    part.seal(replace(entry, files=()))
    assert whole.verify(quick=True).exit_code == 0


def test_a_file_of_several_days_is_proved(export: Any, lines: Lines) -> None:
    export.seal(export.store(0, rows=50, days=3))
    assert "3 of 3 files" in lines(export.verify())[-1]
    assert export.verify().exit_code == 0


@pytest.mark.parametrize("name", ["note.txt", "x.json", "0123456789abcdef/parquet/1.json"])
def test_a_file_that_is_no_manifest_is_named(export: Any, lines: Lines, name: str) -> None:
    export.days(1)
    path = export.root / "_cfaudit/manifests" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("x")
    assert lines(export.verify())[0] == f"{name}  INVALID: no manifest is named so"
    assert export.verify().exit_code == 1


def test_what_a_crash_left_under_a_hidden_name_is_no_manifest(export: Any) -> None:
    export.days(1)
    (export.path(2).parent / ".00000002.json.tmp").write_text("{")
    assert export.verify().exit_code == 0


def test_a_folder_of_manifests_may_lie_elsewhere(export: Any, tmp_path: Path) -> None:
    export.days(1)
    (export.root / "_cfaudit").rename(tmp_path / "proof")
    from cfaudit_export.analysis.files.open import open_location
    from cfaudit_export.analysis.verify.records import read_records
    from cfaudit_export.analysis.verify.verify import Asked, verify

    keys = tuple(key.public for key in export.keys)
    for where in (tmp_path / "proof/manifests",):
        records = read_records(open_location(str(where)))
        assert verify(open_location(str(export.root)), records, Asked(keys=keys)).exit_code == 0
