"""What a sink has belongs to a destination: another path, or an empty disk, is never taken for it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.core.model import RunReport, SinkProgress, Window
from cfaudit_export.errors import ExitCode
from cfaudit_parquet import ParquetConfig
from cfaudit_parquet.sink import ParquetSink

DAY = timedelta(days=1)


def run(rig: Any, folder: str = "out", **job: Any) -> RunReport:
    path = rig.root / folder
    return rig.run({"parquet": ParquetSink(ParquetConfig(str(path)))}, destinations={"parquet": str(path)}, **job)


def progress_of(rig: Any) -> SinkProgress:
    return rig.checkpoint().sinks["parquet"]


def refused(report: RunReport) -> str:
    assert report.exit_code == ExitCode.SETTINGS
    [sink] = report.sinks
    assert sink.error
    return sink.error


@pytest.fixture
def half(rig_of: Callable[..., Any]) -> Any:
    """A rig that has exported the first half of a day into `out`."""
    rig = rig_of(events=120)
    assert run(rig, until=rig.now - DAY / 2).exit_code == 0
    assert progress_of(rig).destination == str(rig.root / "out")
    return rig


def test_another_destination_stops_with_both_ways_out_and_nothing_is_delivered(half: Any) -> None:
    before = half.checkpoint()
    words = refused(run(half, "elsewhere"))
    assert f"delivered to '{half.root / 'out'}'" in words
    assert f"is now set to '{half.root / 'elsewhere'}'" in words
    assert "--adopt-destination" in words
    assert "--since" in words
    assert half.rows("elsewhere") == []
    assert replace(half.checkpoint(), updated_at=before.updated_at) == before
    assert run(half).exit_code == 0
    half.assert_everything_once()


def test_a_destination_to_which_the_data_was_moved_is_gone_on_with(half: Any) -> None:
    (half.root / "out").rename(half.root / "moved")
    assert run(half, "moved", adopt_destination=True).exit_code == 0
    half.assert_everything_once("moved")
    assert run(half, "moved").exit_code == 0, "it is settled now"
    refused(run(half, "out"))


def test_with_a_time_given_a_sink_begins_anew_in_the_other_destination(half: Any) -> None:
    assert run(half, "elsewhere", since=half.now - 2 * DAY).exit_code == 0
    half.assert_everything_once("elsewhere")
    assert progress_of(half).destination == str(half.root / "elsewhere")
    assert progress_of(half).rows == 120


@pytest.mark.parametrize("quiet", [{"latecomers": True}, {"only_gaps": True}], ids=lambda quiet: next(iter(quiet)))
def test_a_time_that_a_scheduler_gives_begins_nothing_anew(half: Any, quiet: dict[str, bool]) -> None:
    refused(run(half, "elsewhere", since=half.now - 2 * DAY, until=half.now, **quiet))


def test_an_empty_disk_in_the_place_of_the_one_that_was_delivered_to_is_noticed(half: Any) -> None:
    (half.root / "out").rename(half.root / "unmounted")
    (half.root / "out").mkdir()
    assert "is the disk mounted" in refused(run(half))
    assert list((half.root / "out").iterdir()) == []
    (half.root / "out").rmdir()
    (half.root / "unmounted").rename(half.root / "out")
    assert run(half).exit_code == 0
    half.assert_everything_once()


def test_streams_share_the_mark_of_a_destination(half: Any, tmp_path: Path) -> None:
    sink = ParquetSink(ParquetConfig(str(half.root / "out")))
    known = progress_of(half).marker
    assert known
    assert sink.marked() == known == sink.mark("another")
    assert [path.name for path in (half.root / "out").iterdir() if path.name.startswith(".")] == [
        ".cfaudit-destination"
    ]


def test_a_mark_that_cannot_be_left_is_done_without(
    rig_of: Callable[..., Any], shelf: Callable[..., Any], down: Any
) -> None:
    class Unmarkable:
        def __init__(self) -> None:
            self.shelf = shelf()

        def marked(self) -> str | None:
            raise down

        def mark(self, token: str) -> str:
            raise down

        def __getattr__(self, name: str) -> Any:
            return getattr(self.shelf, name)

    rig, sink = rig_of(events=50), Unmarkable()
    assert rig.run({"odd": sink}, destinations={"odd": "somewhere"}).exit_code == 0
    assert rig.run({"odd": sink}, destinations={"odd": "somewhere"}).exit_code == 0
    assert len(sink.ids()) == 50


def test_a_checkpoint_of_before_belongs_to_the_destination_of_the_next_run(rig_of: Callable[..., Any]) -> None:
    rig = rig_of(events=120)
    assert rig.run(until=rig.now - DAY / 2).exit_code == 0
    assert progress_of(rig).destination is None
    assert run(rig).exit_code == 0
    assert progress_of(rig).destination == str(rig.root / "out")
    refused(run(rig, "elsewhere"))


def test_a_slice_delivers_to_where_its_stream_does(half: Any) -> None:
    part = Window(half.now - DAY / 2, half.now - DAY / 4)
    refused(run(half, "elsewhere", part=part))
    assert run(half, part=part).exit_code == 0
    assert run(half).exit_code == 0
    half.assert_everything_once()
    shutil.rmtree(half.root / "out")
    assert "is the disk mounted" in refused(run(half, part=Window(half.now - 3 * DAY, half.now - 2 * DAY)))


def test_the_other_sinks_go_on(half: Any, shelf: Callable[..., Any]) -> None:
    other = shelf()
    path = half.root / "elsewhere"
    sinks = {"parquet": ParquetSink(ParquetConfig(str(path))), "other": other}
    report = half.run(sinks, destinations={"parquet": str(path)})
    assert report.exit_code == ExitCode.SETTINGS
    assert len(other.ids()) == 120
