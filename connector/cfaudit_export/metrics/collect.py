"""A run's report, and the checkpoint it left -> samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime

from cfaudit_export.core.intervals import holes
from cfaudit_export.core.model import Checkpoint, Lateness, RunReport, SinkProgress, SinkReport
from cfaudit_export.errors import ExitCode
from cfaudit_export.metrics import METRICS, Sample

_METRICS = {metric.name: metric for metric in METRICS}
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
_DIGITS = 12  # of a digest: as many as a floating-point number holds
_DELIVERED = (ExitCode.OK, ExitCode.INCOMPLETE)

Labels = dict[str, str]


def collect(
    report: RunReport, checkpoint: Checkpoint | None, sign_in_ends_at: datetime | None = None, *, export: str = ""
) -> Iterator[Sample]:
    """Yield what a run measured; without a checkpoint only what the run itself knows.

    A slice counts for its stream, and says nothing of how things are there. `export` names the export, where several
    are measured beside each other.
    """
    if report.stream.slice is not None:
        whole = replace(report, stream=replace(report.stream, slice=None))
        yield from (sample for sample in collect(whole, None, export=export) if sample.metric.kind == "counter")
        return
    stream = report.stream
    of_export = {"export": export, "source": stream.source}
    labels = of_export | {"account": stream.account_id, "stream": stream.id}
    yield from _of_run(report, labels)
    for one in report.sinks:
        yield from _of_loads(one, labels | {"sink": one.name})
    if checkpoint is not None:
        yield from _of_lateness(checkpoint.lateness, labels)
        for name, progress in checkpoint.sinks.items():
            yield from _of_progress(progress, report.finished_at, labels | {"sink": name})
    if sign_in_ends_at is not None:
        yield _sample("sign_in_end.timestamp", sign_in_ends_at.timestamp(), of_export)


def collect_end(export: str, source: str, exit_code: int, at: datetime) -> Iterator[Sample]:
    """Yield how the command ended, whatever came of it."""
    labels = {"export": export, "source": source}
    yield _sample("last_end.timestamp", at.timestamp(), labels)
    yield _sample("last_end.exit_code", exit_code, labels)
    yield _success("last_good_end.timestamp", exit_code, at, labels)


def _of_run(report: RunReport, labels: Labels) -> Iterator[Sample]:
    code, ended = int(report.exit_code), report.finished_at.timestamp()
    yield _sample("runs", 1, labels | {"exit_code": str(code)})
    yield _sample("events", report.events, labels)
    yield _sample("windows", report.windows, labels)
    yield _sample("calls", report.calls, labels)
    yield _sample("retries", report.extra.get("retries", 0), labels)
    yield _sample("throttles", report.extra.get("throttles", 0), labels)
    yield _sample("waited", report.extra.get("waited_seconds", 0.0), labels)
    yield _sample("trimmed_events", report.trimmed, labels)
    yield _sample("completed_events", report.completed, labels)
    yield _sample("exit_code", code, labels)
    yield _sample("last_run.timestamp", ended, labels)
    yield _sample("last_run.duration", (report.finished_at - report.started_at).total_seconds(), labels)
    yield _success("last_success.timestamp", report.exit_code, report.finished_at, labels)
    yield _sample("gaps", len(report.gaps), labels)
    yield _sample("gap_rows", sum(gap.rows for gap in report.gaps), labels)


def _of_loads(sink: SinkReport, labels: Labels) -> Iterator[Sample]:
    yield _sample("rows", sink.rows, labels)
    yield _sample("late_rows", sink.late_rows, labels)
    yield _sample("batches", sink.batches, labels)
    yield _sample("loaded", sink.loaded_bytes, labels)
    yield _sample("refused_rows", sink.quarantined, labels)
    yield _sample("sink_failed", 1 if sink.error else 0, labels)


def _of_progress(progress: SinkProgress, now: datetime, labels: Labels) -> Iterator[Sample]:
    if progress.covered:
        until = progress.covered[-1].before
        yield _sample("covered.timestamp", until.timestamp(), labels)
        yield _sample("lag", (now - until).total_seconds(), labels)
    yield _sample("holes", len(holes(progress.covered)), labels)
    yield _sample("pending_batches", len(progress.intents), labels)
    yield _sample("quarantined_rows", progress.quarantined, labels)
    yield _sample("trimmed_rows", progress.trimmed_rows, labels)
    yield _sample("trimmed_overdue_rows", progress.overdue_rows(now), labels)
    if progress.proof.sequence:  # an anchor for those who keep metrics: not as a label, which would never be the same
        yield _sample("manifest_sequence", progress.proof.sequence, labels)
        yield _sample("manifest_digest", int(progress.proof.sha256[:_DIGITS], 16), labels)
        yield _sample("unsealed_batches", len(progress.proof.unsealed), labels)


def _of_lateness(late: Lateness, labels: Labels) -> Iterator[Sample]:
    yield _sample("late_events", late.count, labels)
    for name, share in _QUANTILES.items():
        yield _sample(f"lateness.{name}", quantile(late, share), labels)


def quantile(late: Lateness, share: float) -> float:
    """Return within how many seconds this share of the late events was seen; 0 when there were none.

    From the histogram: the upper end of the step that holds it, or the longest delay where that is less.
    """
    seen = 0
    for minutes, count in sorted(late.by_minutes.items(), key=lambda step: (step[0] < 0, step[0])):
        seen += count
        if seen >= share * late.count and 0 < minutes * 60 < late.max_seconds:
            return minutes * 60.0
    return late.max_seconds


def _success(name: str, exit_code: int, at: datetime, labels: Labels) -> Sample:
    """Tell when it last went well: now, or as before; an alert needs a value also where it never did."""
    if exit_code in _DELIVERED:
        return _sample(name, at.timestamp(), labels)
    return Sample(_METRICS[name], labels, 0, initial=True)


def _sample(name: str, value: float, labels: Labels) -> Sample:
    return Sample(_METRICS[name], labels, value)
