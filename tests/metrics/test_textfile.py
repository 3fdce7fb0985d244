from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.core.model import Checkpoint, RunReport, Stream
from cfaudit_export.errors import ExitCode
from cfaudit_export.metrics import METRICS, Sample
from cfaudit_export.metrics.collect import collect, collect_end
from cfaudit_export.metrics.textfile import write_textfile


def only(values: dict[Any, float]) -> float:
    [value] = values.values()
    return value


def sink(values: dict[Any, float], name: str) -> float:
    [value] = [value for labels, value in values.items() if ("sink", name) in labels]
    return value


def test_every_metric_is_in_the_file_with_its_help_and_type(
    tmp_path: Path, report: Callable[..., RunReport], checkpoint: Checkpoint, parsed: Any
) -> None:
    path = tmp_path / "cfaudit.prom"
    done = report(exit_code=ExitCode.OK)
    write_textfile(path, collect(done, checkpoint, done.finished_at))
    write_textfile(path, collect_end("nightly", "auditlogs", 0, done.finished_at))
    text = path.read_text()
    assert parsed(path).keys() == {metric.prometheus_name for metric in METRICS}
    for metric in METRICS:
        assert f"# HELP {metric.prometheus_name} {metric.help}\n# TYPE {metric.prometheus_name} {metric.kind}\n" in text


def test_what_a_run_did_is_in_the_file(
    tmp_path: Path, report: Callable[..., RunReport], checkpoint: Checkpoint, parsed: Any
) -> None:
    path = tmp_path / "cfaudit.prom"
    write_textfile(path, collect(report(), checkpoint))
    found = parsed(path)
    stream = report().stream
    labels = (("account", stream.account_id), ("export", ""), ("source", "auditlogs"), ("stream", stream.id))
    assert found["cfaudit_events_total"] == {labels: 1_000}
    assert found["cfaudit_runs_total"] == {(labels[0], ("exit_code", "69"), *labels[1:]): 1}
    ones = {
        "windows_total": 4,
        "calls_total": 7,
        "retries_total": 3,
        "throttles_total": 1,
        "waited_seconds_total": 12.5,
        "trimmed_events_total": 20,
        "exit_code": 69,
        "last_run_duration_seconds": 90,
        "last_run_timestamp_seconds": report().finished_at.timestamp(),
        "gaps": 1,
        "gap_rows": 3,
        "late_events": 100,
        "lateness_p50_seconds": 60,
        "lateness_p90_seconds": 300,
        "lateness_p99_seconds": 3_600,
        "lateness_max_seconds": 7_000.5,
    }
    assert {name: only(found[f"cfaudit_{name}"]) for name in ones} == ones
    assert only(found["cfaudit_last_success_timestamp_seconds"]) == 0
    parquet = {"rows_total": 900, "late_rows_total": 30, "batches_total": 2, "loaded_bytes_total": 123_456}
    parquet |= {"refused_rows_total": 5, "sink_failed": 0, "lag_seconds": 3_600, "holes": 0, "quarantined_rows": 5}
    parquet |= {"manifest_sequence": 42, "manifest_digest": 0x0123456789AB, "unsealed_batches": 0}
    assert {name: sink(found[f"cfaudit_{name}"], "parquet") for name in parquet} == parquet
    s3 = {"sink_failed": 1, "lag_seconds": 6 * 3_600, "holes": 1, "pending_batches": 1}
    assert {name: sink(found[f"cfaudit_{name}"], "s3") for name in s3} == s3
    assert {dict(labels)["sink"] for labels in found["cfaudit_lag_seconds"]} == {"parquet", "s3"}


def test_counters_go_on_and_the_last_success_stays_when_a_run_fails(
    tmp_path: Path, report: Callable[..., RunReport], checkpoint: Checkpoint, parsed: Any
) -> None:
    path = tmp_path / "cfaudit.prom"
    write_textfile(path, collect(report(exit_code=ExitCode.INCOMPLETE), checkpoint))
    first = parsed(path)
    failed = report(exit_code=ExitCode.TRY_AGAIN, sinks=(), gaps=(), events=5, extra={})
    write_textfile(path, collect(failed, None))
    second = parsed(path)
    assert only(second["cfaudit_events_total"]) == 1_005
    assert sorted(second["cfaudit_runs_total"].values()) == [1, 1]
    assert second["cfaudit_last_success_timestamp_seconds"] == first["cfaudit_last_success_timestamp_seconds"]
    assert only(second["cfaudit_exit_code"]) == 75
    assert second["cfaudit_lag_seconds"] == first["cfaudit_lag_seconds"]
    assert sink(second["cfaudit_loaded_bytes_total"], "parquet") == 123_456


def test_what_other_streams_left_stays(tmp_path: Path, report: Callable[..., RunReport], parsed: Any) -> None:
    path = tmp_path / "cfaudit.prom"
    for account in ("a" * 32, "b" * 32):
        write_textfile(path, collect(report(stream=Stream(account, "auditlogs")), None))
    assert len(parsed(path)["cfaudit_events_total"]) == 2


@pytest.mark.parametrize("name", ['quo"te', "back\\slash", "new\nline", "br}ace", "ünï", "a,b=c"])
def test_a_name_of_a_sink_survives_the_file(
    name: str, tmp_path: Path, report: Callable[..., RunReport], parsed: Any
) -> None:
    path = tmp_path / "cfaudit.prom"
    done = report(sinks=(replace(report().sinks[0], name=name),))
    for _ in range(3):
        write_textfile(path, collect(done, None))
    assert sink(parsed(path)["cfaudit_rows_total"], name) == 2_700


def test_a_reader_sees_the_old_file_or_the_new_one_and_nothing_is_left_behind(
    tmp_path: Path, report: Callable[..., RunReport]
) -> None:
    path = tmp_path / "cfaudit.prom"
    write_textfile(path, collect(report(), None))
    before = path.stat()
    write_textfile(path, collect(report(), None))
    assert path.stat().st_ino != before.st_ino
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_of_somebody_else_is_left_alone(
    tmp_path: Path, report: Callable[..., RunReport], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("do not forget the milk\n")
    write_textfile(path, collect(report(), None))
    assert path.read_text() == "do not forget the milk\n"
    [record] = caplog.records
    assert vars(record)["error"] == "it holds something else than metrics of this program"


def test_a_file_that_cannot_be_written_is_logged_and_no_error(
    tmp_path: Path, report: Callable[..., RunReport], caplog: pytest.LogCaptureFixture
) -> None:
    write_textfile(tmp_path / "missing" / "cfaudit.prom", collect(report(), None))
    [record] = caplog.records
    assert (record.message, vars(record)["error"]) == ("metrics file cannot be written", "No such file or directory")


def test_an_export_that_never_worked_is_told_with_a_zero_that_no_later_failure_brings_back(
    tmp_path: Path, parsed: Any
) -> None:
    path, name = tmp_path / "cfaudit.prom", "cfaudit_last_good_end_timestamp_seconds"
    for minute, code, good in ((0, 77, 0), (1, 0, 60), (2, 78, 60)):
        write_textfile(path, collect_end("x", "auditlogs", code, datetime.fromtimestamp(60 * minute, UTC)))
        found = parsed(path)
        assert (only(found["cfaudit_last_end_exit_code"]), only(found[name])) == (code, good)
        assert only(found["cfaudit_last_end_timestamp_seconds"]) == 60 * minute


def test_two_exports_of_one_stream_have_series_of_their_own(
    tmp_path: Path, report: Callable[..., RunReport], parsed: Any
) -> None:
    path = tmp_path / "cfaudit.prom"
    write_textfile(path, collect(report(exit_code=ExitCode.OK), None, export="files"))
    write_textfile(path, collect(report(exit_code=ExitCode.SINK_DOWN), None, export="splunk"))
    codes = {dict(labels)["export"]: value for labels, value in parsed(path)["cfaudit_exit_code"].items()}
    assert codes == {"files": 0, "splunk": 69}


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path, parsed: Any) -> None:
    path = tmp_path / "cfaudit.prom"
    labels = dict.fromkeys(METRICS[1].labels, "x")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: write_textfile(path, [Sample(METRICS[1], labels, 1)]), range(40)))
    assert only(parsed(path)["cfaudit_events_total"]) == 40


def test_what_was_written_with_other_labels_goes_from_the_file(tmp_path: Path, parsed: Any) -> None:
    path = tmp_path / "cfaudit.prom"
    path.write_text('cfaudit_last_success_timestamp_seconds{account="x",source="auditlogs",stream="s"} 5\n')
    write_textfile(path, collect_end("x", "auditlogs", 0, datetime.fromtimestamp(0, UTC)))
    assert "cfaudit_last_success_timestamp_seconds" not in parsed(path)


def test_a_metric_that_is_gone_from_the_program_goes_from_the_file(
    tmp_path: Path, report: Callable[..., RunReport], parsed: Any
) -> None:
    path = tmp_path / "cfaudit.prom"
    path.write_text('cfaudit_of_old{account="x"} 5\n')
    labels = dict.fromkeys(METRICS[1].labels, "x")
    write_textfile(path, [Sample(METRICS[1], labels, 2)])
    assert parsed(path) == {"cfaudit_events_total": {tuple(sorted(labels.items())): 2}}


def test_prometheus_own_linter_has_nothing_to_say(
    tmp_path: Path, report: Callable[..., RunReport], checkpoint: Checkpoint
) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed")
    path = tmp_path / "cfaudit.prom"
    write_textfile(path, collect(report(exit_code=ExitCode.OK), checkpoint, report().finished_at))
    done = subprocess.run(
        [promtool, "check", "metrics"], input=path.read_text(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
